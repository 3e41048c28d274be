"""Search for sizes and aspect ratios of default boxes that overlap the ground-truth boxes of a dataset better.

The objective is a weighted mean of each box's best IoU. IoU beyond match_threshold + REWARD_MARGIN counts a tenth, so
that boxes that are recalled anyway do not improve at the cost of boxes that are not. Half of the weight is spread
evenly over boxes, half over classes and then over the boxes of each class, because AP counts each class alike.

The search is a hill climb. It changes one parameter at a time by a factor, and repeats with smaller factors as long as
the objective rises. It starts from the recipe's values and from quantiles of the box sizes, and is deterministic.
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

REWARD_MARGIN = 0.1  # IoU above match_threshold up to which IoU counts in full
REWARD_SLOPE = 0.1  # weight of IoU beyond that margin
SAMPLE_SIZE = 4000  # boxes to search with; up to twice as many, so that each class keeps an equal share
STEP_FACTORS = (1.4, 1.2, 1.1, 1.05, 1.02)
MIN_STEP_GAIN = 3e-5  # in the objective, for one parameter; with less, the recipe's value stays
MIN_TOTAL_GAIN = 2e-3  # in the objective, for another start than the recipe's and for new values over the recipe's
MAX_RECALL_LOSS = 5e-3  # of the recall at match_threshold, if the objective rises all the same
ASPECT_RATIO_RANGE = (1.05, 6.0)
MIN_SIZE_RATIO = 1.05  # of each size to the one before, which keeps the levels in order


@dataclasses.dataclass(frozen=True)
class AnchorSettings:
    """Values of the recipe keys that determine the shapes of default boxes.

    sizes: box_sizes in pixels, or (min_scale, max_scale)
    aspect_ratios: one tuple per level, as in a recipe
    in_pixels: True if `sizes` holds box_sizes
    """

    sizes: tuple[float, ...]
    aspect_ratios: tuple[tuple[float, ...], ...]
    in_pixels: bool

    def recipe_keys(self) -> dict[str, Any]:
        """Return the settings as recipe keys and values."""
        ratios = [sorted(ratios) for ratios in self.aspect_ratios]
        if self.in_pixels:
            return {"box_sizes": list(self.sizes), "aspect_ratios": ratios}
        min_scale, max_scale = self.sizes
        return {"min_scale": min_scale, "max_scale": max_scale, "aspect_ratios": ratios}

    def parameters(self) -> list[float]:
        """Return all sizes and then all aspect ratios as one list."""
        return [*self.sizes, *(ratio for ratios in self.aspect_ratios for ratio in ratios)]

    def with_parameter(self, index: int, value: float) -> AnchorSettings:
        """Return a copy in which one of `parameters()` has a new value, rounded to three digits."""
        values = iter(_round(value) if i == index else old for i, old in enumerate(self.parameters()))
        sizes = tuple(next(values) for _ in self.sizes)
        aspect_ratios = tuple(tuple(next(values) for _ in ratios) for ratios in self.aspect_ratios)
        return AnchorSettings(sizes, aspect_ratios, self.in_pixels)

    def is_valid_at(self, index: int, image_size: Sequence[int]) -> bool:
        """Return True if the parameter at `index` is in its range and in order with its neighbours."""
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
    """Return the best settings found for the given boxes, rounded as they are written to a recipe.

    ground_truth: at least one box
    cfg: recipe with `anchors: default`
    ratios_per_level: number of aspect ratios of each level; None keeps the recipe's, and with it the number of anchors
    """
    boxes_yxyx, weights = _sample_boxes(ground_truth)
    climber = _HillClimber(boxes_yxyx, weights, cfg)
    optima = [climber.climb(settings) for settings in _initial_settings(ground_truth, cfg, ratios_per_level)]
    from_recipe, best = optima[0], max(optima, key=lambda candidate: candidate.objective)
    is_clearly_better = best.objective > from_recipe.objective + MIN_TOTAL_GAIN
    return best.settings if is_clearly_better else from_recipe.settings


def create_anchors_with(cfg: Config, settings: AnchorSettings | None) -> Anchors:
    """Create the anchors of a recipe with other settings. settings: None for the recipe's own"""
    return create_anchors(cfg.model_copy(update=settings.recipe_keys()) if settings else cfg)


