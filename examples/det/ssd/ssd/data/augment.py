"""Which part of each image of a batch is seen, decided before pixels are decoded.

Everything here is a function of the batch and of random numbers in 0..1 that are handed in, a row an image.

A patch is yxyx in whole pixels of its image and may reach beyond it: what is there is filled. If it is at least 2, 4 or
8 times as large as the network's input, that is the reduction the image is decoded at, and the patch's sides are
multiples of it. So a patch is exactly the pixels that are shown, and boxes relative to it are exact too.
"""

from __future__ import annotations

import numpy as np

from ..boxes.ops import pairwise_iou
from .images import SCALE_DENOMINATORS

# Patches of a crop: side as a share of the canvas's, height over width, and how many are tried (SSD paper, section 2.2;
# the smallest share is 0.3 as in its published code).
CROP_SIDES = (0.3, 1.0)
CROP_RATIOS = (0.5, 2.0)
CROP_TRIALS = 50


def zoom_out(sizes: np.ndarray, max_ratio: float, draws: np.ndarray) -> np.ndarray:
    """Canvases with sides 1 to max_ratio times the image's, the image anywhere on them (SSD paper, section 3.6).

    sizes: (B, 2) height and width; draws: (B, 3) -> patches (B, 4) int64
    """
    spare = np.rint(sizes * (max_ratio - 1) * draws[:, :1])
    start = -np.rint(spare * draws[:, 1:])
    return np.concatenate([start, start + sizes + spare], axis=1).astype(np.int64)


def random_crop(
    canvases: np.ndarray,
    boxes_yxyx: np.ndarray,
    labels: np.ndarray,
    min_iou: np.ndarray,
    image_size: tuple[int, int],
    draws: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Patches that overlap at least one of the objects whose centre they hold by IoU >= min_iou.

    canvases: patches (B, 4); boxes_yxyx: (B, M, 4) pixels; labels: (B, M), 0 = padding; min_iou: (B,); image_size: the
    network's; draws: (B, CROP_TRIALS, 4) -> patches (B, 4) int64; whether there is one (B,): none fits where there is
    no object or none of the tried patches will do
    """
    start, extent = canvases[:, None, :2], (canvases[:, 2:] - canvases[:, :2])[:, None]
    sides = (CROP_SIDES[0] + (CROP_SIDES[1] - CROP_SIDES[0]) * draws[..., :2]) * extent  # (B, trials, 2)
    corners = start + (extent - sides) * draws[..., 2:]
    # Inwards to whole steps, so that a patch does not become too large for its steps.
    steps = choose_scale_denominator(sides, image_size)[..., None]
    patches = np.concatenate([np.ceil(corners / steps), (corners + sides) // steps], axis=-1) * steps
    height, width = np.moveaxis(patches[..., 2:] - patches[..., :2], -1, 0)
    overlaps = pairwise_iou(patches, boxes_yxyx) >= min_iou[:, None, None]  # (B, trials, M)
    fits = (overlaps & holds_center(patches, boxes_yxyx) & (labels > 0)[:, None]).any(axis=-1)
    fits &= (height >= CROP_RATIOS[0] * width) & (height <= CROP_RATIOS[1] * width)
    chosen = np.arange(len(fits)), fits.argmax(axis=1)  # the first that fits
    return patches[chosen].astype(np.int64), fits[chosen]


def holds_center(patches: np.ndarray, boxes_yxyx: np.ndarray) -> np.ndarray:
    """Which patches hold the centre of which objects. patches: (…, P, 4); boxes_yxyx: (…, M, 4) -> (…, P, M) bool"""
    y0, x0, y1, x1 = np.ascontiguousarray(np.moveaxis(patches, -1, 0))[..., None]  # (…, P, 1)
    y, x = np.moveaxis(boxes_yxyx[..., :2] + boxes_yxyx[..., 2:], -1, 0)[..., None, :] / 2  # (…, 1, M)
    return (y0 < y) & (y < y1) & (x0 < x) & (x < x1)


def choose_scale_denominator(sides: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """The largest of SCALE_DENOMINATORS at which patches are still no smaller than the network's input.

    sides: (…, 2) height and width of patches; image_size: the network's -> (…) int
    """
    scale = np.minimum(sides[..., 0] / image_size[0], sides[..., 1] / image_size[1])
    return np.array(SCALE_DENOMINATORS)[np.searchsorted(SCALE_DENOMINATORS[1:], scale, side="right")]


def align(patches: np.ndarray, reductions: np.ndarray) -> np.ndarray:
    """The smallest patches around `patches` whose sides are multiples of their reduction. patches: (B, 4) int64;
    reductions: (B,) -> (B, 4)"""
    steps = reductions[:, None]
    return np.concatenate([patches[:, :2] // steps, -(-patches[:, 2:] // steps)], axis=1) * steps
