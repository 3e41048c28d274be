"""Which objects the anchors of a recipe miss, and why."""

from __future__ import annotations

import dataclasses

import numpy as np

from ...boxes.ops import pairwise_iou

CHUNK = 100  # objects compared with all anchors at a time, for the sake of memory


@dataclasses.dataclass(frozen=True)
class AnchorSet:
    """What of a recipe the advice needs. anchors_yxyx: (A, 4), 0..1; image_size: (height, width) in pixels; an anchor
    reaches an object if their IoU is above min_iou"""

    anchors_yxyx: np.ndarray
    image_size: tuple[int, int]
    min_iou: float = 0.5


def not_recalled(objects_yxyx: np.ndarray, recipe: AnchorSet) -> np.ndarray:
    """(N,) bool: objects that no anchor reaches. objects_yxyx: (N, 4), 0..1"""
    parts = [objects_yxyx[start : start + CHUNK] for start in range(0, len(objects_yxyx), CHUNK)]
    best = [pairwise_iou(part, recipe.anchors_yxyx).max(axis=1) for part in parts]
    return np.concatenate([np.zeros(0), *best])[: len(objects_yxyx)] <= recipe.min_iou


def beyond_any_anchor(objects_yxyx: np.ndarray, recipe: AnchorSet) -> tuple[np.ndarray, np.ndarray]:
    """(N,) bool each: objects too small, and too long, for any anchor wherever they lie. objects_yxyx: (N, 4), 0..1"""
    small, narrow, wide = _bounds(recipe)
    areas, ratios = _shape(objects_yxyx, recipe.image_size)
    return areas < small, (ratios < narrow) | (ratios > wide)


def explain(missed_yxyx: np.ndarray, recipe: AnchorSet) -> list[str]:
    """Lines on the objects that no anchor reaches, and what helps. missed_yxyx: (N, 4), 0..1, at least one"""
    small, long = beyond_any_anchor(missed_yxyx, recipe)
    area, narrow, wide = _bounds(recipe)
    height, width = recipe.image_size
    return [
        f"of these, {small.mean():.0%} are too small for any: below {np.sqrt(area):.0f} pixels a side once the image "
        f"is {width}x{height}; a larger image_size or smaller anchors help",
        f"{long.mean():.0%} are too long for any: width over height below {narrow:.2f} or above {wide:.2f}; more "
        "aspect_ratios help",
        f"{(~small & ~long).mean():.0%} lie between the sizes and places of anchors, or are larger than all",
    ]


def _bounds(recipe: AnchorSet) -> tuple[float, float, float]:
    """The least area in pixels, the least and the greatest width over height that some anchor can reach.

    Two boxes of IoU t differ by at most 1 / t in area. If they differ by q in width over height, their IoU is best at
    equal areas and centres, 1 / (2 sqrt(q) - 1) there; so q is at most ((1 + 1 / t) / 2)^2.
    """
    areas, ratios = _shape(recipe.anchors_yxyx, recipe.image_size)
    most = ((1 + 1 / recipe.min_iou) / 2) ** 2
    return areas.min() * recipe.min_iou, ratios.min() / most, ratios.max() * most


def _shape(boxes_yxyx: np.ndarray, image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """boxes_yxyx: (N, 4), 0..1; image_size: (height, width) -> areas in its pixels, width over height; (N,) each"""
    heights, widths = ((boxes_yxyx[:, 2:] - boxes_yxyx[:, :2]).astype(np.float64) * image_size).T
    return heights * widths, widths / heights
