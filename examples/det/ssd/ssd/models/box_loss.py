"""Losses of predicted boxes, one number for each anchor: of the offsets, or of the overlap of the boxes they mean."""

from __future__ import annotations

import math
from typing import Sequence

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops

from ..boxes.anchors import create_anchors

# Sides are predicted up to this factor of the anchor's, and down to its inverse, so that exp stays finite; for the
# overlap losses alone.
LARGEST_FACTOR = 1000 / 16
TINY = 1e-7


class SmoothL1(nn.Cell):
    """Smooth L1 (arXiv:1504.08083, equation 3), summed over the four offsets."""

    def __init__(self):
        super().__init__()
        self.smooth_l1 = nn.SmoothL1Loss(beta=1.0, reduction="none")

    def construct(self, box_offsets: Tensor, target_offsets: Tensor) -> Tensor:
        """box_offsets, target_offsets: (B, A, 4) -> (B, A)"""
        return self.smooth_l1(box_offsets, target_offsets).sum(axis=-1)


class OverlapLoss(nn.Cell):
    """1 - GIoU (arXiv:1902.09630) or 1 - CIoU (arXiv:1911.08287) of the predicted box with its target.

    kind: giou or ciou; anchors_cyxhw: (A, 4) float32, 0..1; image_size: (height, width), because CIoU's distances and
    shapes are those in pixels; prior_scaling: of `BoxCoder`. Boxes are not clipped to the image. The weight of CIoU's
    shape term is taken as a constant, as its authors do.
    """

    def __init__(
        self,
        kind: str,
        anchors_cyxhw: np.ndarray,
        image_size: Sequence[int],
        prior_scaling: Sequence[float] = (0.1, 0.2),
    ):
        super().__init__()
        pixels = anchors_cyxhw * np.tile(np.asarray(image_size, np.float32), 2)
        self.centers, self.sizes = Tensor(pixels[:, :2]), Tensor(pixels[:, 2:])
        self.center_scale, self.size_scale = prior_scaling
        self.limit = math.log(LARGEST_FACTOR)
        self.is_complete = kind == "ciou"

    def construct(self, box_offsets: Tensor, target_offsets: Tensor) -> Tensor:
        """box_offsets, target_offsets: (B, A, 4) -> (B, A), from 0 (equal) to 2, for CIoU to 3"""
        logs = box_offsets[..., 2:] * self.size_scale
        center = box_offsets[..., :2] * self.center_scale * self.sizes + self.centers
        size = ops.exp(ops.clamp(logs, -self.limit, self.limit)) * self.sizes
        target_center = target_offsets[..., :2] * self.center_scale * self.sizes + self.centers
        target_size = ops.exp(target_offsets[..., 2:] * self.size_scale) * self.sizes

        low, high = center - size / 2, center + size / 2
        target_low, target_high = target_center - target_size / 2, target_center + target_size / 2
        shared = ops.maximum(ops.minimum(high, target_high) - ops.maximum(low, target_low), 0.0)
        hull = ops.maximum(high, target_high) - ops.minimum(low, target_low)
        intersection = shared[..., 0] * shared[..., 1]
        union = size[..., 0] * size[..., 1] + target_size[..., 0] * target_size[..., 1] - intersection
        iou = intersection / (union + TINY)
        if not self.is_complete:
            enclosing = hull[..., 0] * hull[..., 1]
            return 1 - iou + (enclosing - union) / (enclosing + TINY)
        distance = (center - target_center).square().sum(axis=-1) / (hull.square().sum(axis=-1) + TINY)
        angle = ops.atan(target_size[..., 1] / target_size[..., 0]) - ops.atan(size[..., 1] / size[..., 0])
        shape = 4 / math.pi**2 * angle.square()
        weight = ops.stop_gradient(shape / (1 - iou + shape + TINY))
        return 1 - iou + distance + weight * shape


def create_box_loss(cfg) -> SmoothL1 | OverlapLoss:
    """The box loss of a recipe. cfg: Config."""
    if cfg.box_loss == "smooth_l1":
        return SmoothL1()
    return OverlapLoss(cfg.box_loss, create_anchors(cfg).boxes_cyxhw, cfg.image_size, cfg.prior_scaling)
