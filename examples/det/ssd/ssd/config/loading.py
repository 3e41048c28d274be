"""Recipes: YAML files with `__BASE__` fragments and overrides, turned into one typed, validated, frozen Config.

Later wins: the defaults in recipe_keys.py, configs/dataset/coco.yaml, the runtime fragment of the device, the recipe's
bases in order, the recipe, then overrides. On CPU the runtime fragment comes after the recipe: what recipes say of AMP
and data sinking is meant for accelerators (float16 is slower than float32 on CPU, which has no sinking).
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
from ..errors import UserError
from .mindcv_recipes import check_derived, translate_published
from .schema import Augment, Config

CONFIGS = Path(__file__).resolve().parents[5] / "configs"


def load_config(path, overrides: dict[str, Any] | None = None) -> Config:
    """Read a recipe.

    path: YAML file of ours or of MindCV's example; overrides: {key: value}, nested ones as {"a.b": value} or {"a": {…}}
    Classes follow data_dir's dataset.json where there is one; the data itself is not needed. Raises UserError.
    """
    recipe = read_recipe(Path(path))
    given = nest(overrides or {})
    target = given.get("device_target") or recipe.get("device_target") or find_device()
    fragment_path = CONFIGS / "runtime" / f"{str(target).lower()}.yaml"
    if not fragment_path.is_file():
        raise UserError(f"device_target: got {target!r}, expected Ascend, GPU or CPU")
    runtime = read_recipe(fragment_path)
    layers = (recipe, runtime) if target == "CPU" else (runtime, recipe)
    # The example's lists of layers mean something only together, so overrides of them join the recipe's own.
    lists = {key: given.pop(key) for key in list(given) if key.startswith("extras_") and key in recipe}
    values, derived = translate_published(merge(*layers, lists))
    given, given_derived = translate_published(given)
    _refuse_unknown(values, Config, str(path))
    _refuse_unknown(given, Config, "overrides")
    values = merge(values, given)
    num_classes = values.pop("num_classes", None)
    try:
        config = Config.model_validate({**values, "num_classes": 2 if num_classes is None else num_classes})
    except ValidationError as error:
        raise UserError(_first_problem(error, path)) from None
    config = config.model_copy(update=_classes(config.data_dir, config.classes, num_classes and config.num_classes))
    _check_together(config, path)
    derived = {**derived, **given_derived}
    if derived:
        check_derived(derived, create_anchors(config))
    return config


def find_device() -> str:
    """The device_target of this machine, by its device files: MindSpore itself is too slow to ask for a --help."""
    return "Ascend" if glob.glob("/dev/davinci[0-9]*") else "CPU"


def _classes(data_dir: str, classes: tuple[str, ...] | None, num_classes: int | None) -> dict:
    """Class names and number: those of dataset.json, else the given ones, else COCO's; disagreement is refused."""
    if classes is not None and num_classes is not None and len(classes) != num_classes:
        raise UserError(
            f"num_classes: got {num_classes}, expected {len(classes)}, the number of `classes` (with background)"
        )
    info_path = Path(data_dir) / DATASET_INFO_NAME
    if info_path.is_file():
        known = tuple(read_dataset_info(info_path).classes)
        if classes not in (None, known):
            raise UserError(
                f"classes: got {list(classes)}, expected {list(known)} as in {info_path}; "
                "remove the key to follow the data"
            )
        if num_classes is not None and num_classes != len(known):
            raise UserError(
                f"num_classes: got {num_classes}, expected {len(known)} (background included) as in {info_path}; "
                "remove the key to follow the data"
            )
        return {"classes": known, "num_classes": len(known)}
    if classes is not None:
        return {"classes": classes, "num_classes": len(classes)}
    if num_classes is not None:
        return {"num_classes": num_classes}
    coco = tuple(read_recipe(CONFIGS / "dataset" / "coco.yaml")["classes"])
    return {"classes": coco, "num_classes": len(coco)}


