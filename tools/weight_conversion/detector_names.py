"""Map PyTorch parameter names of the detectors of NVIDIA and uvipen to MindSpore names, and describe channel orders.

This module imports neither PyTorch nor MindSpore.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .parameter_names import BATCH_COUNTERS, StateDictFormat, last_part, torch_name, torchvision_modules

# {child of torchvision's ResNet: index of the child in NVIDIA's SSD300}. NVIDIA wraps the children in a Sequential,
# which uses indices instead of names. Indices 2 and 3 are ReLU and max pooling, which have no parameters.
NVIDIA_RESNET_CHILDREN = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6"}

NVIDIA_BACKBONE = "feature_extractor.feature_extractor"
# uvipen's SSDLite creates predictors for seven levels, and uses six of them.
UNREACHED_PREDICTORS = r"^(loc|conf)\.6\."


def ssd300_format(
    parameter_names: Iterable[str], num_classes: int, num_anchors_per_location: Sequence[int]
) -> StateDictFormat:
    """Return the format of SSD300 state dicts from NVIDIA's DeepLearningExamples and from uvipen/SSD-pytorch.

    parameter_names: names of the MindSpore detector's parameters
    num_classes: number of classes, including the background
    num_anchors_per_location: number of anchors at each location, for each feature level
    """
    names = list(parameter_names)
    backbone_names = {}
    for name in _without_prefix(names, "backbone.features.net."):
        child, _, rest = name.partition(".")
        module = f"{NVIDIA_BACKBONE}.{NVIDIA_RESNET_CHILDREN[child]}.{rest.replace('down_sample', 'downsample')}"
        backbone_names[torch_name(module)] = f"backbone.features.net.{name}"
    return StateDictFormat(
        "SSD300 by NVIDIA or uvipen",
        {**backbone_names, **_neck_and_head_names(names)},
        channel_orders=_predictor_channel_orders(names, num_classes, num_anchors_per_location),
    )


def ssdlite_format(
    parameter_names: Iterable[str], num_classes: int, num_anchors_per_location: Sequence[int]
) -> StateDictFormat:
    """Return the format of SSDLite state dicts from uvipen/SSD-pytorch.

    parameter_names: names of the MindSpore detector's parameters, in the order of the network
    num_classes: number of classes, including the background
    num_anchors_per_location: number of anchors at each location, for each feature level
    """
    names = list(parameter_names)
    # MindCV's feature extractor has renamed features.0 to features_0.
    features = {
        name.replace("features_", "features.", 1): f"backbone.features.net.{name}"
        for name in _without_prefix(names, "backbone.features.net.")
    }
    backbone_names = {
        torch_name(f"{NVIDIA_BACKBONE}.{module.removeprefix('features.')}.{last_part(name)}"): features[name]
        for module, name in torchvision_modules(list(features), is_v3=False)
    }
    return StateDictFormat(
        "SSDLite by uvipen",
        {**backbone_names, **_neck_and_head_names(names)},
        ignored=(BATCH_COUNTERS, (UNREACHED_PREDICTORS, "predictors of a seventh level, which SSDLite does not have")),
        channel_orders=_predictor_channel_orders(names, num_classes, num_anchors_per_location),
    )


def _without_prefix(names: Sequence[str], prefix: str) -> list[str]:
    """Return the names that start with a prefix, without the prefix."""
    return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]


def _neck_and_head_names(names: Sequence[str]) -> dict[str, str]:
    """Return {PyTorch name: MindSpore name} of the neck's and head's parameters in the detectors of NVIDIA and uvipen.

    names: names of the MindSpore detector's parameters
    """
    modules = {"neck.extras.": "additional_blocks.", "head.box.": "loc.", "head.cls.": "conf."}
    return {
        torch_name(torch_prefix + name.removeprefix(prefix)): name
        for name in names
        for prefix, torch_prefix in modules.items()
        if name.startswith(prefix)
    }


def _predictor_channel_orders(
    names: Sequence[str], num_classes: int, num_anchors_per_location: Sequence[int]
) -> dict[str, list[int]]:
    """Return {MindSpore name: PyTorch channel of each output channel} of the prediction layers.

    The prediction layer is the last convolution of a branch. The layers before it have no order of anchors.

    names: names of the MindSpore detector's parameters
    num_classes: number of classes, including the background
    num_anchors_per_location: number of anchors at each location, for each feature level
    """
    orders = {}
    for name in names:
        found = re.fullmatch(r"head\.(box|cls)\.(\d+)\.(3\.)?(weight|bias)", name)
        if not found:
            continue
        anchors = nvidia_anchor_order(num_anchors_per_location[int(found[2])])
        # The order of box offsets is (cx, cy, w, h) in PyTorch and (cy, cx, h, w) in MindSpore.
        values = (1, 0, 3, 2) if found[1] == "box" else range(num_classes)
        # PyTorch's channels contain the first value of all anchors, then the second value of all anchors, and so on.
        # MindSpore's channels contain all values of the first anchor, then all values of the second anchor.
        orders[name] = [value * len(anchors) + anchor for anchor in anchors for value in values]
    return orders


def nvidia_anchor_order(num_anchors: int) -> list[int]:
    """Return the index in the anchor order of NVIDIA and uvipen for each anchor at a location, in our order.

    num_anchors: number of anchors at a location
    The order of this project is the small square, (wide, tall) for each aspect ratio, and the large square. NVIDIA's
    order is the small square, the large square, and (wide, tall) for each aspect ratio.
    """
    return [0, *range(2, num_anchors), 1]
