"""Convert a PyTorch state dict into a MindSpore checkpoint, and verify the checkpoint against the state dict."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import mindspore as ms
import mindspore.nn as nn
import numpy as np
from mindcv.models import create_model
from mindspore import Tensor

from ssd.boxes.anchors import create_anchors
from ssd.checkpoints.loading import load_backbone, load_weights
from ssd.checkpoints.reading import read_checkpoint
from ssd.checkpoints.records import METADATA_KEY
from ssd.errors import UserError
from ssd.models.detector import SSD
from ssd.runtime.atomic_write import replace_file
from ssd.runtime.log import silence_mindspore_log

from .detectors import SourceDetector
from .parameter_names import MINDCV_CLASSIFIER_PREFIX, StateDictFormat, backbone_formats
from .state_dict import StateDict

if TYPE_CHECKING:
    from ssd.config.schema import Config


@dataclasses.dataclass(frozen=True)
class Target:
    """Parameters of a MindSpore detector or backbone that a conversion fills.

    shapes: {MindSpore parameter name: shape} of all parameters to fill
    epsilons: {MindSpore name of a moving variance: epsilon of the same BatchNorm layer}
    formats: formats of PyTorch state dicts that contain the parameters of the network
    """

    shapes: dict[str, tuple[int, ...]]
    epsilons: dict[str, float]
    formats: list[StateDictFormat]


@dataclasses.dataclass
class Conversion:
    """Converted parameters of a state dict, and the names of all unmatched parameters.

    format: format of the state dict
    values: {MindSpore parameter name: converted array}
    variance_shifts: {MindSpore name of a moving variance: number added to the variance}; the shift compensates the
        different epsilon of BatchNorm in PyTorch
    ignored: {reason: PyTorch names that are not converted for this reason}
    unexpected: PyTorch names without a matching MindSpore parameter
    missing: MindSpore parameter names without a matching PyTorch name
    mismatched: a message for each array whose shape or dtype differs from its MindSpore parameter
    """

    format: StateDictFormat
    values: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    variance_shifts: dict[str, float] = dataclasses.field(default_factory=dict)
    ignored: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    unexpected: list[str] = dataclasses.field(default_factory=list)
    missing: list[str] = dataclasses.field(default_factory=list)
    mismatched: list[str] = dataclasses.field(default_factory=list)


def detector_target(cfg: Config, net: SSD, source: SourceDetector) -> Target:
    """Return the conversion target for a whole detector.

    cfg: Config of a recipe that `check_recipe` has accepted for the source
    net: detector of the recipe
    source: detector of another project with the same network
    """
    names, num_anchors_per_location = net.parameters_dict(), create_anchors(cfg).num_per_location
    return _create_target(net, [source.create_format(names, cfg.num_classes, num_anchors_per_location)])


def backbone_target(cfg: Config) -> Target:
    """Return the conversion target for the backbone of a recipe.

    The target contains all layers of the MindCV model except its classifier, so that the checkpoint fits every recipe
    with that backbone.
    Raises UserError if the PyTorch parameter names of the backbone are unknown.
    """
    model = create_model(cfg.backbone)
    return _create_target(model, backbone_formats(cfg.backbone, model.parameters_dict()))


def _create_target(net: nn.Cell, formats: list[StateDictFormat]) -> Target:
    """Return the target with the parameter shapes and BatchNorm epsilons of a network, without its classifier."""
    parameters = net.parameters_dict().items()
    batch_norms = [cell for _, cell in net.cells_and_names() if isinstance(cell, nn.BatchNorm2d)]
    return Target(
        shapes={name: value.shape for name, value in parameters if not name.startswith(MINDCV_CLASSIFIER_PREFIX)},
        epsilons={batch_norm.moving_variance.name: batch_norm.eps for batch_norm in batch_norms},
        formats=formats,
    )


def convert(state_dict: StateDict, target: Target) -> Conversion:
    """Convert a state dict to the parameters of a MindSpore network, and collect the names of unmatched parameters.

    state_dict: PyTorch weights
    target: parameters of the MindSpore network
    Uses the format of the target that has the most parameter names in common with the state dict.
    """
    arrays = state_dict.arrays
    best_format = max(target.formats, key=lambda candidate: len(candidate.mindspore_names.keys() & arrays.keys()))
    conversion = Conversion(best_format)
    filled = set()
    for torch_name, array in arrays.items():
        if torch_name in best_format.mindspore_names:
            name = best_format.mindspore_names[torch_name]
            filled.add(name)
            expected = target.shapes[name]
            if array.shape == expected and array.dtype == np.float32:
                epsilon = target.epsilons.get(name, best_format.batch_norm_epsilon)
                if epsilon != best_format.batch_norm_epsilon:
                    conversion.variance_shifts[name] = best_format.batch_norm_epsilon - epsilon
                conversion.values[name] = _to_mindspore(name, array, conversion)
            else:
                conversion.mismatched.append(
                    f"{torch_name}: got {array.dtype} of shape {array.shape}, expected float32 of shape {expected}"
                )
            continue
        reason = next((reason for regex, reason in best_format.ignored if re.search(regex, torch_name)), None)
        if reason is None:
            conversion.unexpected.append(torch_name)
        else:
            conversion.ignored.setdefault(reason, []).append(torch_name)
    if state_dict.other_keys:
        conversion.ignored["training state, which detectors do not use"] = state_dict.other_keys
    conversion.missing = [name for name in target.shapes if name not in filled]
    return conversion


def _to_mindspore(name: str, array: np.ndarray, conversion: Conversion) -> np.ndarray:
    """Convert a PyTorch array to the value of a MindSpore parameter.

    Channels are reordered. Variances of BatchNorm are corrected for the epsilon of the MindSpore layer.

    name: MindSpore parameter name
    array: PyTorch array
    conversion: conversion with the channel orders and the corrections of the variances
    """
    order, shift = conversion.format.channel_orders.get(name), conversion.variance_shifts.get(name, 0.0)
    if order is not None:
        array = array[order]
    if shift:
        array = (array.astype(np.float64) + shift).astype(np.float32)  # add in float64 to round only once
    return np.ascontiguousarray(array)


def _to_pytorch(name: str, array: np.ndarray, conversion: Conversion) -> np.ndarray:
    """Convert the value of a MindSpore parameter back to the PyTorch array: restore channel order and variances.

    name: MindSpore parameter name
    array: value of the MindSpore parameter
    conversion: conversion with the channel orders and the corrections of the variances
    """
    order, shift = conversion.format.channel_orders.get(name), conversion.variance_shifts.get(name, 0.0)
    if shift:
        array = (array.astype(np.float64) - shift).astype(np.float32)
    if order is None:
        return array
    restored = np.empty_like(array)
    restored[order] = array
    return restored


def write_checkpoint(
    conversion: Conversion, state_dict: StateDict, net: SSD, path: Path, metadata: dict | None
) -> None:
    """Write a temporary checkpoint, verify the checkpoint, load it into `net`, and rename it to `path`.

    conversion: converted parameters
    state_dict: PyTorch weights, for the verification
    net: detector of the recipe, into which the checkpoint is loaded as a test
    path: path of the checkpoint
    metadata: metadata to store in the checkpoint of a whole detector; None for a backbone
    Raises UserError if writing, verification or loading fails. In this case, `path` does not change.
    """
    content = [{"name": name, "data": Tensor(value)} for name, value in conversion.values.items()]
    entries = None if metadata is None else {METADATA_KEY: json.dumps(metadata)}
    load = load_backbone if metadata is None else load_weights
    try:
        with replace_file(path) as unfinished:
            with silence_mindspore_log():
                ms.save_checkpoint(content, str(unfinished), append_dict=entries, crc_check=True)
            verify_checkpoint(conversion, state_dict, unfinished)
            load(net, unfinished)
    except (OSError, RuntimeError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error).splitlines()[0]
        raise UserError(
            f"{path}: the checkpoint cannot be written ({reason}). Free disk space, or set --output to another folder."
        ) from None


def verify_checkpoint(conversion: Conversion, state_dict: StateDict, path: Path) -> None:
    """Read a written checkpoint, convert its parameters back to PyTorch arrays, and compare these with the state dict.

    conversion: converted parameters
    state_dict: PyTorch weights
    path: path of the checkpoint
    Parameters must be equal bit for bit, except that shifted variances may differ by float32 rounding.
    Raises UserError if a parameter differs or is missing.
    """
    content = read_checkpoint(path)
    stored = {name: value.asnumpy() for name, value in content.items() if name != METADATA_KEY}
    source = {
        name: state_dict.arrays[torch_name]
        for torch_name, name in conversion.format.mindspore_names.items()
        if torch_name in state_dict.arrays
    }
    changed = [name for name in source if name not in stored] + [name for name in stored if name not in source]
    for name in source.keys() & stored.keys():
        restored, expected = _to_pytorch(name, stored[name], conversion), source[name]
        if restored.shape != expected.shape or restored.dtype != expected.dtype:
            changed.append(name)
        elif name in conversion.variance_shifts:
            if not (np.abs(restored - expected) <= np.spacing(stored[name])).all():
                changed.append(name)
        elif not np.array_equal(_bits(restored), _bits(expected)):
            changed.append(name)
    if changed:
        raise UserError(
            f"{path}: {changed[0]!r} read back from the checkpoint differs from the state dict (number of differing "
            f"parameters: {len(changed)}). Set --output to a path on another disk."
        )


def _bits(array: np.ndarray) -> np.ndarray:
    """View float32 values as uint32, so that a comparison is bit for bit even for NaN and -0.0."""
    return np.ascontiguousarray(array).view(np.uint32)
