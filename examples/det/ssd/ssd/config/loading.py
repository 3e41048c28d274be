"""Load a recipe: merge YAML files and overrides into one typed, validated, frozen Config.

Later layers override earlier layers:

    1. the defaults in schema.py and the classes in configs/dataset/coco.yaml
    2. the runtime settings of the device: configs/runtime/ascend.yaml or configs/runtime/cpu.yaml
    3. the `__BASE__` files of the recipe in the order of their list
    4. the recipe
    5. the overrides

On CPU, the runtime settings are merged after the recipe, because AMP and data sinking in recipes are meant for
accelerators. On CPU, float16 is slower than float32, and data sinking is not available.
"""

from __future__ import annotations

import difflib
import glob
import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from ..boxes.anchors import create_anchors
from ..data.dataset_info import DATASET_INFO_NAME, read_dataset_info
from ..errors import UserError, count_noun, os_reason
from ..runtime.read_yaml import read_yaml
from .adaptation import adapt_to_command_line, format_list
from .mindcv_recipes import check_derived, translate_mindcv_keys
from .schema import Augment, Config

CONFIGS = Path(__file__).resolve().parents[5] / "configs"


def load_config(path: str | Path, overrides: dict[str, Any] | None = None) -> Config:
    """Load and validate a recipe of this project or of MindCV's example.

    The classes are read from dataset.json in data_dir if the file exists. The shards need not exist.

    path: YAML file of the recipe
    overrides: {key: value}; a nested key is either {"a.b": value} or {"a": {"b": value}}
    Raises UserError if a file cannot be read, or if a key or value is invalid.
    """
    recipe = read_recipe(Path(path))
    override_values = nest(overrides or {})
    device = override_values.get("device_target") or recipe.get("device_target") or find_device()
    fragments = {path.stem: path for path in (CONFIGS / "runtime").glob("*.yaml")}
    fragment_path = fragments.get(str(device).lower())
    if fragment_path is None:
        raise UserError(f"device_target: {device!r} is not a supported device. Set device_target to Ascend or CPU.")
    runtime = read_recipe(fragment_path)
    layers = (recipe, runtime) if device == "CPU" else (runtime, recipe)
    # The extras_* lists of MindCV's example are translated together, so merge their overrides into the recipe first.
    lists = {
        key: override_values.pop(key) for key in list(override_values) if key.startswith("extras_") and key in recipe
    }
    values, derived = translate_mindcv_keys(merge(*layers, lists))
    override_values, derived_overrides = translate_mindcv_keys(override_values)
    refuse_unknown_keys(values, section=Config, source=str(path))
    refuse_unknown_keys(override_values, section=Config, source="command line")
    recipe, values = values, merge(values, override_values)
    num_classes = values.pop("num_classes", None)
    try:
        config = Config.model_validate({**values, "num_classes": 2 if num_classes is None else num_classes})
    except ValidationError as error:
        is_override = _contains(override_values, error.errors()[0]["loc"])
        raise UserError(describe_first_error(error, "command line" if is_override else path)) from None
    # Use the validated number, because validation converts a text such as "81" to an int.
    stated = None if num_classes is None else config.num_classes
    config = config.model_copy(update=_find_classes(config.data_dir, classes=config.classes, num_classes=stated))
    _check_anchors_and_layers(config, path)
    config = adapt_to_command_line(config, recipe, typed=override_values)
    _check_training(config)
    if "image_size" in override_values:  # the recipe states the values for its own image_size
        derived = {}
    derived = {**derived, **derived_overrides}
    if derived:
        check_derived(derived, create_anchors(config))
    return config


def find_device() -> str:
    """Return the device_target of this machine, "Ascend" or "CPU".

    The function looks for device files, because importing MindSpore takes seconds.
    """
    return "Ascend" if glob.glob("/dev/davinci[0-9]*") else "CPU"


