"""Load and save checkpoints: MindCV's parameter names are mapped to ours, and nothing is dropped in silence."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mindspore as ms
import mindspore.nn as nn
from mindspore import Parameter

from ..errors import UserError
from ..models.head import predictor_parameter_names
from ..runtime.atomic_write import replace_file
from .metadata import Metadata, find_mismatches, read_metadata, refuse_mismatch

# Parameter names of MindCV's examples/det/ssd, as patterns in the order they are tried, and our names for them.
_OPTIONAL_FEATURES = r"(?:features\.)?"  # the example wraps some convolutions and BatchNorms in a cell of that name
MINDCV_NAMES = [
    (r"^backbone_wrapper\.backbone\.", "backbone.features."),
    (r"^backbone_wrapper\.feature1_expand_layer\." + _OPTIONAL_FEATURES, "neck.expand.0."),
    (r"^backbone_wrapper\.multi_residual\.(\d+)\.conv\.(\d+)\." + _OPTIONAL_FEATURES, r"neck.extras.\1.conv.\2."),
    (r"^backbone_wrapper\.fpn\.lateral_convs_list\.", "neck.lateral."),
    (r"^backbone_wrapper\.fpn\.fpn_convs_list\.(\d+)\." + _OPTIONAL_FEATURES, r"neck.output.\1."),
    (r"^backbone_wrapper\.bottom_up\.blocks\.(\d+)\." + _OPTIONAL_FEATURES, r"neck.downsample.\1."),
    (r"^multi_box\.multi_loc_layers\.", "head.box."),
    (r"^multi_box\.multi_cls_layers\.", "head.cls."),
    (r"^multi_box\.addition_layer_loc\.(\d+)\.(\d+)\." + _OPTIONAL_FEATURES, r"head.box_tower.\1.\2."),
    (r"^multi_box\.addition_layer_cls\.(\d+)\.(\d+)\." + _OPTIONAL_FEATURES, r"head.cls_tower.\1.\2."),
    (r"^multi_box\.loc_layers\.0\.", "head.box."),
    (r"^multi_box\.cls_layers\.0\.", "head.cls."),
]
# Entries of a checkpoint that are no weights: state of the optimizer and the training step, and JSON records.
NON_WEIGHT_NAMES = re.compile(
    r"^(moments\..*|momentum|learning_rate|global_step|current_iterator_step|last_overflow_iterator_step|"
    r"scale_sense|updates|skipped_updates|steps_since_(bad|non_finite)_loss|accumulated\..*|accumulated_batches|"
    r"epoch_num|step_num|training_state|evaluation|model_metadata|meaning)$"
)
EMA_PREFIX = "ema."  # of the names of averaged weights
BEST_NAME, LAST_NAME = "best.ckpt", "last.ckpt"

log = logging.getLogger(__name__)


def load_weights(net: nn.Cell, path: str | Path, *, use_ema: bool = True, metadata: Metadata | None = None) -> None:
    """Load the weights of a checkpoint, of this project or of MindCV's example, into a detector.

    use_ema: load the averaged weights if the file has them; metadata: of the recipe, compared with the file's if given
    Every weight in the file must have a place in `net`, and every parameter of `net` a value; otherwise nothing is
    loaded. Training state in the file is ignored. Raises UserError.
    """
    content = read_checkpoint(path)
    if metadata is not None:
        refuse_mismatch(metadata, read_metadata(content, metadata), path)
    weights, parameters = _select_weights(content, use_ema), net.parameters_dict()
    _refuse_unmatched(weights, parameters, path)
    _assign(weights, parameters, path=path, num_classes=net.head.num_classes)


def load_pretrained(net: nn.Cell, path: str | Path, *, use_ema: bool, metadata: Metadata) -> list[str]:
    """Load a detector that may have been trained on other classes -> names of the parameters that keep their values.

    Those are the class predictors, unless the file says that its classes are the same, and the box predictors too if
    its anchors differ. Everything else must fit as in load_weights, whose arguments these are. Raises UserError.
    """
    content = read_checkpoint(path)
    stored = read_metadata(content, metadata)
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
    """Load ImageNet weights into a detector's backbone from a checkpoint of the same MindCV model.

    The file may also hold the model's classifier. It must fill every parameter of the backbone, and hold nothing of
    another model. Raises UserError.
    """
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
            f"backbone_ckpt_path: {path}: {foreign[0]!r} is no parameter of the recipe's backbone. "
            "Use a checkpoint of that model."
        )
    if missing:
        raise UserError(
            f"backbone_ckpt_path: {path}: {len(missing)} of the {len(parameters)} backbone parameters have no value, "
            f"{missing[0]!r} first. Use a checkpoint of the recipe's backbone, or an empty path to train from scratch."
        )
    _assign(weights, parameters, path=path, num_classes=net.head.num_classes)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint: {name: Parameter, or text of a JSON record}. Raises UserError if it is missing or damaged."""
    if not Path(path).is_file():
        raise UserError(f"{path}: checkpoint not found. Check the path.")
    log.debug(f"reading {path}")
    try:
        with silence_mindspore_log():
            return ms.load_checkpoint(str(path), crc_check=True)  # where the file has checksums, as ours do
    except (ValueError, RuntimeError):
        raise UserError(f"{path}: not a MindSpore checkpoint, cut off or damaged. Use another checkpoint.") from None


