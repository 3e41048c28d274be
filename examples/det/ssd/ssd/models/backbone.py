"""Backbones: MindCV classification networks as feature extractors."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from typing import NamedTuple

import mindspore.nn as nn
from mindcv.models import create_model, is_model, list_models
from mindcv.models.features import FeatureExtractWrapper
from mindspore import Tensor, ops
from mindspore.graph._parse import compile_config

from ..errors import UserError
from .expansion_taps import ExpansionTaps

# MindCV's ResNet adds shortcuts with `out += identity`. By default, MindSpore 2.10 compiles `+=` to a primitive that
# writes into its first input, which is not a variable in MindSpore's GE backend for Ascend. "0" compiles to Add.
compile_config.JIT_ENABLE_AUGASSIGN_INPLACE = "0"


class Backbone(nn.Cell):
    """Feature extractor that returns feature maps of a MindCV model, from fine to coarse.

    Stages after the last selected map are removed from the model.

    channels: number of channels of each map
    strides: distance between neighboring locations of each map in input pixels
    model_parameter_names: names of all parameters of the complete MindCV model, as in its checkpoints
    asymmetric_layers: names of the strided layers that pad only the bottom and right of inputs with even sides
    """

    def __init__(
        self,
        name: str,
        out_indices: Sequence[int],
        max_stride: int | None = None,
        padding: str = "mindcv",
        taps: str = "output",
    ):
        """Build a MindCV model, and select its feature maps.

        name: name of the MindCV model
        out_indices: increasing indices of the feature maps that the backbone returns
        max_stride: largest stride of a map in input pixels; later stages get stride 1. None keeps all strides.
        padding: "torch" pads both sides in strided layers, as PyTorch models do; "mindcv" keeps MindCV's padding
        taps: "output" for the outputs of the stages; "expansion" for maps from `ExpansionTaps`
        Raises UserError if MindCV does not have the model, or if the model does not have the maps or the stride.
        """
        super().__init__()
        if not is_model(name):
            similar = difflib.get_close_matches(name, list_models(), n=5) or ["resnet50"]
            raise UserError(f"backbone: {name!r} is not a MindCV model. Choose a model such as {', '.join(similar)}.")
        model = create_model(name)
        self.model_parameter_names = frozenset(model.parameters_dict())
        feature_info = getattr(model, "feature_info", None)
        if feature_info is None:
            raise UserError(f"backbone: MindCV cannot extract feature maps from {name!r}. Choose another model.")
        last = len(feature_info) - 1
        if list(out_indices) != sorted(set(out_indices)) or not 0 <= out_indices[0] <= out_indices[-1] <= last:
            raise UserError(
                f"backbone_out_indices: {list(out_indices)} is not an increasing list of indices from 0 to {last}. "
                "Correct the list."
            )
        self.channels = [feature_info[index]["chs"] for index in out_indices]
        self.strides = [min(feature_info[index]["reduction"], max_stride or math.inf) for index in out_indices]
        if max_stride is not None:
            _limit_stride(model, feature_info, max_stride)
        if padding == "torch":
            _pad_symmetrically(model)
        self.asymmetric_layers = [found.full_name for found in _find_asymmetric_layers(model)]
        if taps == "expansion":
            self.features = ExpansionTaps(model, out_indices)
            self.channels = self.features.channels
        else:
            self.features = FeatureExtractWrapper(model, out_indices=list(out_indices))

    def construct(self, image: Tensor) -> list[Tensor]:
        """Extract the feature maps of a batch of images.

        image: (B, 3, H, W) float32 RGB, normalized
        Returns a list of maps, (B, channels[i], ceil(H / strides[i]), ceil(W / strides[i])) each.
        """
        return self.features(image)


def _limit_stride(model: nn.Cell, feature_info: Sequence[dict], max_stride: int) -> None:
    """Set the stride of convolutions to 1 in all stages whose maps have a stride above max_stride.

    The weights keep their shapes, so published weights can still be loaded.

    model: MindCV model, which is changed in place
    feature_info: MindCV's list of the stages of the model; "name" and "reduction" are the name and stride of a stage
    max_stride: largest stride of a map in input pixels
    Raises UserError if max_stride is not a stride of the model, or if a stage has no strided convolution.
    """
    strides = sorted({level["reduction"] for level in feature_info})
    if max_stride not in strides:
        raise UserError(
            f"backbone_max_stride: {max_stride} is not a stride of the backbone. Choose a stride from {strides}, or "
            "remove backbone_max_stride."
        )
    cells = dict(model.cells_and_names())
    for previous, level in zip(feature_info, feature_info[1:]):
        if level["reduction"] <= max_stride:
            continue
        stage = [cell for _, cell in cells[level["name"]].cells_and_names()] if level["name"] in cells else []
        strided = [cell for cell in stage if isinstance(cell, nn.Conv2d) and cell.stride != (1, 1)]
        if level["reduction"] > previous["reduction"] and not strided:  # a pooling layer has the stride
            raise UserError(
                f"backbone_max_stride: {max_stride} cannot be applied, because the stage {level['name']!r} of the "
                "backbone has no strided convolution. Remove backbone_max_stride, or choose another backbone such as "
                "resnet50."
            )
        for convolution in strided:
            _rebuild_convolution(convolution, stride=(1, 1))


class _LayerInParent(NamedTuple):
    """A layer of a model, together with the parent cell that has the layer as an attribute."""

    parent_name: str
    parent: nn.Cell
    name: str
    layer: nn.Cell

    @property
    def full_name(self) -> str:
        return f"{self.parent_name}.{self.name}" if self.parent_name else self.name


def _find_asymmetric_layers(model: nn.Cell) -> list[_LayerInParent]:
    """Return the strided layers of a model that pad only the bottom and right of inputs with even sides.

    These layers are convolutions and max pooling layers with padding "same". Layers with even kernels are
    excluded, because PyTorch models do not pad such layers. Layers with 1x1 kernels are excluded, because 1x1 kernels
    need no padding.
    """
    return [
        _LayerInParent(parent_name, parent, name=name, layer=layer)
        for parent_name, parent in model.cells_and_names()
        for name, layer in parent.name_cells().items()
        if isinstance(layer, (nn.Conv2d, nn.MaxPool2d)) and layer.pad_mode.lower() == "same"
        if _pair(layer.stride) != (1, 1) and all(side % 2 for side in _pair(layer.kernel_size))
        if _pair(layer.kernel_size) != (1, 1)
    ]


def _pad_symmetrically(model: nn.Cell) -> None:
    """Change the asymmetric layers of a model so that both sides get the same padding.

    The feature maps keep their sizes, and shift by up to one input pixel.
    """
    for found in _find_asymmetric_layers(model):
        layer = found.layer
        height, width = _pair(layer.kernel_size)
        if isinstance(layer, nn.Conv2d):
            padding = (height // 2, height // 2, width // 2, width // 2)
            _rebuild_convolution(layer, pad_mode="pad", padding=padding)
        else:
            if _follows_relu(found):
                pool: nn.Cell = _PaddedMaxPool((height, width), layer.stride)
            else:
                pool = nn.MaxPool2d((height, width), layer.stride, pad_mode="pad", padding=(height // 2, width // 2))
            setattr(found.parent, found.name, pool)


def _follows_relu(found: _LayerInParent) -> bool:
    """Return True if the layer before `found` in the parent cell is a ReLU. MindCV lists layers in execution order."""
    layers = list(found.parent.name_cells().values())
    position = layers.index(found.layer)
    return position > 0 and isinstance(layers[position - 1], (nn.ReLU, nn.ReLU6))


class _PaddedMaxPool(nn.Cell):
    """Max pooling of non-negative maps, with the same zero padding on opposite sides.

    The result equals that of `nn.MaxPool2d(pad_mode="pad")`, which an Ascend NPU computes on its AI CPU.

    kernel_size: odd (height, width) of the kernel
    """

    def __init__(self, kernel_size: tuple[int, int], stride: int | tuple[int, int]):
        super().__init__()
        height, width = kernel_size
        self.pad = nn.Pad(((0, 0), (0, 0), (height // 2, height // 2), (width // 2, width // 2)))
        self.pool = nn.MaxPool2d(kernel_size, stride)

    def construct(self, x: Tensor) -> Tensor:
        """Compute the maximum of each window.

        x: (B, C, H, W), not negative
        Returns (B, C, ceil(H / stride), ceil(W / stride)).
        """
        return self.pool(self.pad(x))


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def _rebuild_convolution(
    convolution: nn.Conv2d,
    stride: tuple[int, int] | None = None,
    pad_mode: str | None = None,
    padding: tuple[int, int, int, int] | None = None,
) -> None:
    """Change attributes of a convolution, and rebuild its operator, because the operator has copied the attributes.

    stride: new stride; None keeps the stride
    pad_mode: new padding mode; None keeps the mode
    padding: new padding in pixels (top, bottom, left, right); None keeps the padding
    """
    convolution.stride = stride or convolution.stride
    convolution.pad_mode = pad_mode or convolution.pad_mode
    convolution.padding = padding or convolution.padding
    convolution.conv2d = ops.Conv2D(
        out_channel=convolution.out_channels,
        kernel_size=convolution.kernel_size,
        pad_mode=convolution.pad_mode,
        pad=convolution.padding,
        stride=convolution.stride,
        dilation=convolution.dilation,
        group=convolution.group,
    )
