"""Load weights into a detector. Parameter names of MindCV are translated, and unmatched parameters raise UserError."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import mindspore.nn as nn
from mindspore import Parameter

from ..errors import UserError
from ..models.head import predictor_parameter_names
from .metadata import REQUIRED_GROUPS, Metadata, find_mismatches, read_metadata, refuse_mismatch
from .parameter_names import EMA_PREFIX, NON_WEIGHT_NAMES, translate_name
from .reading import read_checkpoint


def load_weights(net: nn.Cell, path: str | Path, *, use_ema: bool = True, metadata: Metadata | None = None) -> None:
    """Load the weights of a checkpoint into a detector.

    The checkpoint may be from this project or from MindCV's example. The weights in the file must match all parameters
    of the detector; otherwise nothing is loaded. Training state in the file is ignored.

    net: detector
    path: path of the checkpoint
    use_ema: whether to load the averaged (EMA) weights if the file contains averaged weights
    metadata: metadata of the recipe, whose REQUIRED_GROUPS must match the checkpoint; None skips the comparison
    Raises UserError if the file is missing, damaged or not finite, or if metadata, parameter names or shapes do not
    match.
    """
    content = read_checkpoint(path)
    if metadata is not None:
        refuse_mismatch({group: metadata[group] for group in REQUIRED_GROUPS}, read_metadata(path), path)
    weights, parameters = _select_weights(content, use_ema), net.parameters_dict()
    _refuse_unmatched(weights, parameters, path)
    _assign(weights, parameters, path=path, num_classes=net.head.num_classes)


def load_pretrained(net: nn.Cell, path: str | Path, *, use_ema: bool, metadata: Metadata) -> list[str]:
    """Load the weights of a detector that may have been trained on other classes or with other anchors.

    The class predictors are loaded only if the checkpoint was trained with the same class names and the same
    classification loss. If the anchors differ, neither box predictors nor class predictors are loaded. The remaining
    weights in the file must match the parameters of the detector.

    net: detector
    path: path of the checkpoint
    use_ema: whether to load the averaged (EMA) weights if the file contains averaged weights
    metadata: metadata of the recipe
    Returns the names of the skipped parameters, which keep their values.
    Raises UserError if the file is missing or damaged, or if names or shapes of the remaining parameters do not match.
    """
    content = read_checkpoint(path)
    stored = read_metadata(path)
    weights, parameters = _select_weights(content, use_ema), net.parameters_dict()
    box_names, class_names = predictor_parameter_names(net.head)
    has_other_anchors = bool(find_mismatches(metadata, stored, groups=("anchors",))) or any(
        name in weights and weights[name].shape != parameters[name].shape for name in box_names
    )
    has_same_classes = stored is not None and stored["classes"] == metadata["classes"]
    has_same_classes &= metadata["classes"]["classes"] is not None
    if has_other_anchors:
        skipped = [*box_names, *class_names]
    else:
        skipped = [] if has_same_classes else class_names
    for name in skipped:
        weights.pop(name, None)
        parameters.pop(name)
    _refuse_unmatched(weights, parameters, path)
    _assign(weights, parameters, path=path, num_classes=net.head.num_classes)
    return skipped


def load_backbone(net: nn.Cell, path: str | Path) -> None:
    """Load ImageNet weights from a checkpoint of a MindCV model into the backbone of a detector.

    The checkpoint must contain all parameters of the backbone. Training state and MindCV's classifier are ignored.

    net: detector
    path: path of the checkpoint
    Raises UserError if the file is missing or damaged, or if parameter names or shapes do not match.
    """
    if not Path(path).is_file():
        advice = "the checkpoint was not found. Download it (docs/weights.md), or set an empty path."
        raise UserError(f"backbone_ckpt_path: {path}: {advice}")
    prefix = "backbone.features.net."
    parameters = {name: value for name, value in net.parameters_dict().items() if name.startswith(prefix)}
    content = read_checkpoint(path)
    weights = {}
    for name in parameters:
        # MindCV's feature extractor flattens sequences: `features.3.conv` becomes `features_3.conv`.
        model_name = re.sub(r"^features_(\d+)\.", r"features.\1.", name[len(prefix) :])
        if model_name in content:
            weights[name] = content[model_name]
    missing = sorted(set(parameters) - set(weights))
    unknown = set(content) - net.backbone.model_parameter_names
    foreign = sorted(name for name in unknown if not NON_WEIGHT_NAMES.match(name))
    if foreign and not missing:
        raise UserError(
            f"backbone_ckpt_path: {path}: the checkpoint contains {foreign[0]!r}, which is not a parameter of the "
            "recipe's backbone. Use a checkpoint of the recipe's backbone."
        )
    if missing:
        raise UserError(
            f"backbone_ckpt_path: {path}: the checkpoint lacks {len(missing)} of the {len(parameters)} backbone "
            f"parameters; the first is {missing[0]!r}. Use a checkpoint of the recipe's backbone, or set an empty path "
            "to train from scratch."
        )
    _assign(weights, parameters, path=path, num_classes=net.head.num_classes)


def _select_weights(content: dict[str, Any], use_ema: bool) -> dict[str, Parameter]:
    """Select the weights from the content of a checkpoint, and translate names of MindCV's example.

    content: {name: value} of the checkpoint
    use_ema: whether to select the averaged (EMA) weights if the file contains averaged weights
    Returns {parameter name in this project: value}.
    """
    content = {name: value for name, value in content.items() if not NON_WEIGHT_NAMES.match(name)}
    weights = {}
    for name, value in content.items():
        plain_name = name.removeprefix(EMA_PREFIX)
        is_average = plain_name != name and plain_name in content
        if not is_average:
            weights[translate_name(name)] = content.get(EMA_PREFIX + name, value) if use_ema else value
    return weights


def _refuse_unmatched(weights: dict[str, Parameter], parameters: dict[str, Parameter], path: str | Path) -> None:
    """Raise UserError if a checkpoint lacks parameters of a detector or contains unknown parameters."""
    parts = []
    for names, fault in ((set(weights) - set(parameters), "unknown"), (set(parameters) - set(weights), "missing")):
        if names:
            parts.append(f"{fault} parameters: {len(names)}, for example {min(names)!r}")
    if parts:
        raise UserError(
            f"{path}: the checkpoint does not match the recipe's detector ({'; '.join(parts)}). "
            "Use the recipe with which the checkpoint was trained."
        )


def _assign(
    weights: dict[str, Parameter], parameters: dict[str, Parameter], *, path: str | Path, num_classes: int
) -> None:
    """Copy weights into the parameters of a detector. If a shape differs, no parameter is changed.

    weights: {name: value} from the checkpoint
    parameters: {name: parameter} of the detector
    path: path of the checkpoint
    num_classes: number of classes of the detector, background included
    Raises UserError if a shape differs.
    """
    for name, value in weights.items():
        shape, expected = tuple(value.shape), tuple(parameters[name].shape)
        if shape != expected:
            advice = "Use the recipe with which the checkpoint was trained."
            # The number of output channels of a class predictor is the product of anchors and classes.
            is_class_predictor = name.startswith("head.cls.") and shape[1:] == expected[1:]
            if is_class_predictor and shape[0] * num_classes % expected[0] == 0:
                advice = (
                    f"The checkpoint was trained on {shape[0] * num_classes // expected[0]} classes, background "
                    f"included, but the detector has {num_classes}. Set --data_dir to the training data of the "
                    "checkpoint, or --classes '[background, …]' to the class names of that data."
                )
            raise UserError(f"{path}: {name}: got shape {shape}, expected {expected}. {advice}")
    for name, value in weights.items():
        dtype = parameters[name].dtype
        parameters[name].set_data(value.astype(dtype) if value.dtype != dtype else value)
