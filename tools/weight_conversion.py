"""From a state dict of PyTorch's world to a checkpoint that recipes load, and back to see that nothing was lost."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path

import mindspore as ms
import mindspore.nn as nn
import numpy as np
from mindcv.models import create_model
from mindspore import Tensor

from ssd.boxes.anchors import create_anchors
from ssd.checkpoints.loading import load_backbone, load_weights, quiet, read_checkpoint
from ssd.checkpoints.metadata import METADATA_KEY
from ssd.errors import UserError
from ssd.models.detector import SSD
from torch_files import StateDict
from weight_names import MINDCV_CLASSIFIER, Form, backbone_forms, ssd300_form

# What SSD300's weights stand on and their shapes do not show.
SSD300 = {
    "neck": "convs",
    "head": "plain",
    "loss": "multibox",
    "backbone_max_stride": 8,
    "backbone_padding": "torch",
    "anchors": "default",
    "image_size": (300, 300),
    "steps": (8, 16, 32, 64, 100, 300),
    "box_sizes": (21, 45, 99, 153, 207, 261, 315),
    "aspect_ratios": ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    "clip_default_boxes": True,
    "prior_scaling": (0.1, 0.2),
}
SSD300_BLOCKS = ((2, True), (2, True), (2, True), (1, False), (1, False))  # of the 3x3 convolutions
SSD300_RECIPE = "examples/det/ssd/ssd_resnet50.yaml"


@dataclasses.dataclass(frozen=True)
class Target:
    """What is to be filled, a recipe's detector or its backbone. shapes: {our name: shape}; epsilons: {our name of a
    moving variance: what its BatchNorm adds}; forms: state dicts that it can be filled from"""

    shapes: dict[str, tuple[int, ...]]
    epsilons: dict[str, float]
    forms: list[Form]


@dataclasses.dataclass(frozen=True)
class Match:
    """values: {our name: array}; shifts: {our name: what was added}; left_out: {reason: names there};
    unknown: names there that have no place here; missing: our names that got no value; misfits: what is wrong with
    arrays whose shape or type is not that of their place"""

    form: Form
    values: dict[str, np.ndarray]
    shifts: dict[str, float]
    left_out: dict[str, list[str]]
    unknown: list[str]
    missing: list[str]
    misfits: list[str]


def is_detector(state: StateDict) -> bool:
    """Whether these are weights of an SSD, not of a classification network."""
    return any(name.startswith(("feature_extractor.", "additional_blocks.")) for name in state.arrays)


def refuse_other_recipe(cfg) -> None:
    """Raises UserError if the detector of a recipe computes something else than SSD300. cfg: Config"""
    blocks = tuple((layer.stride, layer.pad) for layer in cfg.extra_layers)
    got = {**{key: getattr(cfg, key) for key in SSD300}, "(stride, pad) of extra_layers": blocks}
    for key, expected in {**SSD300, "(stride, pad) of extra_layers": SSD300_BLOCKS}.items():
        if got[key] != expected:
            raise UserError(
                f"{key}: got {got[key]!r}, expected {expected!r} for these weights; take --config {SSD300_RECIPE}"
            )
    if not cfg.backbone.startswith("resnet"):
        raise UserError(f"backbone: got {cfg.backbone!r}, expected a resnet; take --config {SSD300_RECIPE}")


def detector_target(cfg, net: SSD) -> Target:
    """All of a recipe's detector. cfg: Config, of SSD300; net: its detector"""
    return _target(net, [ssd300_form(net.parameters_dict(), cfg.num_classes, create_anchors(cfg).num_per_location)])


def backbone_target(cfg) -> Target:
    """The whole of a recipe's MindCV model but its classifier, so that the file serves all recipes with that backbone.

    Raises UserError if nothing is known of that model in PyTorch.
    """
    model = create_model(cfg.backbone)
    return _target(model, backbone_forms(cfg.backbone, model.parameters_dict()))


def _target(net: nn.Cell, forms: list[Form]) -> Target:
    parameters = net.parameters_dict().items()
    shapes = {name: value.shape for name, value in parameters if not name.startswith(MINDCV_CLASSIFIER)}
    norms = [cell for _, cell in net.cells_and_names() if isinstance(cell, nn.BatchNorm2d)]
    return Target(shapes, {norm.moving_variance.name: norm.eps for norm in norms}, forms)


