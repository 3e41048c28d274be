"""Recipes: YAML files with `__BASE__` fragments and overrides, turned into one typed, validated, frozen Config.

Later wins: pydantic's defaults below, configs/dataset/coco.yaml, the runtime fragment of the device, the recipe's bases
in order, the recipe, then overrides. On CPU the runtime fragment comes after the recipe: what recipes say of AMP and
data sinking is meant for accelerators (float16 is slower than float32 on CPU, and sinking does not exist there).
"""

from __future__ import annotations

import difflib
import glob
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from .boxes.anchors import create_anchors
from .data.info import INFO_NAME, read_info
from .errors import UserError
from .published import check_derived, translate_published
from .recipe_files import merge, nest, read_recipe

CONFIGS = Path(__file__).resolve().parents[4] / "configs"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False)


class Augment(_Section):
    """Augmentation of training images."""

    crop_prob: float = Field(5 / 6, ge=0, le=1, description="share of images cropped under an IoU constraint")
    crop_min_iou: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (0.1, 0.3, 0.5, 0.7, 0.9), min_length=1, description="constraints, one drawn for each crop"
    )
    zoom_out_prob: float = Field(
        0.0, ge=0, le=1, description="share of images shrunk on a larger canvas before the crop"
    )
    zoom_out_max: float = Field(4.0, ge=1, le=16, description="longest canvas side over the image's")
    flip_prob: float = Field(0.5, ge=0, le=1, description="share of images flipped left to right")
    color_prob: float = Field(1.0, ge=0, le=1, description="share of images with jittered colours")
    brightness: float = Field(0.4, ge=0, lt=1, description="factor drawn from 1 - x .. 1 + x")
    contrast: float = Field(0.4, ge=0, lt=1, description="factor drawn from 1 - x .. 1 + x")
    saturation: float = Field(0.4, ge=0, lt=1, description="factor drawn from 1 - x .. 1 + x")
    hue: float = Field(0.05, ge=0, le=0.5, description="part of a turn drawn from -x .. x; 0.05 is SSD's 18 degrees")


class ExtraLayer(_Section):
    """One inverted residual block behind the backbone."""

    out_channels: int = Field(gt=0)
    expand_ratio: float = Field(gt=0, description="hidden channels over input channels")
    stride: Literal[1, 2] = 2


