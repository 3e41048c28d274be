"""Search for sizes and aspect ratios of default boxes that increase the IoU with the ground-truth boxes of a dataset.

The objective is a weighted mean over ground-truth boxes of the highest IoU of each box with any anchor. The part of an
IoU above match_threshold + REWARD_MARGIN is multiplied by REWARD_SLOPE. Otherwise the search would improve recalled
boxes at the cost of missed boxes. Half of the total weight is distributed evenly over all boxes. The other half
is distributed evenly over the classes, and within each class evenly over its boxes, because AP is a mean over classes.

The search is a hill climb: it multiplies or divides one parameter at a time by a factor. Each factor is used until the
objective stops rising; then the next smaller factor is used. The search starts from the values of the recipe and from
quantiles of the box sizes. The result is deterministic.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ssd.boxes.anchors import create_anchors

from . import GroundTruth
from .overlap import ShapeIoU, anchor_shapes

if TYPE_CHECKING:
    from ssd.boxes.anchors import Anchors
    from ssd.config.schema import Config

REWARD_MARGIN = 0.1  # IoU above match_threshold up to which the weight of IoU is 1
REWARD_SLOPE = 0.1  # weight of IoU above match_threshold + REWARD_MARGIN
SAMPLE_SIZE = 4000  # boxes in the search; up to twice this number, because rare classes are sampled more densely
STEP_FACTORS = (1.4, 1.2, 1.1, 1.05, 1.02)  # factors for one parameter, in the order of use
MIN_STEP_GAIN = 3e-5  # minimum gain of the objective for a change of one parameter
MIN_TOTAL_GAIN = 2e-3  # minimum gain of the objective for values that do not come from the recipe
MAX_RECALL_LOSS = 5e-3  # maximum loss of recall (0..1) at match_threshold that is accepted for a gain of the objective
ASPECT_RATIO_RANGE = (1.05, 6.0)  # minimum and maximum aspect ratio (longer side / shorter side)
MIN_SIZE_RATIO = 1.05  # minimum ratio of a size to the previous size, so that sizes increase from level to level


@dataclasses.dataclass(frozen=True)
class AnchorSettings:
    """Values of the recipe keys that determine the shapes of default boxes.

    sizes: box_sizes in pixels of the network input, or (min_scale, max_scale) as fractions of the image side
    aspect_ratios: for each feature level a tuple of aspect ratios (longer side / shorter side)
    in_pixels: True if `sizes` contains box_sizes, False if `sizes` contains (min_scale, max_scale)
    """

    sizes: tuple[float, ...]
    aspect_ratios: tuple[tuple[float, ...], ...]
    in_pixels: bool

    def recipe_keys(self) -> dict[str, Any]:
        """Return the settings as {recipe key: value}."""
        ratios = [sorted(ratios) for ratios in self.aspect_ratios]
        if self.in_pixels:
            return {"box_sizes": list(self.sizes), "aspect_ratios": ratios}
        min_scale, max_scale = self.sizes
        return {"min_scale": min_scale, "max_scale": max_scale, "aspect_ratios": ratios}

    def parameters(self) -> list[float]:
        """Return all sizes and then all aspect ratios as one list."""
        return [*self.sizes, *(ratio for ratios in self.aspect_ratios for ratio in ratios)]

    def with_parameter(self, index: int, value: float) -> AnchorSettings:
        """Return a copy of the settings with a new value for one parameter.

        index: index of the parameter in the list of all sizes and then all aspect ratios
        value: new value, which is rounded to three significant digits
        """
        values = iter(_round(value) if i == index else old for i, old in enumerate(self.parameters()))
        sizes = tuple(next(values) for _ in self.sizes)
        aspect_ratios = tuple(tuple(next(values) for _ in ratios) for ratios in self.aspect_ratios)
        return AnchorSettings(sizes, aspect_ratios, self.in_pixels)

    def is_valid_at(self, index: int, image_size: Sequence[int]) -> bool:
        """Return True if one parameter is in its valid range and, for a size, between the sizes of adjacent levels.

        index: index of the parameter in the list of all sizes and then all aspect ratios
        image_size: (height, width) of the network input in pixels
        """
        value = self.parameters()[index]
        if index >= len(self.sizes):
            return ASPECT_RATIO_RANGE[0] <= value <= ASPECT_RATIO_RANGE[1]
        low, high = (2.0, 2.0 * max(image_size)) if self.in_pixels else (0.01, 1.0)
        if index > 0:
            low = max(low, MIN_SIZE_RATIO * self.sizes[index - 1])
        if index + 1 < len(self.sizes):
            high = min(high, self.sizes[index + 1] / MIN_SIZE_RATIO)
        return low <= value <= high


def fit_default_boxes(
    ground_truth: GroundTruth, cfg: Config, ratios_per_level: Sequence[int] | None = None
) -> AnchorSettings:
    """Search for the default box settings with the highest objective on the given ground-truth boxes.

    ground_truth: ground truth with at least one box
    cfg: Config of a recipe with `anchors: default`
    ratios_per_level: number of aspect ratios for each feature level; None to keep the numbers in the recipe
    Returns settings with three significant digits. The search result that started from the recipe is returned, unless
    the result of another start has an objective that is higher by more than MIN_TOTAL_GAIN.
    """
    boxes_yxyx, weights = _sample_boxes(ground_truth)
    climber = _HillClimber(boxes_yxyx, weights, cfg)
    optima = [climber.climb(settings) for settings in _initial_settings(ground_truth, cfg, ratios_per_level)]
    from_recipe, best = optima[0], max(optima, key=lambda candidate: candidate.objective)
    is_clearly_better = best.objective > from_recipe.objective + MIN_TOTAL_GAIN
    return best.settings if is_clearly_better else from_recipe.settings


def create_anchors_with(cfg: Config, settings: AnchorSettings | None) -> Anchors:
    """Create the anchors of a recipe with new settings.

    settings: new settings, or None for the settings of the recipe
    """
    return create_anchors(cfg.model_copy(update=settings.recipe_keys()) if settings else cfg)


def compute_objective(best_ious: np.ndarray, labels: np.ndarray, match_threshold: float) -> float:
    """Compute the objective of the search, the weighted mean of the reward for the highest IoU of each box.

    best_ious: (N,), highest IoU of each ground-truth box with any anchor
    labels: (N,), class index of each box
    match_threshold: IoU threshold of the recipe, above which a box is recalled
    """
    return float(_box_weights(labels) @ _reward(best_ious, match_threshold))


def is_better(before: np.ndarray, after: np.ndarray, labels: np.ndarray, match_threshold: float) -> bool:
    """Return True if new anchors improve the objective by more than MIN_TOTAL_GAIN, and reduce recall by at most
    MAX_RECALL_LOSS.

    before: (N,), highest IoU of each ground-truth box with any of the old anchors
    after: (N,), highest IoU of each ground-truth box with any of the new anchors
    labels: (N,), class index of each box
    match_threshold: IoU threshold of the recipe, above which a box is recalled
    """
    recall_loss = (before > match_threshold).mean() - (after > match_threshold).mean()
    gain_needed = compute_objective(before, labels, match_threshold) + MIN_TOTAL_GAIN
    return compute_objective(after, labels, match_threshold) > gain_needed and recall_loss <= MAX_RECALL_LOSS


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """Settings with their objective, and intermediate results that the next step reuses for unchanged levels.

    settings: settings of the default boxes
    objective: value of the objective for these settings
    shapes_hw: for each of L feature levels (S, 2), heights and widths of the anchors as fractions of the image
    best_ious: (M, L), highest IoU of each sampled box with the anchors of each level
    """

    settings: AnchorSettings
    objective: float
    shapes_hw: list[np.ndarray]
    best_ious: np.ndarray


class _HillClimber:
    """Hill climb that maximizes the objective by changing one parameter at a time.

    boxes_yxyx: (M, 4) corners (y0, x0, y1, x1) of ground-truth boxes, as fractions of image height and width
    weights: (M,), weight of each box in the objective; the sum is 1
    cfg: Config of the recipe, which defines the anchor locations
    """

    def __init__(self, boxes_yxyx: np.ndarray, weights: np.ndarray, cfg: Config):
        self.weights = weights
        self.cfg = cfg
        self.shape_iou = ShapeIoU(boxes_yxyx, create_anchors(cfg))
        # Anchor shapes do not depend on locations, so a single location per level is enough to compute the shapes.
        self.one_location_cfg = cfg.model_copy(update={"steps": (max(cfg.image_size),) * len(cfg.steps)})

    def climb(self, settings: AnchorSettings) -> _Candidate:
        """Climb from the given settings to a local optimum of the objective, and return the optimum."""
        shapes_hw = self.shapes_of(settings)
        best_ious = np.stack([self.shape_iou.best(level, shapes) for level, shapes in enumerate(shapes_hw)], axis=1)
        candidate = _Candidate(settings, self.objective(best_ious), shapes_hw, best_ious=best_ious)
        for factor in STEP_FACTORS:
            previous = -math.inf
            while candidate.objective > previous:
                previous = candidate.objective
                for index in range(len(settings.parameters())):
                    candidate = self.try_step(candidate, index, factor)
        return candidate

    def try_step(self, candidate: _Candidate, index: int, factor: float) -> _Candidate:
        """Multiply or divide one parameter by a factor, if that increases the objective by MIN_STEP_GAIN.

        candidate: current settings
        index: index of the parameter in the list of all sizes and then all aspect ratios
        factor: number above 1
        Returns the new candidate, or the given candidate if neither change is an improvement.
        """
        value = candidate.settings.parameters()[index]
        for new_value in (value * factor, value / factor):
            settings = candidate.settings.with_parameter(index, new_value)
            if not settings.is_valid_at(index, self.cfg.image_size):
                continue
            shapes_hw, best_ious = self.shapes_of(settings), candidate.best_ious.copy()
            for level, (old_shapes, shapes) in enumerate(zip(candidate.shapes_hw, shapes_hw)):
                if not np.array_equal(old_shapes, shapes):
                    best_ious[:, level] = self.shape_iou.best(level, shapes)
            objective = self.objective(best_ious)
            if objective > candidate.objective + MIN_STEP_GAIN:
                return _Candidate(settings, objective, shapes_hw, best_ious=best_ious)
        return candidate

    def shapes_of(self, settings: AnchorSettings) -> list[np.ndarray]:
        """Return heights and widths of the anchors for each level, (S, 2) as fractions of image height and width."""
        return anchor_shapes(create_anchors_with(self.one_location_cfg, settings))

    def objective(self, best_ious: np.ndarray) -> float:
        """Compute the objective on the sampled boxes.

        best_ious: (M, L), highest IoU of each box with the anchors of each level
        """
        return float(self.weights @ _reward(best_ious.max(axis=1), self.cfg.match_threshold))


def _reward(ious: np.ndarray, match_threshold: float) -> np.ndarray:
    """Compute the reward for each IoU: multiply the part above match_threshold + REWARD_MARGIN by REWARD_SLOPE.

    ious: IoU values of any shape
    Returns an array of the same shape.
    """
    capped = np.minimum(ious, match_threshold + REWARD_MARGIN)
    return capped + REWARD_SLOPE * (ious - capped)


def _box_weights(labels: np.ndarray) -> np.ndarray:
    """Compute the weight of each box in the objective, shape (N,) with sum 1.

    labels: (N,), class index of each box
    Half of the total weight is distributed evenly over all boxes. The other half is distributed evenly over the
    classes, and within each class evenly over its boxes.
    """
    _, class_index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return 0.5 / len(labels) + 0.5 / (len(counts) * counts[class_index])


def _sample_boxes(ground_truth: GroundTruth) -> tuple[np.ndarray, np.ndarray]:
    """Sample ground-truth boxes for the search, evenly over the sorted box areas of each class.

    Returns boxes_yxyx (M, 4), corners as fractions of image height and width, and weights (M,) with sum 1. Each class
    has the same total weight in the sample as in the whole dataset. The sample does not depend on the order of the
    boxes.
    """
    areas = (ground_truth.boxes_yxyx[:, 2:] - ground_truth.boxes_yxyx[:, :2]).prod(axis=1)
    order = np.lexsort((*ground_truth.boxes_yxyx.T, areas, ground_truth.labels))
    labels = ground_truth.labels[order]
    box_weights = _box_weights(labels)
    _, class_starts, class_counts = np.unique(labels, return_index=True, return_counts=True)
    rows, weights = [], []
    for start, count in zip(class_starts, class_counts):
        share = max(SAMPLE_SIZE / len(class_counts), SAMPLE_SIZE * count / len(labels))
        chosen = start + np.linspace(0, count - 1, min(count, math.ceil(share))).round().astype(int)
        rows.append(order[chosen])
        weights.append(np.full(len(chosen), box_weights[start] * count / len(chosen)))
    return ground_truth.boxes_yxyx[np.concatenate(rows)], np.concatenate(weights)


def _initial_settings(
    ground_truth: GroundTruth, cfg: Config, ratios_per_level: Sequence[int] | None
) -> Iterator[AnchorSettings]:
    """Yield the initial settings of the search: the settings of the recipe, then sizes from quantiles of box sizes.

    ratios_per_level: number of aspect ratios for each feature level; None for the numbers in the recipe
    If `ratios_per_level` differs from the recipe, the lists of aspect ratios are shortened or extended. All yielded
    settings have the same number of aspect ratios at each level.
    """
    ratios = tuple(tuple(ratios) for ratios in cfg.aspect_ratios)
    if ratios_per_level is not None:
        longer = [(*own, *(ratio for ratio in (2.0, 3.0, 1.5, 4.0) if ratio not in own)) for own in ratios]
        ratios = tuple(own[:count] for own, count in zip(longer, ratios_per_level))
    box_sides = np.sqrt(ground_truth.sizes_hw(cfg.image_size).prod(axis=1))
    num_levels, image_side = len(cfg.steps), math.sqrt(math.prod(cfg.image_size))
    if cfg.box_sizes is None and ratios_per_level is None:
        yield AnchorSettings((cfg.min_scale, cfg.max_scale), ratios, in_pixels=False)
        low, high = np.clip(np.quantile(box_sides, (0.02, 0.98)) / image_side, 0.01, 0.95).tolist()
        yield AnchorSettings((_round(low), _round(max(high, MIN_SIZE_RATIO * low))), ratios, in_pixels=False)
        if not ratios[0]:  # with box_sizes, the first level would have two squares instead of three boxes
            return
    scales = np.linspace(cfg.min_scale, cfg.max_scale, num_levels).tolist()
    recipe_sizes = cfg.box_sizes or [*(_round(scale * image_side) for scale in scales), image_side]
    yield AnchorSettings(tuple(recipe_sizes), ratios, in_pixels=True)
    sizes: list[float] = []
    for quantile in np.quantile(box_sides, np.linspace(0.02, 0.98, num_levels + 1)).tolist():
        sizes.append(_round(max(quantile, 4.0, 1.1 * sizes[-1] if sizes else 0)))
    yield AnchorSettings(tuple(sizes), ratios, in_pixels=True)


def _round(value: float) -> float:
    """Round a value to three significant digits."""
    return float(f"{value:.3g}")
