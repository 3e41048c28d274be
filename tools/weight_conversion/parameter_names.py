"""Map PyTorch parameter names to MindSpore names, and describe differences in channel order and BatchNorm epsilon.

This module imports neither PyTorch nor MindSpore. The PyTorch names are computed from the ordered MindSpore names of a
network. The mapping is therefore valid for every width and depth of a model family.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence

from ssd.errors import UserError

# {MindSpore name: PyTorch name} of the parameters of a BatchNorm layer.
TORCH_BATCH_NORM_NAMES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# Number of blocks in each stage, because timm's parameter names contain the index of a block within its stage.
TIMM_STAGES = {
    "mobilenet_v2": (1, 2, 3, 4, 3, 3, 1),
    "mobilenet_v3_large": (1, 2, 3, 4, 2, 3),
    "mobilenet_v3_small": (1, 2, 3, 2, 3),
}
MINDCV_CLASSIFIER_PREFIX = "classifier."
# PyTorch names without a MindSpore counterpart: (regular expression of the names, reason).
BATCH_COUNTERS = (r"(^|\.)num_batches_tracked$", "batch counters, which MindSpore does not have")
CLASSIFIER = (r"^(fc|classifier)\.", "the classifier, which detectors do not have")


@dataclasses.dataclass(frozen=True)
class StateDictFormat:
    """Parameter names and conventions of the state dicts of one network in one PyTorch library.

    source: name of the library and the network, for messages
    mindspore_names: {PyTorch parameter name: MindSpore parameter name}
    ignored: pairs (regular expression of PyTorch names, reason) for names without a MindSpore counterpart
    batch_norm_epsilon: epsilon of the BatchNorm layers in PyTorch
    channel_orders: {MindSpore parameter name: list of PyTorch channel indices, one for each output channel}
    note: warning about differences that parameter names cannot reveal; "" for no warning
    """

    source: str
    mindspore_names: dict[str, str]
    ignored: Sequence[tuple[str, str]] = (BATCH_COUNTERS,)
    batch_norm_epsilon: float = 1e-5
    channel_orders: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    note: str = ""


def backbone_formats(backbone: str, parameter_names: Iterable[str]) -> list[StateDictFormat]:
    """Return the formats of PyTorch state dicts that can be converted for a MindCV backbone.

    backbone: name of the MindCV model
    parameter_names: names of the MindCV model's parameters, in the order of the network
    Raises UserError if the PyTorch parameter names of the model are unknown.
    """
    names = [name for name in parameter_names if not name.startswith(MINDCV_CLASSIFIER_PREFIX)]
    ignored = (BATCH_COUNTERS, CLASSIFIER)
    if backbone.startswith(("resnet", "resnext")):
        mindspore_names = {torch_name(name.replace("down_sample", "downsample")): name for name in names}
        return [StateDictFormat(f"torchvision's or timm's {backbone}", mindspore_names, ignored)]
    family = next((family for family in TIMM_STAGES if backbone.startswith(family)), None)
    if family is None:
        raise UserError(
            f"backbone: the PyTorch parameter names of {backbone!r} are unknown. Set backbone to a resnet, resnext, "
            "mobilenet_v2 or mobilenet_v3, or use a MindCV checkpoint without conversion."
        )
    is_v3 = family != "mobilenet_v2"
    torchvision_names, timm_names = (
        {torch_name(f"{module}.{last_part(name)}"): name for module, name in modules}
        for modules in (torchvision_modules(names, is_v3), _timm_modules(names, TIMM_STAGES[family], is_v3))
    )
    if not is_v3:
        return [
            StateDictFormat("torchvision's mobilenet_v2", torchvision_names, ignored),
            StateDictFormat("timm's mobilenetv2", timm_names, ignored),
        ]
    # In timm's MobileNetV3, conv_head follows the global pooling, so conv_head is part of the classifier.
    timm_ignored = (*ignored, (r"^conv_head\.", CLASSIFIER[1]))
    return [
        StateDictFormat(f"torchvision's {family}", torchvision_names, ignored, batch_norm_epsilon=1e-3),
        StateDictFormat(
            f"timm's {family.replace('_v', 'v')}",
            timm_names,
            timm_ignored,
            note="timm's tf_mobilenetv3 models have the same parameter names, but a different epsilon and padding. If "
            "these are weights of a tf_mobilenetv3 model, the features will be wrong.",
        ),
    ]


def torch_name(name: str) -> str:
    """Replace the last part of a BatchNorm parameter name by the PyTorch name, such as gamma by weight."""
    module, _, parameter = name.rpartition(".")
    return f"{module}.{TORCH_BATCH_NORM_NAMES.get(parameter, parameter)}"


def last_part(name: str) -> str:
    """Return the part of a parameter name after the last dot."""
    return name.rpartition(".")[2]


def _is_convolution(name: str) -> bool:
    """Return True for the name of a convolution's weight, False for the name of a BatchNorm parameter."""
    return last_part(name) == "weight"