def read_recipe(path: Path, including: tuple[Path, ...] = ()) -> dict:
    """Read a YAML file, and merge the file with its `__BASE__` files.

    Later bases override earlier bases, and the file overrides all bases.

    path: YAML file
    including: resolved paths of the files that have this file as a base, directly or indirectly
    Raises UserError if a file cannot be read, is not valid YAML, or has itself as a base.
    """
    try:
        values = read_yaml(path)
    except OSError as error:
        reason = os_reason(error)
        raise UserError(f"{path}: the recipe cannot be read ({reason}). Correct the path of the file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: the file is not valid YAML ({reason}). Correct the syntax.") from None
    if not isinstance(values, dict):
        raise UserError(
            f"{path}: the file contains a value of type {type(values).__name__} instead of recipe keys. "
            "Write each recipe key as a line `key: value`."
        )
    bases = values.pop("__BASE__", [])
    bases = [bases] if isinstance(bases, str) else bases
    including = (*including, path.resolve())
    if not isinstance(bases, list) or not all(isinstance(base, str) and "\0" not in base for base in bases):
        raise UserError(f"{path}: __BASE__ is {bases!r} instead of a list of files. Set __BASE__ to a list of paths.")
    for base in bases:
        if (path.parent / base).resolve() in including:
            raise UserError(
                f"{path}: __BASE__ contains {base!r}, which in turn is based on {path.name}. "
                f"Remove {base!r} from __BASE__."
            )
    return merge(*(read_recipe(path.parent / base, including) for base in bases), values)


def merge(*layers: dict) -> dict:
    """Merge dictionaries key by key, including nested dictionaries. Later values override earlier values."""
    merged: dict = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, dict) and isinstance(merged.get(key), dict)
            merged[key] = merge(merged[key], value) if both else value
    return merged


def nest(overrides: dict[str, Any]) -> dict:
    """Convert dotted keys to nested dictionaries: {"a.b": 1} becomes {"a": {"b": 1}}."""
    nested: dict = {}
    for name, value in overrides.items():
        for key in reversed(name.split(".")):
            value = {key: value}
        nested = merge(nested, value)
    return nested


def _find_classes(data_dir: str, classes: tuple[str, ...] | None, num_classes: int | None) -> dict:
    """Find the class names and the number of classes of a recipe.

    The sources in order of preference are dataset.json in data_dir, the given values, and COCO's classes.

    data_dir: folder of the shards
    classes: class names in the recipe with background first, or None
    num_classes: number of classes in the recipe, background included, or None
    Returns {"classes": names, "num_classes": number}, without "classes" if the names are unknown.
    Raises UserError if the given values contradict each other or dataset.json.
    """
    if classes is not None and num_classes is not None and len(classes) != num_classes:
        raise UserError(
            f"num_classes: got {num_classes}, but classes lists {count_noun(len(classes), 'name')}, background "
            "included. Correct num_classes or classes."
        )
    info_path = Path(data_dir) / DATASET_INFO_NAME
    if os.path.isfile(info_path):  # Path.is_file raises OSError for names that no file can have
        known = tuple(read_dataset_info(info_path).classes)
        advice = "or set data_dir to the folder of another dataset. Classes are read from dataset.json"
        if classes not in (None, known):
            raise UserError(
                f"classes: got {list(classes or ())}, but {info_path} lists {list(known)}. "
                f"Remove the key classes, {advice}."
            )
        if num_classes is not None and num_classes != len(known):
            raise UserError(
                f"num_classes: got {num_classes}, but {info_path} lists {len(known)} classes, background included. "
                f"Remove the key num_classes, {advice}."
            )
        return {"classes": known, "num_classes": len(known)}
    if classes is not None:
        return {"classes": classes, "num_classes": len(classes)}
    if num_classes is not None:
        return {"num_classes": num_classes}
    return {"classes": coco_classes(), "num_classes": len(coco_classes())}


def coco_classes() -> tuple[str, ...]:
    """Return the names of COCO's 80 classes, background first."""
    return tuple(read_recipe(CONFIGS / "dataset" / "coco.yaml")["classes"])


def _check_anchors_and_layers(config: Config, path: str | Path) -> None:
    """Raise UserError if keys of the anchors or the extra layers contradict each other."""
    levels = len(config.steps)
    if config.anchors == "default" and len(config.aspect_ratios) != levels:
        raise UserError(
            f"{path}: aspect_ratios: the key has {count_noun(len(config.aspect_ratios), 'list')}, but `steps` has "
            f"{count_noun(levels, 'level')}. "
            "Write one list of aspect ratios for each level."
        )
    if config.box_sizes is not None and config.anchors != "default":
        raise UserError(
            "box_sizes: the key has no effect with grid anchors. Remove box_sizes, or set anchors: default."
        )
    if config.box_sizes is not None and len(config.box_sizes) != levels + 1:
        raise UserError(
            f"box_sizes: the list has {count_noun(len(config.box_sizes), 'size')}, but `steps` has "
            f"{count_noun(levels, 'level')}. "
            f"Write {levels + 1} sizes: one for each level and one more."
        )
    if config.neck != "convs" and not all(layer.pad for layer in config.extra_layers):
        raise UserError(
            f"extra_layers: the neck {config.neck} does not support layers with `pad: false`. "
            "Remove pad, or set neck to convs."
        )
    if config.neck == "extras" and config.backbone_taps == "expansion":
        raise UserError(
            "backbone_taps: the neck extras expands the channels of the backbone's maps itself, so maps of expansions "
            "would be expanded twice. Set neck to residuals, or backbone_taps to output."
        )


