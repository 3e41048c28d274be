"""Encode boxes as offsets from anchors, the regression targets of the detector, and decode offsets to boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .ops import cyxhw_to_yxyx, yxyx_to_cyxhw

# Lower limit of the ratio of a box's side to its anchor's side. Smaller ratios are raised to this limit before the
# logarithm, so that the logarithm is finite.
MIN_SIZE_RATIO = 1e-6
# Logarithm of the upper limit of the ratio of a predicted side to the anchor's side, for predictions that are decoded
# in training; the lower limit is the inverse. The limits prevent an overflow of exp. detectron2 and torchvision use the
# same value.
MAX_LOG_RATIO = math.log(1000 / 16)


class BoxCoder:
    """Encode boxes as offsets from anchors and decode offsets, by equation (2) of the SSD paper (arXiv:1512.02325).

    This NumPy class is the reference for `GraphBoxCoder`, which computes the same values on the device.

    prior_scaling: (center_scale, size_scale), SSD's variances. Encoding divides the center offsets and the size offsets
        by these values, so that the offsets have about unit variance.
    """

    def __init__(self, prior_scaling: Sequence[float] = (0.1, 0.2)):
        self.center_scale, self.size_scale = prior_scaling

    def encode(self, boxes_yxyx: np.ndarray, anchors_cyxhw: np.ndarray) -> np.ndarray:
        """Encode boxes as offsets from anchors.

        boxes_yxyx: (..., 4), corners y0, x0, y1, x1 in the unit of the anchors
        anchors_cyxhw: (..., 4), center y, center x, height, width
        Returns (..., 4), the scaled offsets: center y, center x, log of the height ratio, log of the width ratio.
        """
        boxes = yxyx_to_cyxhw(boxes_yxyx)
        centers = (boxes[..., :2] - anchors_cyxhw[..., :2]) / (anchors_cyxhw[..., 2:] * self.center_scale)
        sizes = np.log(np.maximum(boxes[..., 2:] / anchors_cyxhw[..., 2:], MIN_SIZE_RATIO)) / self.size_scale
        return np.concatenate([centers, sizes], axis=-1)

    def decode(self, box_offsets: np.ndarray, anchors_cyxhw: np.ndarray) -> np.ndarray:
        """Decode offsets to boxes, and clip the boxes to the image.

        box_offsets: (..., 4), scaled offsets as returned by `encode`
        anchors_cyxhw: (..., 4), center y, center x, height, width as fractions of the image height and width
        Returns (..., 4), corners y0, x0, y1, x1 as fractions of the image height and width, clipped to 0..1.
        """
        centers = box_offsets[..., :2] * self.center_scale * anchors_cyxhw[..., 2:] + anchors_cyxhw[..., :2]
        sizes = np.exp(box_offsets[..., 2:] * self.size_scale) * anchors_cyxhw[..., 2:]
        return np.clip(cyxhw_to_yxyx(np.concatenate([centers, sizes], axis=-1)), 0, 1)
