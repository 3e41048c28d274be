"""What tools/anchors.py does: reads objects, finds sizes and ratios for them, and draws what came of it."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Objects:
    """boxes_yxyx: (N, 4) float64, 0..1 of their image; labels, image_ids: (N,) int; num_images: how many were read of
    the split's all_images, those without objects included"""

    boxes_yxyx: np.ndarray
    labels: np.ndarray
    image_ids: np.ndarray
    num_images: int
    all_images: int

    def __len__(self) -> int:
        return len(self.labels)

    def sides(self, image_size) -> np.ndarray:
        """(N, 2): height and width in pixels of the input, to which images are stretched."""
        return (self.boxes_yxyx[:, 2:] - self.boxes_yxyx[:, :2]) * image_size
