"""Adapt values of a recipe to the command line: `--epoch_size` shortens the schedule, `--image_size` changes steps.

A value on the command line is never adapted. Only a value that a recipe states for its own epoch_size or image_size is.
A recipe without its ImageNet weights keeps its values, but a line states what that costs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..boxes.feature_sizes import Size, fitting_steps, smallest_fitting_step, strided_size
from ..errors import UserError, count_noun
from .schema import Config

MAX_WARMUP_FRACTION = 1 / 3  # of a run; the rest has the peak learning rate and the decay
LARGEST_STRIDE = 2**12  # input pixels; no backbone has a larger stride


def adapt_to_command_line(config: Config, recipe: Mapping[str, Any], typed: Collection[str]) -> Config:
    """Adapt the schedule and the steps of a recipe to the epoch_size and image_size of the command line.

    config: recipe merged with the command line
    recipe: {key: value} of the recipe without the command line, not validated
    typed: keys on the command line
    Returns the adapted recipe, whose attribute `adaptations` has a line for each change.
    Raises UserError if no steps fit the image_size.
    """
    config = _shorten_schedule(config, recipe, typed=typed)
    if "image_size" in typed and "steps" not in typed:
        config = _adapt_steps(config, recipe, typed=typed)
    if "backbone_ckpt_path" in typed and recipe.get("backbone_ckpt_path"):
        config = _mention_missing_weights(config)
    return config


def _shorten_schedule(config: Config, recipe: Mapping[str, Any], typed: Collection[str]) -> Config:
    """Shorten a warm-up that does not fit into epoch_size, and move milestones in proportion to the run.

    The learning rate must reach its peak in each run, and must fall after that. A schedule that fits is unchanged.
    """
    epochs, warmup = config.epoch_size, config.warmup_epochs
    run = count_noun(epochs, "epoch")
    if 0 < warmup >= epochs and "warmup_epochs" not in typed:
        shortened = epochs * MAX_WARMUP_FRACTION
        line = (
            f"warmup_epochs: {warmup:g} does not fit into a run of {run}. The warm-up is shortened to {shortened:.3g} "
            f"{'epoch' if shortened == 1 else 'epochs'}, a third of the run."
        )
        config = config.adapted({"warmup_epochs": shortened}, line)
    milestones = config.milestones
    recipe_epochs = recipe.get("epoch_size", Config.model_fields["epoch_size"].default)
    if config.schedule != "steps" or not milestones or milestones[-1] < epochs or "milestones" in typed:
        return config
    if not isinstance(recipe_epochs, int) or milestones[-1] >= recipe_epochs:  # the recipe contradicts itself
        return config
    moved = tuple(milestone * epochs / recipe_epochs for milestone in milestones)
    line = (
        f"milestones: {format_list(milestones)} does not fit into a run of {run}. The learning rate drops after epochs "
        f"{format_list(moved)}, in proportion to the {recipe_epochs} epochs of the recipe."
    )
    return config.adapted({"milestones": moved}, line)


def _mention_missing_weights(config: Config) -> Config:
    """Add a line if the command line removes the ImageNet weights of a recipe."""
    if config.backbone_ckpt_path or config.pretrained_detector:
        return config
    line = (
        "backbone_ckpt_path: empty, so the backbone is trained from scratch. AP is lower after the same number of "
        "epochs, by 12 and 51 points on two small data sets. docs/accuracy.md has the measurements."
    )
    return config.adapted({}, line)


def _adapt_steps(config: Config, recipe: Mapping[str, Any], typed: Collection[str]) -> Config:
    """Derive the steps from another image_size, and scale box sizes in pixels, unless the steps of the recipe fit.

    A step that is the stride of its level in the recipe stays the stride. A step that is image side / map side in the
    recipe is computed in the same way from the new size. With other steps, the recipe is returned unchanged, and
    `create_detector` reports the steps that fit.

    Raises UserError if a feature map has no locations, or if no step fits both sides of a map.
    """
    try:
        before = Config.model_validate({**config.model_dump(), "image_size": recipe["image_size"]}).image_size
    except (KeyError, ValueError):
        return config
    strides = _find_strides(config, before)
    if strides is None:
        return config
    height, width = config.image_size
    old_sizes, sizes = (_feature_sizes(config, size, strides=strides) for size in (before, config.image_size))
    if old_sizes != [strided_size(before, step) for step in config.steps]:
        return config  # the steps do not fit the recipe either
    if sizes == [strided_size(config.image_size, step) for step in config.steps]:
        return config
    if min(map(min, sizes)) < 1:
        raise UserError(
            f"image_size: images of {width}x{height} pixels are too small for the {len(sizes)} levels of the recipe. "
            f"Raise --image_size, for example to {list(before)}."
        )
    strided = [step if step == stride else 0 for step, stride in zip(config.steps, strides)]
    even = [smallest_fitting_step(before, size) for size in old_sizes]
    if not all(step in (kept, fitting) for step, kept, fitting in zip(config.steps, strided, even)):
        return config
    steps = fitting_steps(config.image_size, sizes, preferred=[max(step, 1) for step in strided])
    if None in steps:
        level = steps.index(None)
        rows, columns = sizes[level]
        side = max(height, width)
        raise UserError(
            f"image_size: images of {width}x{height} pixels give level {level + 1} of the recipe a feature map of "
            f"{columns}x{rows} locations, and no step fits both sides. Use square images, for example "
            f'--image_size "[{side},{side}]".'
        )
    lines = [f"steps: {list(config.steps)} does not fit images of {width}x{height} pixels. The steps are {steps}."]
    changed: dict[str, Any] = {"steps": tuple(steps)}
    if config.box_sizes is not None and "box_sizes" not in typed:
        scale = math.sqrt(height * width / math.prod(before))
        changed["box_sizes"] = tuple(round(size * scale, 2) for size in config.box_sizes)
        lines.append(f"box_sizes: scaled with the images to {format_list(changed['box_sizes'])}.")
    return config.adapted(changed, *lines)


def _find_strides(config: Config, image_size: Size) -> list[int] | None:
    """Find the stride of each level from the steps of a recipe, without the network.

    Strides of backbones are powers of two. The power of two with which a map has more than one location is unique.

    image_size: (height, width) of the recipe's images in pixels, which the steps fit
    Returns the strides in input pixels, or None if they are ambiguous.
    """
    strides: list[int] = []
    num_backbone_levels = len(config.backbone_out_indices)
    powers = list(itertools.takewhile(lambda power: power <= LARGEST_STRIDE, (2**exponent for exponent in range(32))))
    for step in config.steps[:num_backbone_levels]:
        size = strided_size(image_size, step)
        found = [power for power in powers if strided_size(image_size, power) == size]
        if step in found:
            found = [step]
        if len(found) != 1:
            return None
        strides += found
    for stride, _ in _extra_blocks(config):
        strides.append(strides[-1] * stride)
    return strides if len(strides) == len(config.steps) else None


def _extra_blocks(config: Config) -> list[tuple[int, int]]:
    """Return (stride, border) of each block behind the backbone, as in `strided_size`."""
    if config.neck == "fpn":
        return [(2, 0)] * (len(config.steps) - len(config.backbone_out_indices))
    return [(layer.stride, 0 if layer.pad else 2) for layer in config.extra_layers]


def _feature_sizes(config: Config, image_size: Size, strides: Sequence[int]) -> list[Size]:
    """Compute the size of each level's feature map without the network, as the necks do.

    strides: stride of each level in input pixels
    Returns (height, width) in locations; numbers below 1 if the image is too small.
    """
    sizes = [strided_size(image_size, stride) for stride in strides[: len(config.backbone_out_indices)]]
    for stride, border in _extra_blocks(config):
        sizes.append(strided_size(sizes[-1], stride, border))
    return sizes


def format_list(numbers: Sequence[float]) -> str:
    """Return numbers as YAML and the command line accept them, for example "[0.662, 0.831]"."""
    return f"[{', '.join(f'{number:.4g}' for number in numbers)}]"
