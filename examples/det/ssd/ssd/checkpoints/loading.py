"""Checkpoints: MindCV's names mapped to ours, and nothing loaded or left out in silence."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
from pathlib import Path

import mindspore as ms
import mindspore.nn as nn
from mindspore import Parameter

from ..errors import UserError
from ..models.head import predictor_parameter_names
from .metadata import OF_ANCHORS, OF_CLASSES, differences, read_metadata, refuse_mismatch

# Names of MindCV's examples/det/ssd and what the same parameter is called here, in the order they are tried.
_NORM_OR_CONV = r"(?:features\.)?"  # the example wraps convolution and BatchNorm in a cell of that name, or does not
MINDCV_NAMES = [
    (r"^backbone_wrapper\.backbone\.", "backbone.features."),
    (r"^backbone_wrapper\.feature1_expand_layer\." + _NORM_OR_CONV, "neck.expand.0."),
    (r"^backbone_wrapper\.multi_residual\.(\d+)\.conv\.(\d+)\." + _NORM_OR_CONV, r"neck.extras.\1.conv.\2."),
    (r"^backbone_wrapper\.fpn\.lateral_convs_list\.", "neck.lateral."),
    (r"^backbone_wrapper\.fpn\.fpn_convs_list\.(\d+)\." + _NORM_OR_CONV, r"neck.output.\1."),
    (r"^backbone_wrapper\.bottom_up\.blocks\.(\d+)\." + _NORM_OR_CONV, r"neck.downsample.\1."),
    (r"^multi_box\.multi_loc_layers\.", "head.box."),
    (r"^multi_box\.multi_cls_layers\.", "head.cls."),
    (r"^multi_box\.addition_layer_loc\.(\d+)\.(\d+)\." + _NORM_OR_CONV, r"head.box_tower.\1.\2."),
    (r"^multi_box\.addition_layer_cls\.(\d+)\.(\d+)\." + _NORM_OR_CONV, r"head.cls_tower.\1.\2."),
    (r"^multi_box\.loc_layers\.0\.", "head.box."),
    (r"^multi_box\.cls_layers\.0\.", "head.cls."),
]
# What training leaves in a checkpoint beside the network: state of the optimiser and of the training step.
NON_WEIGHT_NAMES = re.compile(
    r"^(moments\..*|momentum|learning_rate|global_step|current_iterator_step|last_overflow_iterator_step|"
    r"scale_sense|updates|skipped_updates|steps_since_bad_loss|accumulated\..*|accumulated_batches|"
    r"epoch_num|step_num|training_state|evaluation|meaning)$"
)
AVERAGED = "ema."  # before the names of averaged weights
STATE_KEY, EVALUATION_KEY = "training_state", "evaluation"  # of TrainingState, and of what best.ckpt is best at; JSON
BEST_NAME, LAST_NAME = "best.ckpt", "last.ckpt"


def load_weights(net: nn.Cell, path, averaged: bool = True, meaning: dict | None = None) -> None:
    """Load a detector's weights, ours or those of MindCV's example, into `net`.

    averaged: take the averaged weights of a file that has them, instead of the others; meaning: of what `net` gives
    out, by model_metadata, to refuse a file that says another
    State of training in the file is passed over. Every other parameter of the file must find its place in `net`, and
    every parameter of `net` its value; else nothing is loaded. Raises UserError.
    """
    content = read_checkpoint(path)
    if meaning is not None:
        refuse_mismatch(meaning, read_metadata(content), path)
    found, wanted = _weights(content, averaged), net.parameters_dict()
    _refuse_difference(found, wanted, path)
    _copy(found, wanted, path, net.head.num_classes)


def load_pretrained(net: nn.Cell, path, averaged: bool, meaning: dict) -> list[str]:
    """Load a detector trained on other classes into `net` -> names of the parameters that are left as they were.

    Those are the class predictors, unless the file says that its classes are the same and mean the same, and both kinds
    of predictors if it has other anchors. All else must fit as in load_weights. averaged, meaning: as there. Raises
    UserError.
    """
    content = read_checkpoint(path)
    found, wanted = _weights(content, averaged), net.parameters_dict()
    there = read_metadata(content)
    of_boxes, of_classes = predictor_parameter_names(net.head)
    has_other_anchors = not set(OF_ANCHORS).isdisjoint(differences(meaning, there)) or any(
        name in found and found[name].shape != wanted[name].shape for name in of_boxes
    )
    is_same = meaning["classes"] and there and all(there.get(key) == meaning[key] for key in OF_CLASSES)
    fresh = [*of_boxes, *of_classes] if has_other_anchors else [] if is_same else of_classes
    for name in fresh:
        found.pop(name, None)
        wanted.pop(name)
    _refuse_difference(found, wanted, path)
    _copy(found, wanted, path, net.head.num_classes)
    return fresh


def load_backbone(net: nn.Cell, path) -> None:
    """Load ImageNet weights into a detector's backbone from a checkpoint of the MindCV model that it is.

    The file may hold more of the same model, its classifier; it must fill every parameter of the backbone, and hold
    nothing of another model. Raises UserError.
    """
    prefix = "backbone.features.net."
    wanted = {name: value for name, value in net.parameters_dict().items() if name.startswith(prefix)}
    content = read_checkpoint(path)
    found = {}
    for name in wanted:
        # MindCV's feature extractor flattens sequences: `features.3.conv` becomes `features_3.conv`.
        plain = re.sub(r"^features_(\d+)\.", r"features.\1.", name[len(prefix) :])
        if plain in content:
            found[name] = content[plain]
    missing = sorted(set(wanted) - set(found))
    foreign = sorted(name for name in set(content) - net.backbone.model_names if not NON_WEIGHT_NAMES.match(name))
    if foreign and not missing:
        raise UserError(
            f"backbone_ckpt_path: {path}: got {foreign[0]!r}, expected nothing that the recipe's backbone does not "
            "have; use a checkpoint of that model"
        )
    if missing:
        raise UserError(
            f"backbone_ckpt_path: {path}: got no value for {len(missing)} of {len(wanted)} backbone parameters, "
            f"{missing[0]!r} first, expected a checkpoint of the recipe's backbone; "
            "use that file, or an empty path to train from scratch"
        )
    _copy(found, wanted, path, net.head.num_classes)


def read_checkpoint(path) -> dict[str, Parameter]:
    """{name: parameter} of a checkpoint file. Raises UserError if it is missing or not one."""
    if not Path(path).is_file():
        raise UserError(f"{path}: got no such file, expected a checkpoint; check the path")
    try:
        with quiet():
            return ms.load_checkpoint(str(path), crc_check=True)  # where the file has checksums, as ours do
    except (ValueError, RuntimeError):
        raise UserError(
            f"{path}: got a file that is cut off, damaged or no checkpoint, expected a whole MindSpore checkpoint; "
            "use another"
        ) from None


def save_checkpoint(net: nn.Cell, path: Path, words: dict[str, str] | None = None) -> None:
    """Write all parameters of `net`, with checksums, aside and rename, so that `path` is never half a file.

    words: kept beside them, by name. Raises UserError if the file cannot be written; what was there is still there.
    """
    aside = path.with_name(f".unfinished-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with quiet():
            ms.save_checkpoint(net, str(aside), append_dict=words, crc_check=True)
        with open(aside, "rb") as file:
            os.fsync(file.fileno())  # a rename may reach the disk before what it names
        os.replace(aside, path)
    except (OSError, RuntimeError) as error:
        for path_aside in (aside, aside.with_suffix(".tmp")):  # MindSpore writes to the latter first
            path_aside.unlink(missing_ok=True)
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error).splitlines()[0]
        raise UserError(
            f"{path}: got {reason.lower()} while writing, expected room for a checkpoint; earlier checkpoints are "
            "whole: free some space and go on with --resume"
        ) from None


def link_checkpoint(path: Path, name: str) -> None:
    """Make a checkpoint known by another name in its folder, too, without a second copy where links can be made."""
    aside = path.with_name(f".unfinished-{name}")
    aside.unlink(missing_ok=True)
    try:
        os.link(path, aside)
    except OSError:  # a file system without links
        shutil.copyfile(path, aside)
    os.replace(aside, path.with_name(name))


@contextlib.contextmanager
def quiet():
    """Without MindSpore's own log of an error that we put in words."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def choose_checkpoint(cfg) -> Path:
    """The checkpoint of a detector that a recipe means: ckpt_path, else the best or newest in ckpt_save_dir.

    cfg: Config. Raises UserError if there is none.
    """
    path = Path(cfg.ckpt_path) if cfg.ckpt_path else find_checkpoint(Path(cfg.ckpt_save_dir))
    if path is None:
        raise UserError(
            f"ckpt_path: got nothing, and no checkpoint in {cfg.ckpt_save_dir}, expected a detector; "
            "train one or set --ckpt_path"
        )
    return path


