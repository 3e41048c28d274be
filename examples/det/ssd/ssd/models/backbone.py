"""MindCV classification networks as feature extractors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import mindspore.nn as nn
from mindcv.models import create_model, is_model, list_models
from mindcv.models.features import FeatureExtractWrapper
from mindspore import Tensor, ops

from ..errors import UserError


class Backbone(nn.Cell):
    """The feature maps of a MindCV model at `out_indices`, from fine to coarse, with what they are.

    `.channels` and `.strides` (input pixels between locations) have an entry for each map; `.model_names` are those of
    all parameters of the whole model, as they stand in its checkpoints. Stages behind the last map are left out.
    max_stride: stages that would lead to more input pixels between locations have stride 1 instead; None for all as
    they are. padding: "torch" lets strided layers pad both sides alike, as PyTorch's models do, "mindcv" leaves them as
    they are; `.one_sided` names those that do not. Raises UserError if MindCV has no such model, or the model has no
    such maps or stride.
    """

    def __init__(self, name: str, out_indices: Sequence[int], max_stride: int | None = None, padding: str = "mindcv"):
        super().__init__()
        if not is_model(name):
            family = name.split("_")[0]
            raise UserError(
                f"backbone: got {name!r}, expected a MindCV model such as "
                f"{', '.join(list_models(f'{family}*')[:5] or ['resnet50'])}"
            )
        model = create_model(name)
        self.model_names = frozenset(model.parameters_dict())
        levels = getattr(model, "feature_info", None)
        if levels is None:
            raise UserError(f"backbone: got {name!r}, expected a MindCV model that can extract features")
        if list(out_indices) != sorted(set(out_indices)) or not 0 <= out_indices[0] <= out_indices[-1] < len(levels):
            raise UserError(
                f"backbone_out_indices: got {list(out_indices)}, expected rising indices from 0 to {len(levels) - 1}"
            )
        self.channels = [levels[index]["chs"] for index in out_indices]
        self.strides = [min(levels[index]["reduction"], max_stride or math.inf) for index in out_indices]
        if max_stride is not None:
            _limit_stride(model, levels, max_stride)
        if padding == "torch":
            _pad_both_sides(model)
        self.one_sided = [".".join(filter(None, [outer, inner])) for outer, _, inner, _ in _one_sided_layers(model)]
        self.features = FeatureExtractWrapper(model, out_indices=list(out_indices))

    def construct(self, image: Tensor) -> list[Tensor]:
        """image: (B, 3, H, W) -> maps (B, channels[i], ⌈H/strides[i]⌉, ⌈W/strides[i]⌉)"""
        return self.features(image)


def _limit_stride(model: nn.Cell, levels: Sequence[dict], max_stride: int) -> None:
    """Give stride 1 to the convolutions of the stages whose maps would have a larger stride than max_stride.

    levels: the model's feature_info. Weights keep their shapes, so published ones load. Raises UserError.
    """
    if max_stride not in [level["reduction"] for level in levels]:
        strides = sorted({level["reduction"] for level in levels})
        raise UserError(f"backbone_max_stride: got {max_stride}, expected one of the backbone's strides, {strides}")
    cells = dict(model.cells_and_names())
    for before, level in zip(levels, levels[1:]):
        if level["reduction"] <= max_stride:
            continue
        stage = [cell for _, cell in cells[level["name"]].cells_and_names()] if level["name"] in cells else []
        strided = [cell for cell in stage if isinstance(cell, nn.Conv2d) and cell.stride != (1, 1)]
        if level["reduction"] > before["reduction"] and not strided:  # it has its stride elsewhere, in a pooling
            raise UserError(
                f"backbone_max_stride: got {max_stride} for a backbone whose stages have no strided convolutions of "
                "their own, expected one such as resnet50; remove the key or take another backbone"
            )
        for convolution in strided:
            _set(convolution, stride=(1, 1))


def _one_sided_layers(model: nn.Cell) -> list[tuple[str, nn.Cell, str, nn.Cell]]:
    """(name of the cell around it, that cell, name in it, layer) of strided convolutions and max poolings with "same".

    On an even side "same" pads the end alone. Even kernels are left out: PyTorch's models do not pad them.
    """
    return [
        (outer, around, inner, layer)
        for outer, around in model.cells_and_names()
        for inner, layer in around.name_cells().items()
        if isinstance(layer, (nn.Conv2d, nn.MaxPool2d)) and layer.pad_mode.lower() == "same"
        if _pair(layer.stride) != (1, 1) and all(side % 2 for side in _pair(layer.kernel_size))
        if _pair(layer.kernel_size) != (1, 1)  # needs no padding
    ]


def _pad_both_sides(model: nn.Cell) -> None:
    """Let all such layers pad both sides alike: their maps keep their sizes, and look a pixel further to the start."""
    for _, around, inner, layer in _one_sided_layers(model):
        high, wide = _pair(layer.kernel_size)
        if isinstance(layer, nn.Conv2d):
            _set(layer, pad_mode="pad", padding=(high // 2, high // 2, wide // 2, wide // 2))
        else:
            pool = nn.MaxPool2d((high, wide), layer.stride, pad_mode="pad", padding=(high // 2, wide // 2))
            setattr(around, inner, pool)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def _set(convolution: nn.Conv2d, **settings) -> None:
    """Change a convolution that is already built. settings: its attributes of that name"""
    for name, value in settings.items():
        setattr(convolution, name, value)
    convolution.conv2d = ops.Conv2D(
        out_channel=convolution.out_channels,
        kernel_size=convolution.kernel_size,
        pad_mode=convolution.pad_mode,
        pad=convolution.padding,
        stride=convolution.stride,
        dilation=convolution.dilation,
        group=convolution.group,
    )
