"""Choose random crop windows for a batch of images before the images are decoded.

All functions are deterministic: their random numbers, uniform in 0..1, are arguments with one row per image.

A crop window is (y0, x0, y1, x1) in integer pixels of its image. A window may extend beyond the image.

If a window is at least 2, 4 or 8 times as large as the network's input, the image is decoded at 1/2, 1/4 or 1/8 of its
size. The factor 2, 4 or 8 is called the scale denominator. Window corners are multiples of the scale denominator, so
that a window covers whole decoded pixels and box coordinates relative to the window stay exact.
"""

from __future__ import annotations

import numpy as np

from ..boxes.ops import pairwise_iou
from .images import SCALE_DENOMINATORS

# Random crops (SSD paper, section 2.2).
CROP_SIDE_RANGE = (0.3, 1.0)  # window side / canvas side; the minimum is 0.3 in the paper's published code
CROP_RATIO_RANGE = (0.5, 2.0)  # window height / window width
CROP_TRIALS = 50  # random windows per image; the first valid window is used


def scaled_windows(sizes: np.ndarray, jitter: float, draws: np.ndarray) -> np.ndarray:
    """Choose crop windows that show the images at random scales, with the aspect ratios of the images.

    An enlarged image is cut off at a random place. A reduced image is at a random place of its window.

    sizes: (B, 2) height and width of the images in pixels
    jitter: the scales are from 1 - jitter to 1 + jitter; 0..1, 1 excluded
    draws: (B, 3) random numbers, uniform in 0..1

    Returns (B, 4) int64, yxyx in pixels.
    """
    scales = 1 + jitter * (2 * draws[:, :1] - 1)
    sides = np.maximum(np.rint(sizes / scales), 1)
    start = np.rint((sizes - sides) * draws[:, 1:])
    return np.concatenate([start, start + sides], axis=1).astype(np.int64)


def zoom_out_canvases(sizes: np.ndarray, max_ratio: float, draws: np.ndarray) -> np.ndarray:
    """Place each image at a random position on a larger canvas (SSD paper, section 3.6).

    sizes: (B, 2) height and width of the images in pixels
    max_ratio: maximum of canvas side / image side; the minimum is 1
    draws: (B, 3) random numbers, uniform in 0..1

    Returns the canvases as crop windows, (B, 4) int64, yxyx in pixels. Each window contains the whole image.
    """
    margin = np.rint(sizes * (max_ratio - 1) * draws[:, :1])
    start = -np.rint(margin * draws[:, 1:])
    return np.concatenate([start, start + sizes + margin], axis=1).astype(np.int64)


def random_iou_crops(
    canvases: np.ndarray,
    boxes_yxyx: np.ndarray,
    labels: np.ndarray,
    min_iou: np.ndarray,
    image_size: tuple[int, int],
    draws: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose a random crop window for each image under an IoU constraint.

    A window is valid if its IoU with at least one box is min_iou or more and the window contains the center of that
    box. The aspect ratio of the window must be in CROP_RATIO_RANGE.

    canvases: (B, 4) yxyx in pixels, regions to crop from
    boxes_yxyx: (B, M, 4) ground-truth boxes in pixels
    labels: (B, M) class index 1..K-1; 0 marks padding
    min_iou: (B,) minimum IoU, 0..1
    image_size: (height, width) of the network's input in pixels
    draws: (B, CROP_TRIALS, 4) random numbers, uniform in 0..1

    Returns
        windows: (B, 4) int64, yxyx in pixels; arbitrary where found is False
        found: (B,) bool, True if one of CROP_TRIALS windows is valid; always False for an image without boxes
    """
    start, extent = canvases[:, None, :2], (canvases[:, 2:] - canvases[:, :2])[:, None]
    shares = CROP_SIDE_RANGE[0] + (CROP_SIDE_RANGE[1] - CROP_SIDE_RANGE[0]) * draws[..., :2]
    sides = shares * extent  # (B, CROP_TRIALS, 2)
    corners = start + (extent - sides) * draws[..., 2:]
    # Round inwards: an enlarged window could need a larger denominator, and its corners would not be multiples of that.
    denominators = choose_scale_denominator(sides, image_size)[..., None]
    first, last = np.ceil(corners / denominators), (corners + sides) // denominators
    windows = np.concatenate([first, last], axis=-1) * denominators
    height, width = np.moveaxis(windows[..., 2:] - windows[..., :2], -1, 0)
    overlaps = pairwise_iou(windows, boxes_yxyx) >= min_iou[:, None, None]  # (B, CROP_TRIALS, M)
    is_valid = (overlaps & contains_center(windows, boxes_yxyx) & (labels > 0)[:, None]).any(axis=-1)
    is_valid &= (height >= CROP_RATIO_RANGE[0] * width) & (height <= CROP_RATIO_RANGE[1] * width)
    first_valid = np.arange(len(is_valid)), is_valid.argmax(axis=1)
    return windows[first_valid].astype(np.int64), is_valid[first_valid]


def contains_center(windows: np.ndarray, boxes_yxyx: np.ndarray) -> np.ndarray:
    """Return whether windows contain the centers of boxes. A center on the border of a window is outside.

    windows: (…, P, 4) yxyx in pixels, P windows
    boxes_yxyx: (…, M, 4) in pixels, M boxes

    Returns (…, P, M) bool, True if the window contains the center of the box.
    """
    y0, x0, y1, x1 = np.ascontiguousarray(np.moveaxis(windows, -1, 0))[..., None]  # (…, P, 1)
    y, x = np.moveaxis(boxes_yxyx[..., :2] + boxes_yxyx[..., 2:], -1, 0)[..., None, :] / 2  # (…, 1, M)
    return (y0 < y) & (y < y1) & (x0 < x) & (x < x1)


def choose_scale_denominator(sides: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Choose the largest scale denominator at which a decoded window is still as large as the network's input.

    sides: (…, 2) height and width of windows in pixels of the full image
    image_size: (height, width) of the network's input in pixels

    Returns (…) int, one of SCALE_DENOMINATORS for each window.
    """
    scale = np.minimum(sides[..., 0] / image_size[0], sides[..., 1] / image_size[1])
    return np.array(SCALE_DENOMINATORS)[np.searchsorted(SCALE_DENOMINATORS[1:], scale, side="right")]


def align_windows(windows: np.ndarray, scale_denominators: np.ndarray) -> np.ndarray:
    """Enlarge windows until their corners are multiples of their scale denominators.

    windows: (B, 4) int64, yxyx in pixels
    scale_denominators: (B,) int, scale denominator of each window

    Returns the enlarged windows, (B, 4) int64, yxyx in pixels.
    """
    denominators = scale_denominators[:, None]
    return np.concatenate([windows[:, :2] // denominators, -(-windows[:, 2:] // denominators)], axis=1) * denominators