def find_checkpoint(folder: Path) -> Path | None:
    """The best checkpoint in a folder that train.py wrote, else that of its last epoch, else the last, else None."""
    if (folder / BEST_NAME).is_file():
        return folder / BEST_NAME
    newest = max(folder.glob("ssd-*.ckpt"), key=lambda path: path.stat().st_mtime_ns, default=None)
    return newest or (folder / LAST_NAME if (folder / LAST_NAME).is_file() else None)


def _weights(content: dict[str, Parameter], averaged: bool) -> dict[str, Parameter]:
    """A detector's {our name: value} of what is in a checkpoint. averaged: as in load_weights"""
    content = {name: value for name, value in content.items() if not NON_WEIGHT_NAMES.match(name)}
    found = {}
    for name, value in content.items():
        raw = name.removeprefix(AVERAGED)
        is_average = raw != name and raw in content
        if not is_average:
            found[_our_name(name)] = content.get(AVERAGED + name, value) if averaged else value
    return found


def _our_name(name: str) -> str:
    for pattern, replacement in MINDCV_NAMES:
        renamed, count = re.subn(pattern, replacement, name)
        if count:
            return renamed
    return name


def _refuse_difference(found: dict, wanted: dict, path) -> None:
    unplaced, unfilled = sorted(set(found) - set(wanted)), sorted(set(wanted) - set(found))
    if unplaced or unfilled:
        parts = [
            f"{len(names)} {what}, {names[0]!r} first"
            for names, what in ((unplaced, "it alone has"), (unfilled, "it lacks"))
            if names
        ]
        raise UserError(
            f"{path}: got other parameters than the recipe's detector ({'; '.join(parts)}), expected the same; "
            "use the recipe it was trained with"
        )


def _copy(found: dict, wanted: dict, path, num_classes: int) -> None:
    for name, value in found.items():
        got, expected = tuple(value.shape), tuple(wanted[name].shape)
        if got != expected:
            advice = "use the recipe it was trained with"
            # A class predictor has as many channels as anchors times classes.
            if name.startswith("head.cls.") and got[1:] == expected[1:] and got[0] * num_classes % expected[0] == 0:
                advice = (
                    f"it was trained on other classes, {got[0] * num_classes // expected[0]} with background instead "
                    f"of {num_classes}: set --data_dir to their data, or --classes to their names, background first"
                )
            raise UserError(f"{path}: {name}: got shape {got}, expected {expected}; {advice}")
    for name, value in found.items():
        wanted[name].set_data(value.astype(wanted[name].dtype) if value.dtype != wanted[name].dtype else value)
