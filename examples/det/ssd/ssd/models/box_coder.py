"""Encode and decode boxes in a MindSpore graph. The NumPy reference is `ssd.boxes.coder.BoxCoder`."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops

from ..boxes.coder import MIN_SIZE_RATIO


class GraphBoxCoder(nn.Cell):
    """Encode boxes as offsets from anchors and decode offsets, by equation (2) of the SSD paper (arXiv:1512.02325).

    anchors_cyxhw: (A, 4) float32, center y, center x, height, width in any unit, which is also the unit of the boxes
    prior_scaling: (center_scale, size_scale), SSD's variances, by which the encoded offsets are divided
    """

    def __init__(self, anchors_cyxhw: np.ndarray, prior_scaling: Sequence[float] = (0.1, 0.2)):
        super().__init__()
        self.anchor_centers, self.anchor_sizes = Tensor(anchors_cyxhw[:, :2]), Tensor(anchors_cyxhw[:, 2:])
        self.center_scale, self.size_scale = prior_scaling

    def encode(self, boxes_yxyx: Tensor) -> Tensor:
        """Encode one box for each anchor.

        boxes_yxyx: (B, A, 4), corners y0, x0, y1, x1 in the unit of the anchors
        Returns (B, A, 4), the scaled offsets: center y, center x, log of the height ratio, log of the width ratio.
        """
        low, high = boxes_yxyx[..., :2], boxes_yxyx[..., 2:]
        centers = ((low + high) / 2 - self.anchor_centers) / (self.anchor_sizes * self.center_scale)
        sizes = ops.log(ops.maximum((high - low) / self.anchor_sizes, MIN_SIZE_RATIO)) / self.size_scale
        return ops.concat((centers, sizes), axis=2)

    def decode(self, box_offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Decode offsets to boxes, without clipping the boxes to the image.

        box_offsets: (B, A, 4), scaled offsets as returned by `encode`
        Returns centers (B, A, 2), y and x, and sizes (B, A, 2), height and width, in the unit of the anchors.
        """
        return self.decode_centers(box_offsets), self.scale_anchors(box_offsets[..., 2:] * self.size_scale)

    def decode_bounded(self, box_offsets: Tensor, max_log_ratio: float) -> tuple[Tensor, Tensor]:
        """Decode offsets to boxes with bounded size ratios, so that exp does not overflow.

        box_offsets: (B, A, 4), scaled offsets as returned by `encode`
        max_log_ratio: maximum absolute value of the log ratio of a box's side to its anchor's side
        Returns centers (B, A, 2), y and x, and sizes (B, A, 2), height and width, in the unit of the anchors.
        """
        log_ratios = ops.clamp(box_offsets[..., 2:] * self.size_scale, -max_log_ratio, max_log_ratio)
        return self.decode_centers(box_offsets), self.scale_anchors(log_ratios)

    def decode_centers(self, box_offsets: Tensor) -> Tensor:
        """Decode the center offsets of boxes.

        box_offsets: (B, A, 4), scaled offsets as returned by `encode`
        Returns (B, A, 2), center y and center x in the unit of the anchors.
        """
        return box_offsets[..., :2] * self.center_scale * self.anchor_sizes + self.anchor_centers

    def scale_anchors(self, log_ratios: Tensor) -> Tensor:
        """Compute box sizes by multiplying the anchors' heights and widths by exp(log_ratios).

        log_ratios: (B, A, 2), log of the height ratio and of the width ratio of box to anchor
        Returns (B, A, 2), heights and widths in the unit of the anchors.
        """
        return ops.exp(log_ratios) * self.anchor_sizes
