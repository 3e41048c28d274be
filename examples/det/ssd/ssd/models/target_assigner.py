"""Training targets in the graph, with static shapes: as boxes/matcher.py and boxes/coder.py, for a whole batch."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops

from ..boxes.matcher import FORCED_MATCH_IOU, FORCED_MATCH_ROUNDS
from .box_coder import GraphBoxCoder


class TargetAssigner(nn.Cell):
    """Match anchors to objects and encode the boxes they should predict; `Matcher` says by which rules.

    anchors_cyxhw, anchors_yxyx: (A, 4) float32; threshold: IoU; prior_scaling: of `BoxCoder`
    """

    def __init__(
        self,
        anchors_cyxhw: np.ndarray,
        anchors_yxyx: np.ndarray,
        threshold: float = 0.5,
        prior_scaling: Sequence[float] = (0.1, 0.2),
    ):
        super().__init__()
        self.coder = GraphBoxCoder(anchors_cyxhw, prior_scaling)
        self.anchor_sides = [Tensor(side) for side in np.ascontiguousarray(anchors_yxyx.T)]  # y0, x0, y1, x1, (A,) each
        self.anchor_area = Tensor(np.prod(anchors_yxyx[:, 2:] - anchors_yxyx[:, :2], axis=-1))
        self.anchor_index = Tensor(np.arange(len(anchors_cyxhw), dtype=np.int32))
        self.threshold = threshold

    def construct(self, boxes_yxyx: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """boxes_yxyx: (B, M, 4) 0..1; labels: (B, M) int32, 0 = padding
        -> target_offsets (B, A, 4), 0 for background; target_labels (B, A) int32, 0 = background"""
        is_object = labels > 0
        boxes_yxyx = boxes_yxyx * is_object.expand_dims(2).astype("float32")  # padding overlaps nothing
        quality = self._iou(boxes_yxyx)  # (B, M, A)
        is_claimed = self.anchor_index == self._forced_matches(quality, is_object).expand_dims(2)
        quality = ops.select(is_claimed, Tensor(FORCED_MATCH_IOU, ms.float32), quality)
        best_quality, best_object = ops.max(quality, axis=1)  # (B, A)
        is_positive = best_quality > self.threshold

        best_object = best_object.astype("int32")
        boxes = ops.gather(boxes_yxyx, best_object, 1, 1)  # (B, A, 4)
        target_labels = ops.gather(labels, best_object, 1, 1) * is_positive.astype("int32")
        target_offsets = self.coder.encode(boxes) * is_positive.expand_dims(2).astype("float32")
        return target_offsets, target_labels

    def _iou(self, boxes_yxyx: Tensor) -> Tensor:
        """boxes_yxyx: (B, M, 4) -> (B, M, A). Side by side, which never makes a (B, M, A, 2) tensor."""
        y0, x0, y1, x1 = ops.split(boxes_yxyx, 1, axis=2)  # (B, M, 1) each
        anchor_y0, anchor_x0, anchor_y1, anchor_x1 = self.anchor_sides
        height = ops.maximum(ops.minimum(y1, anchor_y1) - ops.maximum(y0, anchor_y0), 0.0)
        width = ops.maximum(ops.minimum(x1, anchor_x1) - ops.maximum(x0, anchor_x0), 0.0)
        intersection = height * width
        return intersection / ((y1 - y0) * (x1 - x0) + self.anchor_area - intersection)

    def _forced_matches(self, iou: Tensor, is_object: Tensor) -> Tensor:
        """The anchor that each object claims. iou: (B, M, A); is_object: (B, M) -> (B, M) int32, -1 for none."""
        order = ops.arange(iou.shape[1])
        # (1, M, M): is the column before the row
        is_earlier = (order.expand_dims(0) < order.expand_dims(1)).expand_dims(0)
        claimed = ops.full_like(is_object, -1, dtype=ms.int32)
        for _ in range(FORCED_MATCH_ROUNDS):
            is_taken = (self.anchor_index == claimed.expand_dims(2)).any(axis=1, keep_dims=True)  # (B, 1, A)
            # (B, M) each, overlap negative if all are taken
            overlap, wanted = ops.max(iou - 2.0 * is_taken.astype("float32"), axis=2)
            wanted = wanted.astype("int32")
            wants = ops.logical_and(ops.logical_and(is_object, claimed < 0), overlap > 0)
            # is_rival, is_better: (B, M, M)
            is_rival = ops.logical_and(wanted.expand_dims(2) == wanted.expand_dims(1), wants.expand_dims(1))
            is_better = ops.logical_or(
                overlap.expand_dims(1) > overlap.expand_dims(2),
                ops.logical_and(overlap.expand_dims(1) == overlap.expand_dims(2), is_earlier),
            )
            wins = ops.logical_and(wants, ops.logical_not(ops.logical_and(is_rival, is_better).any(axis=2)))
            claimed = ops.select(wins, wanted, claimed)
        return claimed


def create_assigner(cfg, anchors) -> TargetAssigner:
    """The target assignment of a recipe. cfg: Config; anchors: boxes.anchors object."""
    return TargetAssigner(anchors.boxes_cyxhw, anchors.boxes_yxyx, cfg.match_threshold, cfg.prior_scaling)
