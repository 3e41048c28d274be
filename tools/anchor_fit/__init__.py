"""Modules of tools/anchors.py, which fits the default boxes of a recipe to the ground-truth boxes of a dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class GroundTruth:
    """Ground-truth boxes of one split.

    boxes_yxyx: (N, 4) float64 corners (y0, x0, y1, x1), as fractions of image height and width
    labels: (N,) int class indices, 1..K-1
    image_ids: (N,) int ids of the images that contain the boxes
    num_images: number of images that were read, including images without boxes
    split_images: number of images in the whole split
    """

    boxes_yxyx: np.ndarray
    labels: np.ndarray
    image_ids: np.ndarray
    num_images: int
    split_images: int

    def __len__(self) -> int:
        return len(self.labels)

    def sizes_hw(self, image_size: Sequence[int]) -> np.ndarray:
        """Return the heights and widths of the boxes in pixels of the network input, shape (N, 2).

        image_size: (height, width) in pixels of the network input, to which images are stretched
        """
        return (self.boxes_yxyx[:, 2:] - self.boxes_yxyx[:, :2]) * image_size
