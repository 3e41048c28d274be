"""What PyTorch's models call the parameters of ours, and what else differs: channel orders, BatchNorm's epsilon.

Names alone: neither PyTorch nor MindSpore is needed. The tables follow from our own parameters, in their order, so that
they hold for every width and depth of a family.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

from ssd.errors import UserError

BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
# timm numbers blocks within stages: how many each has.
TIMM_STAGES = {
    "mobilenet_v2": (1, 2, 3, 4, 3, 3, 1),
    "mobilenet_v3_large": (1, 2, 3, 4, 2, 3),
    "mobilenet_v3_small": (1, 2, 3, 2, 3),
}
MINDCV_CLASSIFIER = "classifier."
# What a state dict may have besides, and why it is left out.
COUNTERS = (r"(^|\.)num_batches_tracked$", "batch counters, which MindSpore does not keep")
CLASSIFIER = (r"^(fc|classifier)\.", "the classifier, which detectors do not have")
# NVIDIA's SSD300 numbers the children of torchvision's ResNet, among them activation and pooling.
RESNET_CHILDREN = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6"}


@dataclasses.dataclass(frozen=True)
class Form:
    """A kind of state dict.

    name: whose; names: {name there: our name}; epsilon: of BatchNorm there; orders: {our name: for each output channel
    of ours, which one it is there}; left_out: (pattern of names there, reason) of what has no place here
    note: what names cannot tell, or ""
    """

    name: str
    names: dict[str, str]
    left_out: Sequence[tuple[str, str]] = (COUNTERS,)
    epsilon: float = 1e-5
    orders: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    note: str = ""


def backbone_forms(backbone: str, parameters: Iterable[str]) -> list[Form]:
    """The state dicts that a MindCV model can be filled from. parameters: its names, in order. Raises UserError."""
    ours = [name for name in parameters if not name.startswith(MINDCV_CLASSIFIER)]
    if backbone.startswith(("resnet", "resnext")):
        names = {_torch_name(name.replace("down_sample", "downsample")): name for name in ours}
        return [Form(f"torchvision's or timm's {backbone}", names, (COUNTERS, CLASSIFIER))]
    family = next((family for family in TIMM_STAGES if backbone.startswith(family)), None)
    if family is None:
        raise UserError(
            f"backbone: got {backbone!r}, expected a resnet, resnext, mobilenet_v2 or mobilenet_v3, whose names are "
            "known; use a checkpoint of MindCV's"
        )
    third = family != "mobilenet_v2"
    pairs = _torchvision_names(ours, third), _timm_names(ours, TIMM_STAGES[family], third)
    torchvision, timm = ({_torch_name(f"{module}.{_last(name)}"): name for module, name in one} for one in pairs)
    if not third:
        return [
            Form("torchvision's mobilenet_v2", torchvision, (COUNTERS, CLASSIFIER)),
            Form("timm's mobilenetv2", timm, (COUNTERS, CLASSIFIER)),
        ]
    head = (r"^conv_head\.", CLASSIFIER[1])  # in timm's MobileNetV3 it comes after the pooling
    note = "timm's tf_mobilenetv3 has these names, too, with another epsilon and padding: such weights do not fit"
    return [
        Form(f"torchvision's {family}", torchvision, (COUNTERS, CLASSIFIER), epsilon=1e-3),
        Form(f"timm's {family.replace('_v', 'v')}", timm, (COUNTERS, CLASSIFIER, head), note=note),
    ]


def ssd300_form(parameters: Iterable[str], num_classes: int, num_per_location: Sequence[int]) -> Form:
    """SSD300 of NVIDIA's DeepLearningExamples and of uvipen/SSD-pytorch, which share all names and orders.

    parameters: of our detector; num_classes: K; num_per_location: default boxes at a location of each level
    """
    names, orders = {}, {}
    for name in parameters:
        part, _, rest = name.partition(".")
        if part == "backbone":
            child, _, rest = rest.removeprefix("features.net.").partition(".")
            theirs = f"feature_extractor.feature_extractor.{RESNET_CHILDREN[child]}.{rest}"
            names[_torch_name(theirs.replace("down_sample", "downsample"))] = name
        elif part == "neck":
            names[_torch_name(f"additional_blocks.{rest.removeprefix('extras.')}")] = name
        else:
            kind, level, last = rest.split(".")
            names[f"{'loc' if kind == 'box' else 'conf'}.{level}.{last}"] = name
            boxes = ssd300_boxes(num_per_location[int(level)])
            # They have cx, cy, w, h where we have cy, cx, h, w.
            values = (1, 0, 3, 2) if kind == "box" else range(num_classes)
            # Their channels are all boxes' first value, then all boxes' second; ours all values of the first box, …
            orders[name] = [value * len(boxes) + box for box in boxes for value in values]
    return Form("SSD300 of NVIDIA or uvipen", names, orders=orders)


def ssd300_boxes(count: int) -> list[int]:
    """For each default box of ours at a location, which one of theirs it is.

    Ours: the square, pairs of each ratio (wide, tall), the larger square. Theirs: both squares, then the pairs.
    """
    return [0, *range(2, count), 1]


def _torch_name(name: str) -> str:
    module, _, last = name.rpartition(".")
    return f"{module}.{BATCH_NORM.get(last, last)}"


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _blocks(ours: list[str]) -> tuple[list[str], list[list[list[str]]]]:
    """MobileNet's parameters in order: those outside of blocks, and for each block its layers, each a list of names.

    A layer is a convolution with its BatchNorm, or a squeeze-and-excitation.
    """
    outside, blocks = [], {}
    for name in ours:
        place = re.match(r"features\.(\d+)\.layers\.(\d+)\.", name)
        if not place:
            outside.append(name)
            continue
        layers = blocks.setdefault(place[1], [])
        if "conv_expand" not in name and _last(name) == "weight":  # each layer's first
            layers.append([])
        layers[-1].append(name)
    return outside, list(blocks.values())


def _is_convolution(name: str) -> bool:
    return _last(name) == "weight"


def _torchvision_names(ours: list[str], third: bool) -> Iterable[tuple[str, str]]:
    """(module, our name) in torchvision's MobileNetV2 or, if `third`, V3."""
    outside, blocks = _blocks(ours)
    for index, name in enumerate(outside):
        module = 0 if index < len(outside) // 2 else len(blocks) + 1
        yield f"features.{module}.{0 if _is_convolution(name) else 1}", name
    for block, layers in enumerate(blocks, start=1):
        for index, layer in enumerate(layers):
            for name in layer:
                if "conv_reduce" in name or "conv_expand" in name:
                    yield f"features.{block}.block.{index}.{'fc1' if 'conv_reduce' in name else 'fc2'}", name
                elif third:
                    yield f"features.{block}.block.{index}.{0 if _is_convolution(name) else 1}", name
                elif index < len(layers) - 1:
                    yield f"features.{block}.conv.{index}.{0 if _is_convolution(name) else 1}", name
                else:  # V2 does not wrap the last pair
                    yield f"features.{block}.conv.{index if _is_convolution(name) else index + 1}", name