def compute_objective(best_ious: np.ndarray, labels: np.ndarray, match_threshold: float) -> float:
    """Compute the value that the search maximises.

    best_ious: (N,), best IoU of each box with any anchor
    labels: (N,), class of each box
    """
    return float(_box_weights(labels) @ _reward(best_ious, match_threshold))


def is_better(before: np.ndarray, after: np.ndarray, labels: np.ndarray, match_threshold: float) -> bool:
    """Return True if the objective rises enough to change a recipe, at almost no loss of recall.

    before, after: (N,), best IoU of each box with the old and the new anchors
    labels: (N,), class of each box
    """
    recall_loss = (before > match_threshold).mean() - (after > match_threshold).mean()
    gain_needed = compute_objective(before, labels, match_threshold) + MIN_TOTAL_GAIN
    return compute_objective(after, labels, match_threshold) > gain_needed and recall_loss <= MAX_RECALL_LOSS


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """Settings with their objective, and the intermediate values that a step reuses for unchanged levels.

    shapes_hw: (S, 2) anchor shapes of each of L levels
    best_ious: (N, L), best IoU of each box with the anchors of each level
    """

    settings: AnchorSettings
    objective: float
    shapes_hw: list[np.ndarray]
    best_ious: np.ndarray


class _HillClimber:
    """Maximise the objective of weighted boxes by changing one parameter at a time.

    boxes_yxyx: (M, 4), corners in 0..1, y first
    weights: (M,), sum 1
    """

    def __init__(self, boxes_yxyx: np.ndarray, weights: np.ndarray, cfg: Config):
        self.weights = weights
        self.cfg = cfg
        self.shape_iou = ShapeIoU(boxes_yxyx, create_anchors(cfg))
        # Anchor shapes do not depend on locations, so they are computed with a single location per level.
        self.one_location_cfg = cfg.model_copy(update={"steps": (max(cfg.image_size),) * len(cfg.steps)})

    def climb(self, settings: AnchorSettings) -> _Candidate:
        """Return the local optimum that is reached from the given settings."""
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
        """Multiply or divide one parameter by a factor; return the candidate unchanged if neither is better."""
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
        """Return the (S, 2) anchor shapes of each level, height and width in 0..1."""
        return anchor_shapes(create_anchors_with(self.one_location_cfg, settings))

    def objective(self, best_ious: np.ndarray) -> float:
        """Compute the objective. best_ious: (M, L), best IoU of each box with the anchors of each level"""
        return float(self.weights @ _reward(best_ious.max(axis=1), self.cfg.match_threshold))


def _reward(ious: np.ndarray, match_threshold: float) -> np.ndarray:
    """Return the IoU, of which the part beyond match_threshold + REWARD_MARGIN counts REWARD_SLOPE."""
    capped = np.minimum(ious, match_threshold + REWARD_MARGIN)
    return capped + REWARD_SLOPE * (ious - capped)


def _box_weights(labels: np.ndarray) -> np.ndarray:
    """Return (N,) weights with sum 1: half spread over boxes, half over classes and then over the boxes of each."""
    _, class_index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return 0.5 / len(labels) + 0.5 / (len(counts) * counts[class_index])


def _sample_boxes(ground_truth: GroundTruth) -> tuple[np.ndarray, np.ndarray]:
    """Sample boxes of each class evenly over its sizes, in an order that does not depend on the order of the boxes.

    Returns: (M, 4) boxes and their (M,) weights, which make the sample stand for all boxes
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
    """Yield the settings to start from: the recipe's (or those closest to them), then some by quantiles of box sizes.

    All have the same number of aspect ratios at each level.
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
        if not ratios[0]:  # box_sizes would replace the three boxes of a reduced first level by two squares
            return
    scales = np.linspace(cfg.min_scale, cfg.max_scale, num_levels).tolist()
    recipe_sizes = cfg.box_sizes or [*(_round(scale * image_side) for scale in scales), image_side]
    yield AnchorSettings(tuple(recipe_sizes), ratios, in_pixels=True)
    sizes: list[float] = []
    for quantile in np.quantile(box_sides, np.linspace(0.02, 0.98, num_levels + 1)).tolist():
        sizes.append(_round(max(quantile, 4.0, 1.1 * sizes[-1] if sizes else 0)))
    yield AnchorSettings(tuple(sizes), ratios, in_pixels=True)


def _round(value: float) -> float:
    """Round to three significant digits."""
    return float(f"{value:.3g}")
