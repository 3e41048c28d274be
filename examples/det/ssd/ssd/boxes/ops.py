"""Conversions and overlaps of boxes in NumPy. They have no unit of their own: pixels in, pixels out."""

from __future__ import annotations

import numpy as np


def cyxhw_to_yxyx(boxes_cyxhw: np.ndarray) -> np.ndarray:
    """Centres and sizes to corners. boxes_cyxhw: (…, 4) -> (…, 4), same dtype."""
    centers, half_sizes = boxes_cyxhw[..., :2], boxes_cyxhw[..., 2:] / 2
    return np.concatenate([centers - half_sizes, centers + half_sizes], axis=-1)


def yxyx_to_cyxhw(boxes_yxyx: np.ndarray) -> np.ndarray:
    """Corners to centres and sizes. boxes_yxyx: (…, 4) -> (…, 4), same dtype."""
    low, high = boxes_yxyx[..., :2], boxes_yxyx[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=-1)


def xywh_to_yxyx(boxes_xywh: np.ndarray) -> np.ndarray:
    """COCO's left, top, width, height to corners, y first. boxes_xywh: (…, 4) -> (…, 4)."""
    x, y, w, h = np.moveaxis(boxes_xywh, -1, 0)
    return np.stack([y, x, y + h, x + w], axis=-1)


def yxyx_to_xywh(boxes_yxyx: np.ndarray) -> np.ndarray:
    """Corners, y first, to COCO's left, top, width, height. boxes_yxyx: (…, 4) -> (…, 4)."""
    y0, x0, y1, x1 = np.moveaxis(boxes_yxyx, -1, 0)
    return np.stack([x0, y0, x1 - x0, y1 - y0], axis=-1)


def box_area(boxes_yxyx: np.ndarray) -> np.ndarray:
    """Areas of boxes, 0 where a side is negative. boxes_yxyx: (…, 4) -> (…)."""
    sides = np.maximum(boxes_yxyx[..., 2:] - boxes_yxyx[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def clip_boxes(boxes_yxyx: np.ndarray, height: float, width: float) -> np.ndarray:
    """Boxes cut off at the border of an image of this height and width. boxes_yxyx: (…, 4) -> (…, 4)."""
    limit = np.array([height, width, height, width], dtype=boxes_yxyx.dtype)
    return np.clip(boxes_yxyx, 0, limit)


def pairwise_iou(boxes_yxyx: np.ndarray, others_yxyx: np.ndarray) -> np.ndarray:
    """Intersection over union of every box with every other box, 0 where both are empty.

    boxes_yxyx: (…, N, 4); others_yxyx: (…, A, 4) -> (…, N, A)
    """
    # Coordinate by coordinate: NumPy is several times slower along a last axis of two.
    y0, x0, y1, x1 = np.ascontiguousarray(np.moveaxis(boxes_yxyx, -1, 0))[..., None]  # (…, N, 1)
    v0, u0, v1, u1 = np.ascontiguousarray(np.moveaxis(others_yxyx, -1, 0))[..., None, :]  # (…, 1, A)
    heights = np.maximum(np.minimum(y1, v1) - np.maximum(y0, v0), 0)
    widths = np.maximum(np.minimum(x1, u1) - np.maximum(x0, u0), 0)
    intersection = heights * widths
    union = box_area(boxes_yxyx)[..., None] + box_area(others_yxyx)[..., None, :] - intersection
    return intersection / np.maximum(union, np.finfo(np.float32).tiny)