def _timm_names(ours: list[str], stages: Sequence[int], third: bool) -> Iterable[tuple[str, str]]:
    """(module, our name) in timm's MobileNetV2 or, if `third`, V3. stages: blocks of each"""
    outside, blocks = _blocks(ours)
    last = (f"blocks.{len(stages)}.0.conv", f"blocks.{len(stages)}.0.bn1") if third else ("conv_head", "bn2")
    for index, name in enumerate(outside):
        convolution, norm = ("conv_stem", "bn1") if index < len(outside) // 2 else last
        yield convolution if _is_convolution(name) else norm, name
    places = [f"blocks.{stage}.{index}" for stage, count in enumerate(stages) for index in range(count)]
    for place, layers in zip(places, blocks, strict=True):
        pairs = [layer for layer in layers if not any("conv_reduce" in name for name in layer)]
        roles = ("conv_dw", "conv_pw") if len(pairs) == 2 else ("conv_pw", "conv_dw", "conv_pwl")
        for layer in layers:
            for name in layer:
                if layer not in pairs:
                    yield f"{place}.se.{'conv_reduce' if 'conv_reduce' in name else 'conv_expand'}", name
                else:
                    index = pairs.index(layer)
                    yield f"{place}.{roles[index] if _is_convolution(name) else f'bn{index + 1}'}", name
