"""Training targets in the graph, with static shapes: the same as boxes/matcher.py and boxes/coder.py, for a whole batch."""

from __future__ import annotations

from typing import Sequence

import mindspore as ms
import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops

from ..boxes.coder import MIN_SIZE_RATIO
from ..boxes.matcher import CLAIM_ROUNDS, CLAIMED


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
        claim_rounds: int = CLAIM_ROUNDS,
    ):
        super().__init__()
        self.anchor_centers, self.anchor_sizes = Tensor(anchors_cyxhw[:, :2]), Tensor(anchors_cyxhw[:, 2:])
        self.anchor_sides = [Tensor(side) for side in np.ascontiguousarray(anchors_yxyx.T)]  # y0, x0, y1, x1, (A,) each
        self.anchor_area = Tensor(np.prod(anchors_yxyx[:, 2:] - anchors_yxyx[:, :2], axis=-1))
        self.anchor_index = Tensor(np.arange(len(anchors_cyxhw), dtype=np.int32))
        self.threshold = threshold
        self.center_scale, self.size_scale = prior_scaling
        self.claim_rounds = claim_rounds

    def construct(self, boxes_yxyx: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """boxes_yxyx: (B, M, 4) 0..1; labels: (B, M) int32, 0 = padding
        -> target_offsets (B, A, 4), 0 for background; target_labels (B, A) int32, 0 = background"""
        is_object = labels > 0
        quality = ops.select(
            ops.broadcast_to(is_object.expand_dims(2), (-1, -1, self.anchor_index.shape[0])),
            self._iou(boxes_yxyx),
            Tensor(-1.0, ms.float32),
        )  # (B, M, A), -1 for padding
        quality = ops.select(self._claims(quality, is_object), Tensor(CLAIMED, ms.float32), quality)
        best_quality, best_object = ops.max(quality, axis=1)  # (B, A)
        is_positive = best_quality > self.threshold

        best_object = best_object.astype("int32")
        boxes = ops.gather(boxes_yxyx, best_object, 1, 1)  # (B, A, 4)
        target_labels = ops.gather(labels, best_object, 1, 1) * is_positive.astype("int32")
        target_offsets = self._encode(boxes) * is_positive.expand_dims(2).astype("float32")
        return target_offsets, target_labels

    def _iou(self, boxes_yxyx: Tensor) -> Tensor:
        """boxes_yxyx: (B, M, 4) -> (B, M, A). Side by side, which never makes a (B, M, A, 2) tensor."""
        y0, x0, y1, x1 = ops.split(boxes_yxyx, 1, axis=2)  # (B, M, 1) each
        anchor_y0, anchor_x0, anchor_y1, anchor_x1 = self.anchor_sides
        height = ops.maximum(ops.minimum(y1, anchor_y1) - ops.maximum(y0, anchor_y0), 0.0)
        width = ops.maximum(ops.minimum(x1, anchor_x1) - ops.maximum(x0, anchor_x0), 0.0)
        intersection = height * width
        return intersection / ((y1 - y0) * (x1 - x0) + self.anchor_area - intersection)

    def _claims(self, quality: Tensor, is_object: Tensor) -> Tensor:
        """Which anchor is whose own. quality: (B, M, A); is_object: (B, M) -> (B, M, A) bool, one True a row at most."""
        num_objects = quality.shape[1]
        order = ops.arange(num_objects)
        is_earlier = (order.expand_dims(0) < order.expand_dims(1)).expand_dims(0)  # (1, M, M): column before row
        waiting = is_object
        claims = quality > CLAIMED  # nothing yet
        for _ in range(self.claim_rounds):
            taken = claims.any(axis=1, keep_dims=True)  # (B, 1, A)
            overlap, anchor = ops.max(ops.select(ops.broadcast_to(taken, claims.shape), Tensor(-1.0, ms.float32), quality), axis=2)
            anchor = anchor.astype("int32")
            wants = ops.logical_and(waiting, overlap > 0)  # (B, M)
            rivals = ops.logical_and(anchor.expand_dims(2) == anchor.expand_dims(1), wants.expand_dims(1))  # (B, M, M)
            is_better = ops.logical_or(
                overlap.expand_dims(1) > overlap.expand_dims(2),
                ops.logical_and(overlap.expand_dims(1) == overlap.expand_dims(2), is_earlier),
            )
            wins = ops.logical_and(wants, ops.logical_not(ops.logical_and(rivals, is_better).any(axis=2)))
            won = ops.logical_and(self.anchor_index == anchor.expand_dims(2), wins.expand_dims(2))  # (B, M, A)
            claims = ops.logical_or(claims, won)
            waiting = ops.logical_and(waiting, ops.logical_not(wins))
        return claims

    def _encode(self, boxes_yxyx: Tensor) -> Tensor:
        """boxes_yxyx: (B, A, 4) -> offsets (B, A, 4), as BoxCoder.encode."""
        low, high = boxes_yxyx[..., :2], boxes_yxyx[..., 2:]
        centers = ((low + high) / 2 - self.anchor_centers) / (self.anchor_sizes * self.center_scale)
        sizes = ops.log(ops.maximum((high - low) / self.anchor_sizes, MIN_SIZE_RATIO)) / self.size_scale
        return ops.concat((centers, sizes), axis=2)


def create_assigner(cfg, anchors) -> TargetAssigner:
    """The target assignment of a recipe. cfg: Config; anchors: boxes.anchors object."""
    return TargetAssigner(anchors.boxes_cyxhw, anchors.boxes_yxyx, cfg.match_threshold, cfg.prior_scaling)
