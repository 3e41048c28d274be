"""Encode boxes as offsets from anchors, the network's regression targets, and decode them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .ops import cyxhw_to_yxyx, yxyx_to_cyxhw

# Smallest ratio of a box's side to its anchor's side; smaller ones are raised to it, so that the logarithm is finite.
MIN_SIZE_RATIO = 1e-6


class BoxCoder:
    """Encode and decode boxes relative to anchors by the SSD paper's equation (2) (arXiv:1512.02325).

    This is the reference for `GraphBoxCoder`, which computes the same on the device.

    prior_scaling: factors of center and size offsets, which give them about unit variance (SSD's variances)
    """

    def __init__(self, prior_scaling: Sequence[float] = (0.1, 0.2)):
        self.center_scale, self.size_scale = prior_scaling

    def encode(self, boxes_yxyx: np.ndarray, anchors_cyxhw: np.ndarray) -> np.ndarray:
        """Encode boxes as offsets from anchors.

        boxes_yxyx, anchors_cyxhw: (..., 4), in the same unit
        Returns (..., 4), the scaled offsets: dy, dx, log height ratio, log width ratio.
        """
        boxes = yxyx_to_cyxhw(boxes_yxyx)
        centers = (boxes[..., :2] - anchors_cyxhw[..., :2]) / (anchors_cyxhw[..., 2:] * self.center_scale)
        sizes = np.log(np.maximum(boxes[..., 2:] / anchors_cyxhw[..., 2:], MIN_SIZE_RATIO)) / self.size_scale
        return np.concatenate([centers, sizes], axis=-1)

    def decode(self, box_offsets: np.ndarray, anchors_cyxhw: np.ndarray) -> np.ndarray:
        """Decode offsets to boxes.

        box_offsets: (..., 4), as encode returns; anchors_cyxhw: (..., 4), 0..1
        Returns boxes_yxyx (..., 4), clipped to the image, 0..1.
        """
        centers = box_offsets[..., :2] * self.center_scale * anchors_cyxhw[..., 2:] + anchors_cyxhw[..., :2]
        sizes = np.exp(box_offsets[..., 2:] * self.size_scale) * anchors_cyxhw[..., 2:]
        return np.clip(cyxhw_to_yxyx(np.concatenate([centers, sizes], axis=-1)), 0, 1)
