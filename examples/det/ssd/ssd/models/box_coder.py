"""Encode and decode boxes in the graph, like the NumPy reference `ssd.boxes.coder.BoxCoder`."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops

from ..boxes.coder import MIN_SIZE_RATIO


class GraphBoxCoder(nn.Cell):
    """Encode and decode boxes relative to anchors by the SSD paper's equation (2) (arXiv:1512.02325).

    anchors_cyxhw: (A, 4) float32, in any unit; boxes have the same unit
    prior_scaling: factors of center and size offsets, as in `BoxCoder`
    """

    def __init__(self, anchors_cyxhw: np.ndarray, prior_scaling: Sequence[float] = (0.1, 0.2)):
        super().__init__()
        self.anchor_centers, self.anchor_sizes = Tensor(anchors_cyxhw[:, :2]), Tensor(anchors_cyxhw[:, 2:])
        self.center_scale, self.size_scale = prior_scaling

    def encode(self, boxes_yxyx: Tensor) -> Tensor:
        """Encode a box for each anchor.

        boxes_yxyx: (B, A, 4)
        Returns (B, A, 4), the scaled offsets: dy, dx, log height ratio, log width ratio.
        """
        low, high = boxes_yxyx[..., :2], boxes_yxyx[..., 2:]
        centers = ((low + high) / 2 - self.anchor_centers) / (self.anchor_sizes * self.center_scale)
        sizes = ops.log(ops.maximum((high - low) / self.anchor_sizes, MIN_SIZE_RATIO)) / self.size_scale
        return ops.concat((centers, sizes), axis=2)

    def decode(self, box_offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Decode offsets to boxes, which are not clipped.

        box_offsets: (B, A, 4)
        Returns centers (B, A, 2), y and x, and sizes (B, A, 2), height and width.
        """
        return self.decode_centers(box_offsets), self.scale_anchors(box_offsets[..., 2:] * self.size_scale)

    def decode_bounded(self, box_offsets: Tensor, max_log_ratio: float) -> tuple[Tensor, Tensor]:
        """Decode like `decode`, with log size ratios clamped to ±max_log_ratio, so that exp does not overflow."""
        log_ratios = ops.clamp(box_offsets[..., 2:] * self.size_scale, -max_log_ratio, max_log_ratio)
        return self.decode_centers(box_offsets), self.scale_anchors(log_ratios)

    def decode_centers(self, box_offsets: Tensor) -> Tensor:
        """Decode the centers alone. box_offsets: (B, A, 4). Returns (B, A, 2), y and x."""
        return box_offsets[..., :2] * self.center_scale * self.anchor_sizes + self.anchor_centers

    def scale_anchors(self, log_ratios: Tensor) -> Tensor:
        """Multiply the anchors' heights and widths by exp(log_ratios). log_ratios: (B, A, 2). Returns (B, A, 2)."""
        return ops.exp(log_ratios) * self.anchor_sizes
