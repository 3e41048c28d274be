"""Load a recipe: YAML files with `__BASE__` fragments and overrides, turned into one typed, validated, frozen Config.

Later layers win: the defaults in schema.py, configs/dataset/coco.yaml, the runtime fragment of the device, the recipe's
bases in order, the recipe, then overrides. On CPU the runtime fragment comes after the recipe, because AMP and data
sinking in recipes are meant for accelerators: on CPU float16 is slower than float32, and there is no sinking.
"""

from __future__ import annotations

import difflib
import glob
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from ..boxes.anchors import create_anchors
from ..data.dataset_info import DATASET_INFO_NAME, read_dataset_info
from ..errors import UserError, os_reason
from .mindcv_recipes import check_derived, translate_mindcv_keys
from .schema import Augment, Config

CONFIGS = Path(__file__).resolve().parents[5] / "configs"


def load_config(path: str | Path, overrides: dict[str, Any] | None = None) -> Config:
    """Load a recipe of this project or of MindCV's example.

    path: YAML file; overrides: {key: value}, nested ones as {"a.b": value} or {"a": {…}}
    Classes follow dataset.json in data_dir if it exists; the data itself need not exist. Raises UserError.
    """
    recipe = read_recipe(Path(path))
    override_values = nest(overrides or {})
    device = override_values.get("device_target") or recipe.get("device_target") or find_device()
    fragment_path = CONFIGS / "runtime" / f"{str(device).lower()}.yaml"
    if not fragment_path.is_file():
        raise UserError(f"device_target: {device!r} is not a known device. Set it to Ascend or CPU.")
    runtime = read_recipe(fragment_path)
    layers = (recipe, runtime) if device == "CPU" else (runtime, recipe)
    # The example's extras_* lists mean something only together, so overrides of them join the recipe's own.
    lists = {
        key: override_values.pop(key) for key in list(override_values) if key.startswith("extras_") and key in recipe
    }
    values, derived = translate_mindcv_keys(merge(*layers, lists))
    override_values, derived_overrides = translate_mindcv_keys(override_values)
    _refuse_unknown_keys(values, section=Config, source=str(path))
    _refuse_unknown_keys(override_values, section=Config, source="command line")
    values = merge(values, override_values)
    num_classes = values.pop("num_classes", None)
    try:
        config = Config.model_validate({**values, "num_classes": 2 if num_classes is None else num_classes})
    except ValidationError as error:
        raise UserError(_describe_first_error(error, path)) from None
    # Validation has turned the number into an int, whatever the recipe has.
    stated = None if num_classes is None else config.num_classes
    config = config.model_copy(update=_find_classes(config.data_dir, classes=config.classes, num_classes=stated))
    _check_anchors_and_layers(config, path)
    _check_training(config)
    derived = {**derived, **derived_overrides}
    if derived:
        check_derived(derived, create_anchors(config))
    return config


def find_device() -> str:
    """Return the device_target of this machine by its device files, because importing MindSpore takes seconds."""
    return "Ascend" if glob.glob("/dev/davinci[0-9]*") else "CPU"


