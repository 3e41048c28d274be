"""Convert boxes between formats, and compute their areas and IoUs, in NumPy. Any unit: pixels in, pixels out."""

from __future__ import annotations

import numpy as np


def cyxhw_to_yxyx(boxes_cyxhw: np.ndarray) -> np.ndarray:
    """Convert centers and sizes to corners. boxes_cyxhw: (..., 4). Returns (..., 4) of the same dtype."""
    centers, half_sizes = boxes_cyxhw[..., :2], boxes_cyxhw[..., 2:] / 2
    return np.concatenate([centers - half_sizes, centers + half_sizes], axis=-1)


def yxyx_to_cyxhw(boxes_yxyx: np.ndarray) -> np.ndarray:
    """Convert corners to centers and sizes. boxes_yxyx: (..., 4). Returns (..., 4) of the same dtype."""
    low, high = boxes_yxyx[..., :2], boxes_yxyx[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=-1)


def xywh_to_yxyx(boxes_xywh: np.ndarray) -> np.ndarray:
    """Convert COCO's left, top, width, height to corners, y first. boxes_xywh: (..., 4). Returns (..., 4)."""
    x, y, width, height = np.moveaxis(boxes_xywh, -1, 0)
    return np.stack([y, x, y + height, x + width], axis=-1)


def yxyx_to_xywh(boxes_yxyx: np.ndarray) -> np.ndarray:
    """Convert corners, y first, to COCO's left, top, width, height. boxes_yxyx: (..., 4). Returns (..., 4)."""
    y0, x0, y1, x1 = np.moveaxis(boxes_yxyx, -1, 0)
    return np.stack([x0, y0, x1 - x0, y1 - y0], axis=-1)


def box_area(boxes_yxyx: np.ndarray) -> np.ndarray:
    """Compute the areas of boxes, 0 where a side is negative. boxes_yxyx: (..., 4). Returns (...)."""
    sides = np.maximum(boxes_yxyx[..., 2:] - boxes_yxyx[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def clip_boxes(boxes_yxyx: np.ndarray, height: float, width: float) -> np.ndarray:
    """Clip boxes to an image of the given height and width. boxes_yxyx: (..., 4). Returns (..., 4)."""
    limit = np.array([height, width, height, width], dtype=boxes_yxyx.dtype)
    return np.clip(boxes_yxyx, 0, limit)


def pairwise_iou(boxes_yxyx: np.ndarray, others_yxyx: np.ndarray) -> np.ndarray:
    """Compute the intersection over union of every box with every other box, 0 where both are empty.

    boxes_yxyx: (..., N, 4); others_yxyx: (..., A, 4)
    Returns (..., N, A).
    """
    # Compute coordinate by coordinate, because NumPy is several times slower along a last axis of length 2.
    y0, x0, y1, x1 = np.ascontiguousarray(np.moveaxis(boxes_yxyx, -1, 0))[..., None]  # (..., N, 1)
    other_y0, other_x0, other_y1, other_x1 = np.ascontiguousarray(np.moveaxis(others_yxyx, -1, 0))[
        ..., None, :
    ]  # (..., 1, A)
    heights = np.maximum(np.minimum(y1, other_y1) - np.maximum(y0, other_y0), 0)
    widths = np.maximum(np.minimum(x1, other_x1) - np.maximum(x0, other_x0), 0)
    intersection = heights * widths
    union = box_area(boxes_yxyx)[..., None] + box_area(others_yxyx)[..., None, :] - intersection
    return intersection / np.maximum(union, np.finfo(np.float32).tiny)
