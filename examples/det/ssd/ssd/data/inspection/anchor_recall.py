"""Find the ground-truth boxes that no anchor recalls, and explain why the boxes are not recalled."""

from __future__ import annotations

import dataclasses

import numpy as np

from ...boxes.ops import pairwise_iou

CHUNK_SIZE = 100  # boxes compared with all anchors at a time, to limit the memory


@dataclasses.dataclass(frozen=True)
class AnchorSet:
    """The anchors of a recipe. A box is recalled if its IoU with at least one anchor is greater than min_iou.

    anchors_yxyx: (A, 4) anchors as fractions 0..1 of the image height and width
    image_size: (height, width) of the network's input in pixels
    min_iou: match threshold of training, 0..1
    """

    anchors_yxyx: np.ndarray
    image_size: tuple[int, int]
    min_iou: float = 0.5


def not_recalled(boxes_yxyx: np.ndarray, anchor_set: AnchorSet) -> np.ndarray:
    """Find the boxes that no anchor recalls.

    boxes_yxyx: (N, 4) fractions 0..1 of the image height and width

    Returns (N,) bool, True if no anchor recalls the box. 1 minus the mean of the result is the best
    possible recall of a detector with these anchors.
    """
    chunks = [boxes_yxyx[start : start + CHUNK_SIZE] for start in range(0, len(boxes_yxyx), CHUNK_SIZE)]
    best_ious = [pairwise_iou(chunk, anchor_set.anchors_yxyx).max(axis=1) for chunk in chunks]
    return np.concatenate([np.zeros(0), *best_ious]) <= anchor_set.min_iou


def too_small_or_elongated(boxes_yxyx: np.ndarray, anchor_set: AnchorSet) -> tuple[np.ndarray, np.ndarray]:
    """Find the boxes that are too small or too elongated to be recalled by any anchor at any position.

    boxes_yxyx: (N, 4) fractions 0..1 of the image height and width

    Returns
        too_small: (N,) bool, True if the area of the box is too small
        too_elongated: (N,) bool, True if the aspect ratio of the box is too small or too large
    """
    min_area, min_ratio, max_ratio = _recall_limits(anchor_set)
    areas, ratios = _areas_and_ratios(boxes_yxyx, anchor_set.image_size)
    return areas < min_area, (ratios < min_ratio) | (ratios > max_ratio)


def reasons_for_missed_boxes(missed_yxyx: np.ndarray, anchor_set: AnchorSet) -> list[str]:
    """Explain why boxes are not recalled, and which recipe keys to change. Returns one text per reason.

    missed_yxyx: (N, 4) boxes that no anchor recalls, as fractions 0..1 of the image height and width; N >= 1
    """
    too_small, too_elongated = too_small_or_elongated(missed_yxyx, anchor_set)
    min_area, min_ratio, max_ratio = _recall_limits(anchor_set)
    height, width = anchor_set.image_size
    min_side = np.sqrt(min_area)
    return [
        f"{too_small.mean():.0%} of the missed boxes are too small for every anchor: below "
        f"{min_side:.0f}x{min_side:.0f} pixels at an image size of {width}x{height}. A larger image_size or smaller "
        "anchors help",
        f"{too_elongated.mean():.0%} of the missed boxes are too elongated for every anchor: the aspect ratio "
        f"(width / height) is below {min_ratio:.2f} or above {max_ratio:.2f}. More aspect_ratios help",
        f"{(~too_small & ~too_elongated).mean():.0%} of the missed boxes are between the sizes and positions of "
        "anchors, or are larger than all anchors",
    ]


def _recall_limits(anchor_set: AnchorSet) -> tuple[float, float, float]:
    """Compute the minimum area and the minimum and maximum aspect ratio of boxes that an anchor can recall.

    If two boxes have IoU t, their areas differ by a factor of at most 1 / t. If their aspect ratios differ by a factor
    q, their IoU is at most 1 / (2 sqrt(q) - 1), the IoU at equal areas and centers. So q <= ((1 + 1 / t) / 2)^2.

    Returns (area in pixels of the network's input, minimum width / height, maximum width / height).
    """
    areas, ratios = _areas_and_ratios(anchor_set.anchors_yxyx, anchor_set.image_size)
    max_factor = ((1 + 1 / anchor_set.min_iou) / 2) ** 2
    return areas.min() * anchor_set.min_iou, ratios.min() / max_factor, ratios.max() * max_factor


def _areas_and_ratios(boxes_yxyx: np.ndarray, image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Compute the areas and aspect ratios of boxes.

    boxes_yxyx: (N, 4) fractions 0..1 of the image height and width
    image_size: (height, width) of the network's input in pixels

    Returns
        areas: (N,) in pixels of the network's input
        ratios: (N,) width / height
    """
    heights, widths = ((boxes_yxyx[:, 2:] - boxes_yxyx[:, :2]).astype(np.float64) * image_size).T
    return heights * widths, widths / heights