def read_recipe(path: Path, including: tuple[Path, ...] = ()) -> dict:
    """Read a YAML file merged over its `__BASE__` files: later bases win over earlier ones, and the file over them all.

    including: the files that have this one as a base. Raises UserError.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = os_reason(error)
        raise UserError(f"{path}: {reason}. Give the path of a recipe, a YAML file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}. Correct the file.") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: contains {type(values).__name__} instead of `key: value` lines. Correct the file.")
    bases = values.pop("__BASE__", [])
    bases = [bases] if isinstance(bases, str) else bases
    including = (*including, path.resolve())
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise UserError(f"{path}: __BASE__ is {bases!r} instead of a list of files. Correct the file.")
    for base in bases:
        if (path.parent / base).resolve() in including:
            raise UserError(f"{path}: __BASE__ {base!r} is itself based on this file. Remove one of the two.")
    return merge(*(read_recipe(path.parent / base, including) for base in bases), values)


def merge(*layers: dict) -> dict:
    """Merge dictionaries key by key, nested ones too; later ones win."""
    merged: dict = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, dict) and isinstance(merged.get(key), dict)
            merged[key] = merge(merged[key], value) if both else value
    return merged


def nest(overrides: dict[str, Any]) -> dict:
    """Turn dotted keys into nested dictionaries: {"a.b": 1} to {"a": {"b": 1}}."""
    nested: dict = {}
    for name, value in overrides.items():
        for key in reversed(name.split(".")):
            value = {key: value}
        nested = merge(nested, value)
    return nested


def _find_classes(data_dir: str, classes: tuple[str, ...] | None, num_classes: int | None) -> dict:
    """Return `classes` and `num_classes`: from dataset.json, else as given, else COCO's.

    num_classes: as given, including background. Raises UserError if two sources differ.
    """
    if classes is not None and num_classes is not None and len(classes) != num_classes:
        raise UserError(
            f"num_classes: {num_classes}, but `classes` has {len(classes)} names, background included. "
            "Correct one of the two keys."
        )
    info_path = Path(data_dir) / DATASET_INFO_NAME
    if info_path.is_file():
        known = tuple(read_dataset_info(info_path).classes)
        advice = f"Remove the key: classes are read from {info_path}."
        if classes not in (None, known):
            raise UserError(f"classes: {list(classes or ())} differ from those of the data, {list(known)}. {advice}")
        if num_classes is not None and num_classes != len(known):
            raise UserError(
                f"num_classes: {num_classes}, but the data has {len(known)} classes, background included. {advice}"
            )
        return {"classes": known, "num_classes": len(known)}
    if classes is not None:
        return {"classes": classes, "num_classes": len(classes)}
    if num_classes is not None:
        return {"num_classes": num_classes}
    coco = tuple(read_recipe(CONFIGS / "dataset" / "coco.yaml")["classes"])
    return {"classes": coco, "num_classes": len(coco)}


def _check_anchors_and_layers(config: Config, path: str | Path) -> None:
    """Refuse keys of anchors and extra layers that contradict each other. Raises UserError."""
    levels = len(config.steps)
    if config.anchors == "default" and len(config.aspect_ratios) != levels:
        raise UserError(
            f"{path}: aspect_ratios has {len(config.aspect_ratios)} lists, but `steps` has {levels} levels. "
            "Give one list for each level."
        )
    if config.box_sizes is not None and config.anchors != "default":
        raise UserError("box_sizes: has no effect with grid anchors. Remove the key, or set anchors to default.")
    if config.box_sizes is not None and len(config.box_sizes) != levels + 1:
        raise UserError(
            f"box_sizes: {len(config.box_sizes)} sizes for {levels} levels. Give {levels + 1}: one for each of `steps` "
            "and one more."
        )
    if config.neck != "convs" and not all(layer.pad for layer in config.extra_layers):
        raise UserError(
            f"extra_layers: pad is false, which the neck {config.neck} does not support. "
            "Remove pad, or set neck to convs."
        )


def _check_training(config: Config) -> None:
    """Refuse keys of loss, schedule, checkpoints and validation that contradict each other. Raises UserError."""
    if config.prior_bias is not None and config.loss != "focal":
        raise UserError(
            f"prior_bias: has no meaning with the loss {config.loss}. Remove the key, or use the focal loss."
        )
    milestones, epochs = list(config.milestones), config.epoch_size
    is_increasing = milestones == sorted(set(milestones))
    is_complete = config.schedule != "steps" or (bool(milestones) and milestones[-1] < epochs)
    if not is_increasing or not is_complete:
        raise UserError(
            f"milestones: {milestones} must be non-empty, increasing and below epoch_size, {epochs}. "
            f"Set --milestones, for example [{epochs * 2 // 3}, {epochs * 5 // 6}], or --schedule cosine."
        )
    if config.checkpoint_every_steps and config.dataset_sink_mode:
        raise UserError(
            f"checkpoint_every_steps: {config.checkpoint_every_steps} is impossible with dataset_sink_mode, in which "
            "the host sees epochs but no steps. Set --dataset_sink_mode false, or remove the key."
        )
    if config.early_stop_patience and not config.eval_while_train:
        raise UserError(
            f"early_stop_patience: {config.early_stop_patience}, but there are no evaluations to decide on. "
            "Set --eval_while_train true."
        )
    if config.warmup_epochs >= config.epoch_size and config.warmup_epochs > 0:
        raise UserError(
            f"warmup_epochs: {config.warmup_epochs} must be below epoch_size, {config.epoch_size}. Lower it."
        )


def _refuse_unknown_keys(values: dict, *, section: type[BaseModel], source: str, prefix: str = "") -> None:
    """Raise UserError for a key that the section does not have, and name its nearest neighbor."""
    for key, value in values.items():
        if key not in section.model_fields:
            (nearest,) = difflib.get_close_matches(str(key), section.model_fields, n=1, cutoff=0)
            raise UserError(f"{source}: unknown key {prefix + str(key)!r}. Did you mean {prefix + nearest!r}?")
        if key == "augment" and isinstance(value, dict):
            _refuse_unknown_keys(value, section=Augment, source=source, prefix="augment.")


def _describe_first_error(error: ValidationError, path: str | Path) -> str:
    """Return pydantic's first error as one line."""
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{path}: the key {key!r} is missing. Add it to the recipe."
    reason = problem["msg"].removeprefix("Input ")
    return f"{path}: {key}: {problem['input']!r} is not valid: the value {reason}. Correct it."