def match(state: StateDict, target: Target) -> Match:
    """Give every array its place, or the reason why it has none."""
    form = max(target.forms, key=lambda form: len(form.names.keys() & state.arrays.keys()))
    found = Match(form, {}, {}, {}, [], [], [])
    for name, array in state.arrays.items():
        reason = next((reason for pattern, reason in form.left_out if re.search(pattern, name)), None)
        if name in form.names:
            _place(name, array, target, found)
        elif reason is not None:
            found.left_out.setdefault(reason, []).append(name)
        else:
            found.unknown.append(name)
    if state.beside:
        found.left_out["state of training beside the weights"] = state.beside
    placed = {form.names[name] for name in state.arrays if name in form.names}
    found.missing.extend(name for name in target.shapes if name not in placed)
    return found


def _place(name: str, array: np.ndarray, target: Target, found: Match) -> None:
    ours = found.form.names[name]
    expected = target.shapes[ours]
    if array.shape != expected or array.dtype != np.float32:
        found.misfits.append(f"{name}: got {array.dtype} of shape {array.shape}, expected float32 of {expected}")
        return
    epsilon = target.epsilons.get(ours, found.form.epsilon)
    if epsilon != found.form.epsilon:
        found.shifts[ours] = found.form.epsilon - epsilon
    found.values[ours] = _forward(array, found.form.orders.get(ours), found.shifts.get(ours, 0.0))


def _forward(array: np.ndarray, order: list[int] | None, shift: float) -> np.ndarray:
    array = array if order is None else array[order]
    # In float64, so that the sum is rounded once.
    return np.ascontiguousarray((array.astype(np.float64) + shift).astype(np.float32) if shift else array)


def _backward(array: np.ndarray, order: list[int] | None, shift: float) -> np.ndarray:
    if shift:
        array = (array.astype(np.float64) - shift).astype(np.float32)
    if order is None:
        return array
    back = np.empty_like(array)
    back[order] = array
    return back


def write(found: Match, state: StateDict, net: SSD, path: Path, meaning: dict) -> None:
    """Write a checkpoint aside, read it, compare it with the source, load it into `net`, and rename it to `path`.

    meaning: of the recipe's detector, by model_metadata, kept in the file if it is a whole one

    Raises UserError if any of that fails; nothing is at `path` then that was not there before.
    """
    aside = path.with_name(f".unfinished-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with quiet():
            content = [{"name": name, "data": Tensor(value)} for name, value in found.values.items()]
            words = {METADATA_KEY: json.dumps(meaning)} if is_detector(state) else None
            ms.save_checkpoint(content, str(aside), append_dict=words, crc_check=True)
        check_back(found, state, aside)
        (load_weights if is_detector(state) else load_backbone)(net, aside)
        os.replace(aside, path)
    except (OSError, RuntimeError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error).splitlines()[0]
        raise UserError(
            f"{path}: got {reason.lower()} while writing, expected a folder with room for it; write elsewhere"
        ) from None
    finally:
        for left in (aside, aside.with_suffix(".tmp")):  # MindSpore writes to the latter first
            left.unlink(missing_ok=True)


def check_back(found: Match, state: StateDict, path: Path) -> None:
    """Map a written checkpoint back and compare it with its source, bit for bit.

    Where something was added, to the rounding of float32. Raises UserError on a difference.
    """
    content = read_checkpoint(path)
    stored = {name: value.asnumpy() for name, value in content.items() if name != METADATA_KEY}
    theirs = {ours: name for name, ours in found.form.names.items() if name in state.arrays}
    different = [name for name in theirs if name not in stored] + [name for name in stored if name not in theirs]
    for name in theirs.keys() & stored.keys():
        shift = found.shifts.get(name, 0.0)
        back, source = _backward(stored[name], found.form.orders.get(name), shift), state.arrays[theirs[name]]
        rounding = np.spacing(stored[name]) if shift else 0.0
        same = back.shape == source.shape and back.dtype == source.dtype
        if not same or not (np.abs(back - source) <= rounding if shift else _bits(back) == _bits(source)).all():
            different.append(name)
    if different:
        raise UserError(
            f"{path}: got other values for {len(different)} parameters when it was read again, {different[0]!r} first, "
            "expected those that were written; check the disk"
        )


def _bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).view(np.uint32)
