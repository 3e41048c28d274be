"""Box operations in NumPy: format conversion, area, clipping and IoU.

Coordinates may have any unit. Results have the unit of the inputs.
"""

from __future__ import annotations

import numpy as np


def cyxhw_to_yxyx(boxes_cyxhw: np.ndarray) -> np.ndarray:
    """Convert boxes from centers and sizes to corners.

    boxes_cyxhw: (..., 4), center y, center x, height, width
    Returns (..., 4), corners y0, x0, y1, x1 of the same dtype.
    """
    centers, half_sizes = boxes_cyxhw[..., :2], boxes_cyxhw[..., 2:] / 2
    return np.concatenate([centers - half_sizes, centers + half_sizes], axis=-1)


def yxyx_to_cyxhw(boxes_yxyx: np.ndarray) -> np.ndarray:
    """Convert boxes from corners to centers and sizes.

    boxes_yxyx: (..., 4), corners y0, x0, y1, x1
    Returns (..., 4), center y, center x, height, width of the same dtype.
    """
    low, high = boxes_yxyx[..., :2], boxes_yxyx[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=-1)


def xywh_to_yxyx(boxes_xywh: np.ndarray) -> np.ndarray:
    """Convert boxes from COCO's format to corners.

    boxes_xywh: (..., 4), left, top, width, height
    Returns (..., 4), corners y0, x0, y1, x1.
    """
    x, y, width, height = np.moveaxis(boxes_xywh, -1, 0)
    return np.stack([y, x, y + height, x + width], axis=-1)


def yxyx_to_xywh(boxes_yxyx: np.ndarray) -> np.ndarray:
    """Convert boxes from corners to COCO's format.

    boxes_yxyx: (..., 4), corners y0, x0, y1, x1
    Returns (..., 4), left, top, width, height.
    """
    y0, x0, y1, x1 = np.moveaxis(boxes_yxyx, -1, 0)
    return np.stack([x0, y0, x1 - x0, y1 - y0], axis=-1)


def box_area(boxes_yxyx: np.ndarray) -> np.ndarray:
    """Compute the areas of boxes.

    boxes_yxyx: (..., 4), corners y0, x0, y1, x1
    Returns (...), the areas. The area of a box with a negative side is 0.
    """
    sides = np.maximum(boxes_yxyx[..., 2:] - boxes_yxyx[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def clip_boxes(boxes_yxyx: np.ndarray, height: float, width: float) -> np.ndarray:
    """Clip boxes to an image.

    boxes_yxyx: (..., 4), corners y0, x0, y1, x1 in the unit of height and width
    height: height of the image
    width: width of the image in the same unit
    Returns (..., 4), the clipped corners.
    """
    limit = np.array([height, width, height, width], dtype=boxes_yxyx.dtype)
    return np.clip(boxes_yxyx, 0, limit)


def pairwise_iou(boxes_yxyx: np.ndarray, others_yxyx: np.ndarray) -> np.ndarray:
    """Compute the intersection over union (IoU) of every box of one set with every box of another set.

    boxes_yxyx: (..., N, 4), corners y0, x0, y1, x1
    others_yxyx: (..., A, 4), corners y0, x0, y1, x1 in the same unit
    Returns (..., N, A), IoUs 0..1. The IoU of two boxes without area is 0.
    """
    # Compute each coordinate separately, because NumPy is several times slower along a last axis of length 2.
    y0, x0, y1, x1 = np.ascontiguousarray(np.moveaxis(boxes_yxyx, -1, 0))[..., None]  # (..., N, 1)
    other_y0, other_x0, other_y1, other_x1 = np.ascontiguousarray(np.moveaxis(others_yxyx, -1, 0))[
        ..., None, :
    ]  # (..., 1, A)
    heights = np.maximum(np.minimum(y1, other_y1) - np.maximum(y0, other_y0), 0)
    widths = np.maximum(np.minimum(x1, other_x1) - np.maximum(x0, other_x0), 0)
    intersection = heights * widths
    union = box_area(boxes_yxyx)[..., None] + box_area(others_yxyx)[..., None, :] - intersection
    return intersection / np.maximum(union, np.finfo(np.float32).tiny)
