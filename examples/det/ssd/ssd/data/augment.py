"""Geometry of augmentation: choose the crop window of each image in a batch before its pixels are decoded.

All functions are deterministic: the random numbers they use, uniform in 0..1, are arguments with one row per image.

A crop window is yxyx in integer pixels of its image and may extend beyond the image. If a window is at least 2, 4 or 8
times as large as the network's input, its image is decoded at that scale denominator, and the window's corners are
multiples of the denominator. So a window is exactly the pixels that are shown, and boxes relative to it are exact too.
"""

from __future__ import annotations

import numpy as np

from ..boxes.ops import pairwise_iou
from .images import SCALE_DENOMINATORS

# Random crops (SSD paper, section 2.2): sides as a share of the canvas's, and height over width. The smallest share is
# 0.3 as in the paper's published code.
CROP_SIDE_RANGE = (0.3, 1.0)
CROP_RATIO_RANGE = (0.5, 2.0)
CROP_TRIALS = 50


def zoom_out_canvases(sizes: np.ndarray, max_ratio: float, draws: np.ndarray) -> np.ndarray:
    """Place each image at random on a canvas with sides 1 to max_ratio times its own (SSD paper, section 3.6).

    sizes: (B, 2) height and width in pixels
    draws: (B, 3) random numbers

    Returns crop windows (B, 4) int64 that contain the image.
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
    """Choose crop windows that have IoU >= min_iou with at least one box whose centre they contain.

    canvases: (B, 4) windows to crop from
    boxes_yxyx: (B, M, 4) pixels
    labels: (B, M), 0 = padding
    min_iou: (B,)
    image_size: (height, width) of the network's input
    draws: (B, CROP_TRIALS, 4) random numbers

    Returns windows (B, 4) int64 and found (B,) bool. found is False if the image has no box or no trial is valid; its
    window is then arbitrary.
    """
    start, extent = canvases[:, None, :2], (canvases[:, 2:] - canvases[:, :2])[:, None]
    shares = CROP_SIDE_RANGE[0] + (CROP_SIDE_RANGE[1] - CROP_SIDE_RANGE[0]) * draws[..., :2]
    sides = shares * extent  # (B, CROP_TRIALS, 2)
    corners = start + (extent - sides) * draws[..., 2:]
    # Round inwards: a window that grew could reach the next scale denominator, of which its corners are no multiples.
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
    """Return whether windows contain the centres of boxes; a centre on the border is outside.

    windows: (…, P, 4); boxes_yxyx: (…, M, 4), both in pixels

    Returns (…, P, M) bool.
    """
    y0, x0, y1, x1 = np.ascontiguousarray(np.moveaxis(windows, -1, 0))[..., None]  # (…, P, 1)
    y, x = np.moveaxis(boxes_yxyx[..., :2] + boxes_yxyx[..., 2:], -1, 0)[..., None, :] / 2  # (…, 1, M)
    return (y0 < y) & (y < y1) & (x0 < x) & (x < x1)


def choose_scale_denominator(sides: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Return the largest of SCALE_DENOMINATORS at which windows are at least as large as the network's input.

    sides: (…, 2) height and width of windows in pixels
    image_size: (height, width) of the network's input

    Returns (…) int.
    """
    scale = np.minimum(sides[..., 0] / image_size[0], sides[..., 1] / image_size[1])
    return np.array(SCALE_DENOMINATORS)[np.searchsorted(SCALE_DENOMINATORS[1:], scale, side="right")]


def align_windows(windows: np.ndarray, scale_denominators: np.ndarray) -> np.ndarray:
    """Enlarge windows until their corners are multiples of their scale denominators.

    windows: (B, 4) int64; scale_denominators: (B,)

    Returns (B, 4) int64.
    """
    denominators = scale_denominators[:, None]
    return np.concatenate([windows[:, :2] // denominators, -(-windows[:, 2:] // denominators)], axis=1) * denominators
