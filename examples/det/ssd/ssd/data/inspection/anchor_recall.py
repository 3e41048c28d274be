"""Anchor recall: find the boxes that no anchor matches, and explain why."""

from __future__ import annotations

import dataclasses

import numpy as np

from ...boxes.ops import pairwise_iou

CHUNK_SIZE = 100  # boxes compared with all anchors at a time, to bound the memory


@dataclasses.dataclass(frozen=True)
class AnchorSet:
    """The anchors of a recipe. A box is recalled if its IoU with some anchor is above min_iou.

    anchors_yxyx: (A, 4), 0..1
    image_size: (height, width) of the network's input in pixels
    min_iou: match threshold of training
    """

    anchors_yxyx: np.ndarray
    image_size: tuple[int, int]
    min_iou: float = 0.5


def not_recalled(boxes_yxyx: np.ndarray, anchor_set: AnchorSet) -> np.ndarray:
    """Return which boxes no anchor recalls, (N,) bool. boxes_yxyx: (N, 4), 0..1

    1 minus the mean is the best possible recall of a detector with these anchors.
    """
    chunks = [boxes_yxyx[start : start + CHUNK_SIZE] for start in range(0, len(boxes_yxyx), CHUNK_SIZE)]
    best_ious = [pairwise_iou(chunk, anchor_set.anchors_yxyx).max(axis=1) for chunk in chunks]
    return np.concatenate([np.zeros(0), *best_ious]) <= anchor_set.min_iou


def too_small_or_elongated(boxes_yxyx: np.ndarray, anchor_set: AnchorSet) -> tuple[np.ndarray, np.ndarray]:
    """Return which boxes are too small, and which are too elongated, to be recalled at any position.

    boxes_yxyx: (N, 4), 0..1

    Returns two (N,) bool arrays.
    """
    min_area, min_ratio, max_ratio = _recall_limits(anchor_set)
    areas, ratios = _areas_and_ratios(boxes_yxyx, anchor_set.image_size)
    return areas < min_area, (ratios < min_ratio) | (ratios > max_ratio)


def reasons_for_missed_boxes(missed_yxyx: np.ndarray, anchor_set: AnchorSet) -> list[str]:
    """Return sentences that say why boxes are not recalled, and which recipe keys help.

    missed_yxyx: (N, 4) boxes of not_recalled, 0..1, at least one
    """
    too_small, too_elongated = too_small_or_elongated(missed_yxyx, anchor_set)
    min_area, min_ratio, max_ratio = _recall_limits(anchor_set)
    height, width = anchor_set.image_size
    min_side = np.sqrt(min_area)
    return [
        f"of these, {too_small.mean():.0%} are too small for every anchor: below {min_side:.0f}x{min_side:.0f} pixels "
        f"at an image size of {width}x{height}. A larger image_size or smaller anchors help",
        f"{too_elongated.mean():.0%} are too elongated for every anchor: width over height below {min_ratio:.2f} or "
        f"above {max_ratio:.2f}. More aspect_ratios help",
        f"{(~too_small & ~too_elongated).mean():.0%} are between the sizes and positions of anchors, or larger than "
        "all anchors",
    ]


def _recall_limits(anchor_set: AnchorSet) -> tuple[float, float, float]:
    """Return the minimum area in pixels and the minimum and maximum width over height that some anchor can recall.

    Two boxes with IoU t differ in area by a factor of at most 1 / t. If they differ in width over height by a factor q,
    their IoU is largest at equal areas and centres, where it is 1 / (2 sqrt(q) - 1); so q <= ((1 + 1 / t) / 2)^2.
    """
    areas, ratios = _areas_and_ratios(anchor_set.anchors_yxyx, anchor_set.image_size)
    max_factor = ((1 + 1 / anchor_set.min_iou) / 2) ** 2
    return areas.min() * anchor_set.min_iou, ratios.min() / max_factor, ratios.max() * max_factor


def _areas_and_ratios(boxes_yxyx: np.ndarray, image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return areas in pixels of the input and width over height, (N,) each. boxes_yxyx: (N, 4), 0..1"""
    heights, widths = ((boxes_yxyx[:, 2:] - boxes_yxyx[:, :2]).astype(np.float64) * image_size).T
    return heights * widths, widths / heights