class Config(_Section):
    """Everything a run needs. Each field is a recipe key; `description` is what --help shows."""

    data_dir: str = Field("./data/coco", description="folder written by create_data.py")
    backbone_ckpt_path: Optional[str] = Field(None, description="ImageNet weights of the backbone; empty: from scratch")
    ckpt_path: Optional[str] = Field(
        None, description="detector to evaluate or predict with; empty: best, else newest, in ckpt_save_dir"
    )
    ckpt_save_dir: str = Field("./ckpt", description="where train.py writes checkpoints, metrics.csv and events")
    output_dir: str = Field(
        "./output", description="where eval.py writes report.html and figures, and predict.py, in predictions/"
    )
    dataset: Literal["coco"] = Field("coco", description="kind of shards under data_dir")
    classes: Optional[tuple[str, ...]] = Field(
        None, description="class names, background first; follow the data if not given"
    )
    num_classes: int = Field(ge=2, description="K, background included; follows the data if not given")

    backbone: str = Field(description="name of a MindCV model")
    backbone_out_indices: tuple[int, ...] = Field(min_length=1, description="which of its feature maps are used")
    backbone_channels: Optional[tuple[int, ...]] = Field(
        None, description="channels of its levels; derived, checked if given"
    )
    extras_in_channels: Optional[tuple[PositiveInt, ...]] = Field(
        None, min_length=1, description="channels that each level reads; derived, checked if given"
    )
    neck: Literal["extras", "fpn"] = Field("extras", description="what makes the feature levels")
    head: Literal["separate", "shared"] = Field("separate", description="predictor weights a level, or one for all")
    anchors: Literal["default", "grid"] = Field("default", description="SSD's default boxes or RetinaNet's grid")
    image_size: tuple[PositiveInt, PositiveInt] = Field(description="input (height, width) in pixels")
    steps: tuple[PositiveInt, ...] = Field(min_length=1, description="pixels between anchors, one a level")
    min_scale: float = Field(0.2, gt=0, le=1, description="default box size of the first level, share of the image")
    max_scale: float = Field(0.95, gt=0, le=1, description="default box size of the last level, share of the image")
    aspect_ratios: tuple[tuple[PositiveFloat, ...], ...] = Field(
        (), description="default box ratios besides 1, a list a level"
    )
    extra_layers: tuple[ExtraLayer, ...] = Field((), description="blocks of the neck `extras`")
    fpn_channels: int = Field(256, gt=0, description="channels of every level of the neck `fpn`")
    num_addition_layers: int = Field(4, ge=0, description="convolutions in the head `shared` before its predictors")

    match_threshold: float = Field(0.5, gt=0, lt=1, description="IoU above which an anchor answers for an object")
    prior_scaling: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.1, 0.2), description="factors of centre and size offsets"
    )
    alpha: float = Field(0.25, ge=0, le=1, description="focal loss: weight of the positive term")
    gamma: float = Field(2.0, ge=0, description="focal loss: how much easy examples are played down")

    epoch_size: int = Field(500, gt=0, description="epochs")
    batch_size: int = Field(32, gt=0, description="images on each device")
    lr: float = Field(0.05, gt=0, description="highest learning rate")
    lr_init: float = Field(0.001, ge=0, description="learning rate at the start of the warm-up")
    lr_end_rate: float = Field(0.001, ge=0, description="learning rate at the end, as a share of lr")
    warmup_epochs: int = Field(2, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.00015, ge=0)
    loss_scale: float = Field(1024.0, gt=0, description="fixed, or the start of a dynamic one")
    loss_scale_type: Literal["fixed", "dynamic"] = "fixed"
    augment: Augment = Augment()
    shuffle: bool = True
    drop_remainder: bool = Field(True, description="drop the last, smaller batch of a training epoch")
    seed: int = Field(0, ge=0, lt=2**31, description="seeds initialisation, order and augmentation")
    steps_per_epoch: Optional[int] = Field(None, gt=0, description="shorten epochs to this many steps")
    log_interval: int = Field(50, gt=0, description="steps between log lines")
    checkpoint_every_steps: Optional[int] = Field(
        None, gt=0, description="save last.ckpt within epochs, too; not with sunk data"
    )
    keep_checkpoint_max: int = Field(20, gt=0, description="how many epoch checkpoints stay")
    eval_while_train: bool = Field(False, description="evaluate between epochs and keep the best checkpoint")
    eval_start_epoch: int = Field(1, ge=1)
    eval_interval: int = Field(1, ge=1)

    min_score: float = Field(0.01, ge=0, lt=1, description="evaluation: detections below are dropped")
    display_score: float = Field(
        0.3, ge=0, le=1, description="detections below are not drawn, nor listed by predict.py"
    )
    nms: Literal["hard", "soft"] = Field("hard", description="hard drops overlapping boxes, soft lowers their scores")
    nms_threshold: float = Field(
        0.6, gt=0, le=1, description="hard: IoU above which the weaker box of a class is dropped"
    )
    soft_nms_sigma: float = Field(0.5, gt=0, description="soft: scores fall by exp(-IoU^2 / sigma)")
    pre_nms_top_k: int = Field(1000, gt=0, description="T, candidates an image that reach NMS")
    max_detections: int = Field(100, gt=0, description="detections kept in an image")
    metric: Literal["coco", "voc"] = Field(
        "coco", description="what mAP means: COCO's AP, or Pascal VOC's at IoU 0.5 by area"
    )

    device_target: Literal["Ascend", "GPU", "CPU"] = Field(description="what the machine has, if not given")
    mode: Literal[0, 1] = Field(0, description="0 graph, 1 PyNative")
    jit_level: Literal["O0", "O1", "O2"] = "O2"
    amp_level: Literal["O0", "O1", "O2", "O3"] = "O0"
    dataset_sink_mode: bool = False
    num_parallel_workers: int = Field(
        8, gt=0, description="threads that prepare data, at most the cores of the machine"
    )


def load_config(path, overrides: Optional[dict[str, Any]] = None) -> Config:
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
    _check_levels(config, path)
    check_derived({**derived, **given_derived}, create_anchors(config))
    return config


def find_device() -> str:
    """The device_target of this machine, by its device files: MindSpore itself is too slow to ask for a --help."""
    return "Ascend" if glob.glob("/dev/davinci[0-9]*") else "CPU"


def _classes(data_dir: str, classes: Optional[tuple[str, ...]], num_classes: Optional[int]) -> dict:
    """Class names and number: those of dataset.json, else the given ones, else COCO's; disagreement is refused."""
    if classes is not None and num_classes is not None and len(classes) != num_classes:
        raise UserError(
            f"num_classes: got {num_classes}, expected {len(classes)}, the number of `classes` (with background)"
        )
    info_path = Path(data_dir) / INFO_NAME
    if info_path.is_file():
        known = tuple(read_info(info_path).classes)
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


def _check_levels(config: Config, path) -> None:
    """Refuse values that fit their own type but not one another."""
    levels = len(config.steps)
    if config.anchors == "default" and len(config.aspect_ratios) != levels:
        raise UserError(
            f"{path}: got {len(config.aspect_ratios)} lists in aspect_ratios, expected {levels}, "
            "one for each of `steps`"
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
