"""Fit the default boxes of a recipe to the ground-truth boxes of a dataset: the parts of tools/anchors.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class GroundTruth:
    """Ground-truth boxes of one split.

    boxes_yxyx: (N, 4) float64, corners in 0..1 of their image, y first
    labels: (N,) int, class of each box
    image_ids: (N,) int, image of each box
    num_images: number of images that were read, those without boxes included
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
        """Return the (N, 2) heights and widths of the boxes in pixels of the network input.

        image_size: (height, width) of the input; images are stretched to it
        """
        return (self.boxes_yxyx[:, 2:] - self.boxes_yxyx[:, :2]) * image_size