def _split_mobilenet(names: list[str]) -> tuple[list[str], list[list[list[str]]], list[str]]:
    """Group the parameter names of a MobileNet by layer, in the order of the network.

    names: MindSpore parameter names without the classifier
    A layer is a convolution with its BatchNorm, or a squeeze-and-excitation module.
    Returns (names of the first layer, names of each layer of each block, names of the last layer).
    """
    outside: list[str] = []
    blocks: dict[str, list[list[str]]] = {}
    for name in names:
        inside = re.match(r"features\.(\d+)\.layers\.(\d+)\.", name)
        if not inside:
            outside.append(name)
            continue
        layers = blocks.setdefault(inside[1], [])
        if "conv_expand" not in name and _is_convolution(name):  # the first parameter of a layer
            layers.append([])
        layers[-1].append(name)
    half = len(outside) // 2  # the first and the last layer have the same number of parameters
    return outside[:half], list(blocks.values()), outside[half:]


def torchvision_modules(names: list[str], is_v3: bool) -> Iterator[tuple[str, str]]:
    """Yield (name of the torchvision module, MindSpore parameter name) for each parameter of a MobileNet.

    names: MindSpore parameter names without the classifier
    is_v3: True for MobileNetV3, False for MobileNetV2
    """
    first_layer, blocks, last_layer = _split_mobilenet(names)
    for module, layer in ((0, first_layer), (len(blocks) + 1, last_layer)):
        for name in layer:
            yield f"features.{module}.{0 if _is_convolution(name) else 1}", name
    for block, layers in enumerate(blocks, start=1):
        for index, layer in enumerate(layers):
            for name in layer:
                if "conv_reduce" in name or "conv_expand" in name:
                    yield f"features.{block}.block.{index}.{'fc1' if 'conv_reduce' in name else 'fc2'}", name
                elif is_v3:
                    yield f"features.{block}.block.{index}.{0 if _is_convolution(name) else 1}", name
                elif index < len(layers) - 1:
                    yield f"features.{block}.conv.{index}.{0 if _is_convolution(name) else 1}", name
                else:  # torchvision's V2 does not wrap the last convolution and its BatchNorm in a module
                    yield f"features.{block}.conv.{index if _is_convolution(name) else index + 1}", name


def _timm_modules(names: list[str], blocks_per_stage: Sequence[int], is_v3: bool) -> Iterator[tuple[str, str]]:
    """Yield (name of the timm module, MindSpore parameter name) for each parameter of a MobileNet.

    names: MindSpore parameter names without the classifier
    blocks_per_stage: number of blocks in each stage
    is_v3: True for MobileNetV3, False for MobileNetV2
    """
    first_layer, blocks, last_layer = _split_mobilenet(names)
    for name in first_layer:
        yield "conv_stem" if _is_convolution(name) else "bn1", name
    for name in last_layer:
        if is_v3:
            yield f"blocks.{len(blocks_per_stage)}.0.{'conv' if _is_convolution(name) else 'bn1'}", name
        else:
            yield "conv_head" if _is_convolution(name) else "bn2", name
    prefixes = [f"blocks.{stage}.{index}" for stage, count in enumerate(blocks_per_stage) for index in range(count)]
    for prefix, layers in zip(prefixes, blocks, strict=True):
        convolutions = [layer for layer in layers if not any("conv_reduce" in name for name in layer)]
        modules = ("conv_dw", "conv_pw") if len(convolutions) == 2 else ("conv_pw", "conv_dw", "conv_pwl")
        for layer in layers:
            for name in layer:
                if layer not in convolutions:
                    yield f"{prefix}.se.{'conv_reduce' if 'conv_reduce' in name else 'conv_expand'}", name
                else:
                    index = convolutions.index(layer)
                    yield f"{prefix}.{modules[index] if _is_convolution(name) else f'bn{index + 1}'}", name
