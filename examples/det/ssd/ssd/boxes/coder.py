"""Boxes to and from the offsets that the network predicts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .ops import cyxhw_to_yxyx, yxyx_to_cyxhw

# Below this share of the anchor's side a box's side is taken as this, so that its logarithm stays finite.
MIN_SIZE_RATIO = 1e-6


class BoxCoder:
    """Encode boxes relative to anchors, as in the SSD paper's equation (2), and decode them again.

    prior_scaling: (centre, size) factors that bring offsets to about unit variance; published: 0.1 and 0.2
    """

    def __init__(self, prior_scaling: Sequence[float] = (0.1, 0.2)):
        self.center_scale, self.size_scale = prior_scaling

    def encode(self, boxes_yxyx: np.ndarray, anchors_cyxhw: np.ndarray) -> np.ndarray:
        """boxes_yxyx: (…, 4); anchors_cyxhw: (…, 4) -> offsets (…, 4): dy, dx, log h, log w, scaled."""
        boxes = yxyx_to_cyxhw(boxes_yxyx)
        centers = (boxes[..., :2] - anchors_cyxhw[..., :2]) / (anchors_cyxhw[..., 2:] * self.center_scale)
        sizes = np.log(np.maximum(boxes[..., 2:] / anchors_cyxhw[..., 2:], MIN_SIZE_RATIO)) / self.size_scale
        return np.concatenate([centers, sizes], axis=-1)

    def decode(self, box_offsets: np.ndarray, anchors_cyxhw: np.ndarray) -> np.ndarray:
        """box_offsets: (…, 4); anchors_cyxhw: (…, 4) -> boxes_yxyx (…, 4), clipped to the image, 0..1."""
        centers = box_offsets[..., :2] * self.center_scale * anchors_cyxhw[..., 2:] + anchors_cyxhw[..., :2]
        sizes = np.exp(box_offsets[..., 2:] * self.size_scale) * anchors_cyxhw[..., 2:]
        return np.clip(cyxhw_to_yxyx(np.concatenate([centers, sizes], axis=-1)), 0, 1)
