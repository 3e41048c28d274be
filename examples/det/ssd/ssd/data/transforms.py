"""Augmentation and resizing in uint8 on the host. Boxes follow the pixels; all randomness is the given generator's."""

from __future__ import annotations

from typing import Sequence

import cv2
import numpy as np

from ..boxes.ops import clip_boxes, pairwise_iou

# Patches of a crop: side as a share of the image's, height over width, and how many are tried (SSD paper, section 2.2;
# the smallest share is 0.3 as in its published code).
CROP_SIDES = (0.3, 1.0)
CROP_RATIOS = (0.5, 2.0)
CROP_TRIALS = 50


def random_crop(
    image: np.ndarray, boxes_yxyx: np.ndarray, labels: np.ndarray, min_iou: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut out a patch that overlaps at least one of the objects whose centre it holds by IoU >= min_iou.

    image: (H, W, 3); boxes_yxyx: (M, 4) pixels; labels: (M,) -> the same of the patch, with the objects whose centre is
    in it, clipped to it. All is returned unchanged if there is no object or none of the tried patches will do.
    """
    if len(boxes_yxyx) == 0:
        return image, boxes_yxyx, labels
    height, width = image.shape[:2]
    sides = rng.uniform(*CROP_SIDES, size=(CROP_TRIALS, 2)) * (height, width)
    corners = rng.uniform(size=(CROP_TRIALS, 2)) * ((height, width) - sides)
    patches = np.concatenate([corners, corners + sides], axis=1).astype(np.int64)  # yxyx, whole pixels
    sides = patches[:, 2:] - patches[:, :2]
    ratios = sides[:, 0] / np.maximum(sides[:, 1], 1)
    centers = (boxes_yxyx[:, :2] + boxes_yxyx[:, 2:]) / 2
    holds = ((patches[:, None, :2] < centers) & (centers < patches[:, None, 2:])).all(axis=2)  # (trials, M)
    fits = (holds & (pairwise_iou(patches.astype(np.float32), boxes_yxyx) >= min_iou)).any(axis=1)
    fits &= (ratios >= CROP_RATIOS[0]) & (ratios <= CROP_RATIOS[1])
    if not fits.any():
        return image, boxes_yxyx, labels
    chosen = int(np.argmax(fits))
    y0, x0, y1, x1 = patches[chosen]
    kept = holds[chosen]
    shifted = boxes_yxyx[kept] - np.array([y0, x0, y0, x0], dtype=boxes_yxyx.dtype)
    return image[y0:y1, x0:x1], clip_boxes(shifted, y1 - y0, x1 - x0), labels[kept]


def flip(image: np.ndarray, boxes_yxyx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mirror left to right. image: (H, W, 3); boxes_yxyx: (M, 4) pixels"""
    y0, x0, y1, x1 = np.moveaxis(boxes_yxyx, -1, 0)
    width = image.shape[1]
    return cv2.flip(image, 1), np.stack([y0, width - x1, y1, width - x0], axis=-1)


def adjust_color(image: np.ndarray, brightness: float, contrast: float, saturation: float) -> np.ndarray:
    """Brightness, contrast about the mean grey, then saturation, by factors; 1 changes nothing.

    image: (H, W, 3) uint8 RGB
    """
    mean = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean() * brightness
    values = np.arange(256) * (brightness * contrast) + (1 - contrast) * mean
    image = cv2.LUT(image, np.clip(np.rint(values), 0, 255).astype(np.uint8))
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, saturation, grey, 1 - saturation, 0)


def resize(image: np.ndarray, image_size: Sequence[int]) -> np.ndarray:
    """image: (H, W, 3) -> (*image_size, 3), stretched, bilinear as published"""
    height, width = image_size
    return cv2.resize(image, (width, height))


def pad_objects(boxes_yxyx: np.ndarray, labels: np.ndarray, max_boxes: int) -> tuple[np.ndarray, np.ndarray]:
    """boxes_yxyx: (M, 4); labels: (M,), M <= max_boxes -> (max_boxes, 4) float32 and (max_boxes,) int32, zero padded"""
    boxes = np.zeros((max_boxes, 4), dtype=np.float32)
    boxes[: len(boxes_yxyx)] = boxes_yxyx
    padded = np.zeros(max_boxes, dtype=np.int32)
    padded[: len(labels)] = labels
    return boxes, padded