def _check_together(config: Config, path) -> None:
    """Refuse values that fit their own type but not one another."""
    levels = len(config.steps)
    if config.anchors == "default" and len(config.aspect_ratios) != levels:
        raise UserError(
            f"{path}: got {len(config.aspect_ratios)} lists in aspect_ratios, expected {levels}, "
            "one for each of `steps`"
        )
    if config.box_sizes is not None and (config.anchors != "default" or len(config.box_sizes) != levels + 1):
        raise UserError(
            f"box_sizes: got {len(config.box_sizes)} sizes with anchors {config.anchors}, expected {levels + 1} for "
            "default ones, one for each of `steps` and one beyond; correct or remove the key"
        )
    if config.neck != "convs" and not all(layer.pad for layer in config.extra_layers):
        raise UserError(
            f"extra_layers: got pad false with neck {config.neck}, expected neck convs, the only one that can; "
            "set the neck or remove pad"
        )
    _check_training(config)


def _check_training(config: Config) -> None:
    """The part of `_check_together` on loss, schedule, saving and evaluation while training."""
    if config.prior_bias is not None and config.loss != "focal":
        raise UserError(
            f"prior_bias: got {config.prior_bias} with loss {config.loss}, expected loss focal, the only one with "
            "a probability for each class; remove the key"
        )
    milestones, epochs = list(config.milestones), config.epoch_size
    reached = milestones and milestones[-1] < epochs
    if milestones != sorted(set(milestones)) or (config.schedule == "steps" and not reached):
        raise UserError(
            f"milestones: got {milestones} with schedule {config.schedule}, expected rising numbers of epochs, one at "
            f"least for steps and none from epoch_size on, {epochs}; set --milestones, as in "
            f"[{epochs * 2 // 3}, {epochs * 5 // 6}], or --schedule cosine"
        )
    if config.checkpoint_every_steps and config.dataset_sink_mode:
        raise UserError(
            f"checkpoint_every_steps: got {config.checkpoint_every_steps} with dataset_sink_mode, in which the host "
            "sees epochs and no steps, expected one of them; set --dataset_sink_mode false"
        )
    if config.early_stop_patience and not config.eval_while_train:
        raise UserError(
            f"early_stop_patience: got {config.early_stop_patience} without evaluations to go by, expected "
            "eval_while_train; set --eval_while_train true"
        )
    if config.warmup_epochs >= config.epoch_size and config.warmup_epochs > 0:
        raise UserError(
            f"warmup_epochs: got {config.warmup_epochs}, expected less than epoch_size, {config.epoch_size}"
        )


def _refuse_unknown(values: dict, section: type[BaseModel], where: str, prefix: str = "") -> None:
    for key, value in values.items():
        if key not in section.model_fields:
            near = difflib.get_close_matches(str(key), section.model_fields, n=1, cutoff=0)
            raise UserError(
                f"{where}: got unknown key {prefix + str(key)!r}, expected a recipe key; "
                f"did you mean {prefix + near[0]!r}?"
            )
        if key == "augment" and isinstance(value, dict):
            _refuse_unknown(value, Augment, where, "augment.")


def _first_problem(error: ValidationError, path) -> str:
    """pydantic's report as one line in the house's form."""
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{path}: got no {key!r}, expected a value; add it to the recipe"
    return f"{path}: {key}: got {problem['input']!r}, expected: {problem['msg']}"


def read_recipe(path: Path, above: tuple[Path, ...] = ()) -> dict:
    """A YAML file merged over its `__BASE__` files: the later base beats the earlier, the file itself beats them all.

    above: the files that have this one as a base
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: got {error.strerror.lower()}, expected a YAML recipe; check --config") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: got {' '.join(str(error).split())}, expected YAML; mend the file") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: got {type(values).__name__}, expected `key: value` lines")
    bases = values.pop("__BASE__", [])
    bases = [bases] if isinstance(bases, str) else bases
    above = (*above, path.resolve())
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise UserError(f"{path}: got __BASE__ {bases!r}, expected a list of files; mend the file")
    for base in bases:
        if (path.parent / base).resolve() in above:
            raise UserError(
                f"{path}: got __BASE__ {base!r}, expected a file that is not based on this one; mend the file"
            )
    return merge(*(read_recipe(path.parent / base, above) for base in bases), values)


def merge(*layers: dict) -> dict:
    """Dictionaries merged key by key, the later over the earlier, nested ones too."""
    merged: dict = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, dict) and isinstance(merged.get(key), dict)
            merged[key] = merge(merged[key], value) if both else value
    return merged


def nest(overrides: dict[str, Any]) -> dict:
    """{"a.b": 1} to {"a": {"b": 1}}."""
    nested: dict = {}
    for name, value in overrides.items():
        for key in reversed(name.split(".")):
            value = {key: value}
        nested = merge(nested, value)
    return nested
