"""Load and save checkpoints. Parameter names of MindCV are translated, and unmatched parameters raise UserError."""

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

# Patterns of parameter names in MindCV's examples/det/ssd, each with its replacement. The first match is used.
_OPTIONAL_FEATURES = r"(?:features\.)?"  # MindCV's example wraps some layers in a cell `features`
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
# Names of checkpoint entries that are not weights: optimizer state, training step state, and JSON records.
NON_WEIGHT_NAMES = re.compile(
    r"^(moments\..*|momentum|learning_rate|global_step|current_iterator_step|last_overflow_iterator_step|"
    r"scale_sense|updates|skipped_updates|steps_since_(bad|non_finite)_loss|accumulated\..*|accumulated_batches|"
    r"epoch_num|step_num|training_state|evaluation|model_metadata|meaning)$"
)
EMA_PREFIX = "ema."  # prefix of the names of averaged (EMA) weights
BEST_NAME, LAST_NAME = "best.ckpt", "last.ckpt"

log = logging.getLogger(__name__)


def load_weights(net: nn.Cell, path: str | Path, *, use_ema: bool = True, metadata: Metadata | None = None) -> None:
    """Load the weights of a checkpoint into a detector.

    The checkpoint may be from this project or from MindCV's example. The weights in the file must match all parameters
    of the detector; otherwise nothing is loaded. Training state in the file is ignored.

    net: detector
    path: path of the checkpoint
    use_ema: whether to load the averaged (EMA) weights if the file contains averaged weights
    metadata: metadata of the recipe, which must match the metadata of the checkpoint; None skips the comparison
    Raises UserError if the file is missing or damaged, or if metadata, parameter names or shapes do not match.
    """
    content = read_checkpoint(path)
    if metadata is not None:
        refuse_mismatch(metadata, read_metadata(content, metadata), path)
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


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint file.

    Returns {name: Parameter, or text of a JSON record}.
    Raises UserError if the file is missing or damaged.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: the checkpoint was not found. Correct the path.")
    log.debug(f"reading {path}")
    try:
        with silence_mindspore_log():
            return ms.load_checkpoint(str(path), crc_check=True)  # verifies the checksums if the file has checksums
    except (ValueError, RuntimeError):
        raise UserError(
            f"{path}: the file is damaged, or is not a MindSpore checkpoint. Use another checkpoint."
        ) from None


def save_checkpoint(net: nn.Cell, path: Path, records: dict[str, Any] | None = None) -> None:
    """Write all parameters of a network and JSON records to a checkpoint with checksums.

    An existing file is replaced only when the new file is complete.

    net: network, for example a training step
    path: path of the checkpoint
    records: {name: JSON value} to store in addition to the parameters
    Raises UserError if the file cannot be written.
    """
    texts = {name: json.dumps(value) for name, value in (records or {}).items()}
    try:
        with replace_file(path) as unfinished, silence_mindspore_log():
            ms.save_checkpoint(net, str(unfinished), append_dict=texts or None, crc_check=True)
    except (OSError, RuntimeError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error).splitlines()[0]
        is_resumable = any(file for pattern in ("ssd-*.ckpt", LAST_NAME) for file in path.parent.glob(pattern))
        next_step = "continue from an earlier checkpoint with --resume" if is_resumable else "start the training again"
        raise UserError(
            f"{path}: the checkpoint cannot be written ({reason.lower()}). Check that the folder is "
            f"writable and the disk has free space, and {next_step}."
        ) from None


def link_checkpoint(path: Path, name: str) -> None:
    """Give a checkpoint a second file name in the same folder.

    The second file is a hard link, or a copy if the file system does not support hard links.
    """
    with replace_file(path.with_name(name)) as unfinished:
        try:
            os.link(path, unfinished)
        except OSError:
            shutil.copyfile(path, unfinished)


@contextlib.contextmanager
def silence_mindspore_log() -> Iterator[None]:
    """Suppress MindSpore's log messages inside the context, because this project reports MindSpore's errors itself."""
    logger = logging.getLogger(f"ME.mindspore.log.{os.getpid()}")  # the name in mindspore.log
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False


def choose_checkpoint(ckpt_path: str | None, ckpt_save_dir: str) -> Path:
    """Return ckpt_path if the path is set; otherwise find a checkpoint in ckpt_save_dir.

    ckpt_path: path of a checkpoint, or None
    ckpt_save_dir: folder of checkpoints that train.py wrote
    Raises UserError if ckpt_path is not set and the folder does not contain a checkpoint.
    """
    path = Path(ckpt_path) if ckpt_path else find_checkpoint(Path(ckpt_save_dir))
    if path is None:
        raise UserError(
            f"ckpt_path: the key is not set, and {ckpt_save_dir} does not contain a checkpoint. "
            "Train a detector, or set --ckpt_path."
        )
    return path


def find_checkpoint(folder: Path) -> Path | None:
    """Return the best checkpoint in a folder, otherwise the newest checkpoint.

    The order of preference is best.ckpt, the newest ssd-EPOCH.ckpt, last.ckpt. Returns None if there is no such file.
    """
    if (folder / BEST_NAME).is_file():
        return folder / BEST_NAME
    newest = max(folder.glob("ssd-*.ckpt"), key=lambda path: path.stat().st_mtime_ns, default=None)
    return newest or (folder / LAST_NAME if (folder / LAST_NAME).is_file() else None)


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
            weights[_translate_name(name)] = content.get(EMA_PREFIX + name, value) if use_ema else value
    return weights


def _translate_name(name: str) -> str:
    """Translate a parameter name of MindCV's example to the name in this project; return other names unchanged."""
    for pattern, replacement in MINDCV_NAMES:
        translated, count = re.subn(pattern, replacement, name)
        if count:
            return translated
    return name


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
                    "checkpoint, or --classes to the class names of that data, background first."
                )
            raise UserError(f"{path}: {name}: got shape {shape}, expected {expected}. {advice}")
    for name, value in weights.items():
        dtype = parameters[name].dtype
        parameters[name].set_data(value.astype(dtype) if value.dtype != dtype else value)