def save_checkpoint(net: nn.Cell, path: Path, records: dict[str, Any] | None = None) -> None:
    """Write all parameters of `net`, with checksums; `path` is replaced only when the file is complete.

    records: {name: JSON value} to store beside the parameters. Raises UserError if the file cannot be written.
    """
    texts = {name: json.dumps(value) for name, value in (records or {}).items()}
    try:
        with replace_file(path) as unfinished, silence_mindspore_log():
            ms.save_checkpoint(net, str(unfinished), append_dict=texts or None, crc_check=True)
    except (OSError, RuntimeError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error).splitlines()[0]
        raise UserError(
            f"{path}: cannot be written: {reason.lower()}. Earlier checkpoints are complete: free some space and "
            "continue with --resume."
        ) from None


def link_checkpoint(path: Path, name: str) -> None:
    """Give a checkpoint a second name in its folder, without a second copy where the file system has hard links."""
    with replace_file(path.with_name(name)) as unfinished:
        try:
            os.link(path, unfinished)
        except OSError:
            shutil.copyfile(path, unfinished)


@contextlib.contextmanager
def silence_mindspore_log() -> Iterator[None]:
    """Suppress MindSpore's log of an error that this project reports in its own words."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def choose_checkpoint(ckpt_path: str | None, ckpt_save_dir: str) -> Path:
    """Return ckpt_path if given, else the best or newest checkpoint in ckpt_save_dir. Raises UserError without one."""
    path = Path(ckpt_path) if ckpt_path else find_checkpoint(Path(ckpt_save_dir))
    if path is None:
        raise UserError(
            f"ckpt_path: not set, and {ckpt_save_dir} has no checkpoint. Train a detector or set --ckpt_path."
        )
    return path


def find_checkpoint(folder: Path) -> Path | None:
    """Return the best checkpoint that train.py wrote to a folder, else that of the last epoch, else last.ckpt."""
    if (folder / BEST_NAME).is_file():
        return folder / BEST_NAME
    newest = max(folder.glob("ssd-*.ckpt"), key=lambda path: path.stat().st_mtime_ns, default=None)
    return newest or (folder / LAST_NAME if (folder / LAST_NAME).is_file() else None)


def _select_weights(content: dict[str, Any], use_ema: bool) -> dict[str, Parameter]:
    """Return {our name: value} of the weights in the content of a checkpoint. use_ema: as in load_weights"""
    content = {name: value for name, value in content.items() if not NON_WEIGHT_NAMES.match(name)}
    weights = {}
    for name, value in content.items():
        plain_name = name.removeprefix(EMA_PREFIX)
        is_average = plain_name != name and plain_name in content
        if not is_average:
            weights[_translate_name(name)] = content.get(EMA_PREFIX + name, value) if use_ema else value
    return weights


def _translate_name(name: str) -> str:
    """Return our name of a parameter of MindCV's example; other names stay as they are."""
    for pattern, replacement in MINDCV_NAMES:
        translated, count = re.subn(pattern, replacement, name)
        if count:
            return translated
    return name


def _refuse_unmatched(weights: dict[str, Parameter], parameters: dict[str, Parameter], path: str | Path) -> None:
    """Raise UserError if a weight has no parameter, or a parameter no weight."""
    parts = []
    for names, fault in ((set(weights) - set(parameters), "unknown"), (set(parameters) - set(weights), "missing")):
        if names:
            parts.append(f"{len(names)} {fault}, {min(names)!r} first")
    if parts:
        raise UserError(
            f"{path}: its parameters are not those of the recipe's detector ({'; '.join(parts)}). "
            "Use the recipe it was trained with."
        )


def _assign(
    weights: dict[str, Parameter], parameters: dict[str, Parameter], *, path: str | Path, num_classes: int
) -> None:
    """Set all parameters, or none if a shape differs. Raises UserError. num_classes: of the detector"""
    for name, value in weights.items():
        shape, expected = tuple(value.shape), tuple(parameters[name].shape)
        if shape != expected:
            advice = "Use the recipe it was trained with."
            # A class predictor has anchors times classes output channels.
            is_class_predictor = name.startswith("head.cls.") and shape[1:] == expected[1:]
            if is_class_predictor and shape[0] * num_classes % expected[0] == 0:
                advice = (
                    f"It was trained on {shape[0] * num_classes // expected[0]} classes with background, not "
                    f"{num_classes}: set --data_dir to its data, or --classes to its names, background first."
                )
            raise UserError(f"{path}: {name}: got shape {shape}, expected {expected}. {advice}")
    for name, value in weights.items():
        dtype = parameters[name].dtype
        parameters[name].set_data(value.astype(dtype) if value.dtype != dtype else value)