def _check_training(config: Config) -> None:
    """Raise UserError if keys of the loss, schedule, checkpoints or validation contradict each other."""
    if config.prior_bias is not None and config.loss == "multibox":
        raise UserError(
            "prior_bias: the key has no effect with the loss multibox. Remove prior_bias, or set loss to focal or "
            "task_aligned."
        )
    if config.prior_bias is None and config.loss == "task_aligned":
        raise UserError(
            "prior_bias: the loss task_aligned needs the key, because the loss of thousands of anchors would be too "
            "large at the start. Set prior_bias to 0.01."
        )
    if config.sync_num_positives and config.loss == "multibox":
        raise UserError(
            "sync_num_positives: the key has no effect with the loss multibox, which divides by the positive anchors "
            "of each image. Remove sync_num_positives, or set loss to focal or task_aligned."
        )
    milestones, epochs = list(config.milestones), config.epoch_size
    is_increasing = milestones == sorted(set(milestones))
    is_complete = config.schedule != "steps" or (bool(milestones) and milestones[-1] < epochs)
    if not is_increasing or not is_complete:
        unit = 1 if epochs > 2 else 0.01  # epochs
        example = sorted({epochs * 2 / 3 // unit * unit, epochs * 5 / 6 // unit * unit})
        raise UserError(
            f"milestones: the list {format_list(milestones)} must contain at least one epoch, in increasing order, and "
            f"all epochs must be below epoch_size, {epochs}. Set --milestones, for example to {format_list(example)}, "
            "or remove milestones and set --schedule cosine."
        )
    if config.dataset_sink_mode and config.device_target == "CPU":
        raise UserError(
            "dataset_sink_mode: data sinking is not available on CPU. Remove --dataset_sink_mode, or set it to false."
        )
    if config.early_stop_patience and not config.eval_while_train:
        raise UserError(
            f"early_stop_patience: {config.early_stop_patience} has no effect, because eval_while_train is false. "
            "Set --eval_while_train true, or remove early_stop_patience."
        )
    if config.warmup_epochs >= config.epoch_size and config.warmup_epochs > 0:
        raise UserError(
            f"warmup_epochs: {config.warmup_epochs:g} must be below epoch_size, {config.epoch_size}. Lower "
            "warmup_epochs, or raise epoch_size."
        )


def refuse_unknown_keys(values: dict, *, section: type[BaseModel], source: str, prefix: str = "") -> None:
    """Raise UserError if a key is not a recipe key, and suggest the most similar key.

    values: {key: value}
    section: class of the recipe section that declares the keys
    source: file or command line in which the keys were given
    prefix: prefix of nested keys, for example "augment."
    """
    for key, value in values.items():
        if key not in section.model_fields:
            (nearest,) = difflib.get_close_matches(str(key), section.model_fields, n=1, cutoff=0)
            raise UserError(f"{source}: {prefix + str(key)!r} is not a recipe key. Did you mean {prefix + nearest!r}?")
        if key == "augment" and isinstance(value, dict):
            refuse_unknown_keys(value, section=Augment, source=source, prefix="augment.")


def _contains(values: Any, place: tuple[str | int, ...]) -> bool:
    """Return whether nested values contain the place of a validation error: keys, and positions in lists."""
    for key in place:
        if not isinstance(values, dict):
            break  # the rest of the place is within a list
        if key not in values:
            return False
        values = values[key]
    return bool(place)


def describe_first_error(error: ValidationError, source: str | Path) -> str:
    """Return the first error of a pydantic validation as one line. source: the recipe's path, or `command line`."""
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{source}: the key {key!r} is missing. Add {key} to the recipe."
    reason = problem["msg"].replace("Input ", "the value ", 1)
    return f"{source}: {key}: {problem['input']!r} is not valid: {reason}. Correct {key}."
