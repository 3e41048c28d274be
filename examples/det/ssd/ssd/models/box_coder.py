"""Encode and decode boxes in the graph. `ssd.boxes.coder.BoxCoder` is the NumPy oracle that tests hold it against."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops

from ..boxes.coder import MIN_SIZE_RATIO


class GraphBoxCoder(nn.Cell):
    """The SSD paper's equation (2) and its inverse, for boxes relative to anchors.

    anchors_cyxhw: (A, 4) float32; any unit, which is then the unit of all boxes
    prior_scaling: (center, size) factors, as in `BoxCoder`
    """

    def __init__(self, anchors_cyxhw: np.ndarray, prior_scaling: Sequence[float] = (0.1, 0.2)):
        super().__init__()
        self.anchor_centers, self.anchor_sizes = Tensor(anchors_cyxhw[:, :2]), Tensor(anchors_cyxhw[:, 2:])
        self.center_scale, self.size_scale = prior_scaling

    def encode(self, boxes_yxyx: Tensor) -> Tensor:
        """boxes_yxyx: (B, A, 4) -> offsets (B, A, 4): dy, dx, log h, log w, scaled."""
        low, high = boxes_yxyx[..., :2], boxes_yxyx[..., 2:]
        centers = ((low + high) / 2 - self.anchor_centers) / (self.anchor_sizes * self.center_scale)
        sizes = ops.log(ops.maximum((high - low) / self.anchor_sizes, MIN_SIZE_RATIO)) / self.size_scale
        return ops.concat((centers, sizes), axis=2)

    def decode(self, box_offsets: Tensor) -> tuple[Tensor, Tensor]:
        """box_offsets: (B, A, 4) -> centers (B, A, 2) as y, x and sizes (B, A, 2) as height, width; not clipped."""
        return self.decode_centers(box_offsets), self.scale_anchors(box_offsets[..., 2:] * self.size_scale)

    def decode_bounded(self, box_offsets: Tensor, max_log_ratio: float) -> tuple[Tensor, Tensor]:
        """As decode, with sides limited to exp(±max_log_ratio) times the anchor's, so that exp stays finite."""
        log_ratios = ops.clamp(box_offsets[..., 2:] * self.size_scale, -max_log_ratio, max_log_ratio)
        return self.decode_centers(box_offsets), self.scale_anchors(log_ratios)

    def decode_centers(self, box_offsets: Tensor) -> Tensor:
        """box_offsets: (B, A, 4) -> (B, A, 2) as y, x"""
        return box_offsets[..., :2] * self.center_scale * self.anchor_sizes + self.anchor_centers

    def scale_anchors(self, log_ratios: Tensor) -> Tensor:
        """log_ratios: (B, A, 2) logarithms of box sides over anchor sides -> (B, A, 2) height, width"""
        return ops.exp(log_ratios) * self.anchor_sizes
