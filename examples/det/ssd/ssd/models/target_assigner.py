"""Assign training targets to anchors inside the compiled graph, with static shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import mindspore as ms
import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops

from ..boxes.anchors import Anchors
from ..boxes.matcher import FORCED_MATCH_IOU, FORCED_MATCH_ROUNDS
from .box_coder import GraphBoxCoder
from .pairwise_iou import pairwise_iou
from .task_aligned_assigner import TaskAlignedAssigner

if TYPE_CHECKING:
    from ..config.schema import Config


class TargetAssigner(nn.Cell):
    """Match ground-truth boxes to anchors, and encode the matched boxes as regression targets.

    The NumPy class `Matcher` is the reference for the matching rules.

    anchors_cyxhw: (A, 4) float32, center y, center x, height, width as fractions of the image height and width
    anchors_yxyx: (A, 4) float32, corners y0, x0, y1, x1 of the same anchors
    threshold: IoU threshold, 0..1; an anchor is positive if its IoU with a ground-truth box is higher
    prior_scaling: (center_scale, size_scale), SSD's variances; the encoded offsets are divided by these values
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
        # Tensors y0, x0, y1, x1 of shape (A,)
        self.anchor_sides = [Tensor(side) for side in np.ascontiguousarray(anchors_yxyx.T)]
        self.anchor_area = Tensor(np.prod(anchors_yxyx[:, 2:] - anchors_yxyx[:, :2], axis=-1))
        self.anchor_index = Tensor(np.arange(len(anchors_cyxhw), dtype=np.int32))
        self.no_anchor = Tensor(-1, ms.int32)
        self.threshold = threshold

    def construct(
        self,
        gt_boxes_yxyx: Tensor,
        gt_labels: Tensor,
        box_offsets: Tensor | None = None,
        cls_logits: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Assign target offsets and a target label to each anchor.

        gt_boxes_yxyx: (B, M, 4), corners y0, x0, y1, x1 as fractions of the image height and width
        gt_labels: (B, M) int32, class labels 1..K-1, or 0 for padding
        box_offsets, cls_logits: predictions, which this assigner does not use
        Returns target_offsets (B, A, 4), scaled offsets or 0 for background, and target_labels (B, A) int32, 0 for
        background.
        """
        is_gt = gt_labels > 0
        gt_boxes_yxyx = gt_boxes_yxyx * is_gt.expand_dims(2).astype("float32")  # padding gets IoU 0 with every anchor
        iou = pairwise_iou(gt_boxes_yxyx, self.anchor_sides, self.anchor_area)  # (B, M, A)
        is_forced = self.anchor_index == self._forced_matches(iou, is_gt).expand_dims(2)
        iou = ops.select(is_forced, Tensor(FORCED_MATCH_IOU, ms.float32), iou)
        best_iou, best_gt = ops.max(iou, axis=1)  # (B, A)
        is_positive = best_iou > self.threshold

        best_gt = best_gt.astype("int32")
        boxes_yxyx = ops.gather(gt_boxes_yxyx, best_gt, axis=1, batch_dims=1)  # (B, A, 4)
        target_labels = ops.gather(gt_labels, best_gt, axis=1, batch_dims=1) * is_positive.astype("int32")
        target_offsets = self.coder.encode(boxes_yxyx) * is_positive.expand_dims(2).astype("float32")
        return target_offsets, target_labels

    def _forced_matches(self, iou: Tensor, is_gt: Tensor) -> Tensor:
        """Find a forced match for each ground-truth box: its best anchor, even if the IoU is below the threshold.

        If several boxes have the same best anchor, the box with the highest IoU gets the anchor. In the next of
        FORCED_MATCH_ROUNDS rounds, each remaining box tries its best free anchor.

        iou: (B, M, A), IoU of each ground-truth box with each anchor
        is_gt: (B, M) bool, True for ground-truth boxes, False for padding
        Returns (B, M) int32, the index of each box's anchor, or -1 if the box has no forced match.
        """
        order = ops.arange(iou.shape[1]).astype("int32")
        # (1, M, M), True where the box of the column has a lower index than the box of the row
        is_earlier = (order.expand_dims(0) < order.expand_dims(1)).expand_dims(0)
        forced = ops.full_like(is_gt, -1, dtype=ms.int32)
        for _ in range(FORCED_MATCH_ROUNDS):
            is_taken = (self.anchor_index == forced.expand_dims(2)).any(axis=1, keep_dims=True)  # (B, 1, A)
            # Best free anchor of each box, (B, M). The IoU is negative if all anchors are taken.
            best_iou, best_anchor = ops.max(iou - 2.0 * is_taken.astype("float32"), axis=2)
            best_anchor = best_anchor.astype("int32")
            # Compare with a tensor: `forced < 0` becomes the primitive LessScalar, which MindSpore's GE backend for
            # Ascend (jit level O2) cannot compile.
            needs_anchor = ops.logical_and(ops.logical_and(is_gt, forced == self.no_anchor), best_iou > 0)
            # is_rival (B, M, M) is True where the box of the column needs the same anchor as the box of the row.
            # is_better (B, M, M) is True where the box of the column has the higher IoU.
            is_rival = ops.logical_and(
                best_anchor.expand_dims(2) == best_anchor.expand_dims(1), needs_anchor.expand_dims(1)
            )
            is_better = ops.logical_or(
                best_iou.expand_dims(1) > best_iou.expand_dims(2),
                ops.logical_and(best_iou.expand_dims(1) == best_iou.expand_dims(2), is_earlier),
            )
            has_better_rival = ops.logical_and(is_rival, is_better).any(axis=2)
            wins = ops.logical_and(needs_anchor, ops.logical_not(has_better_rival))
            forced = ops.select(wins, best_anchor, forced)
        return forced


def create_assigner(cfg: Config, anchors: Anchors) -> TargetAssigner | TaskAlignedAssigner:
    """Create the target assigner of a recipe: by the IoU of boxes and anchors, or by the predictions."""
    if cfg.loss == "task_aligned":
        return TaskAlignedAssigner(anchors.boxes_cyxhw, anchors.boxes_yxyx, prior_scaling=cfg.prior_scaling)
    return TargetAssigner(
        anchors_cyxhw=anchors.boxes_cyxhw,
        anchors_yxyx=anchors.boxes_yxyx,
        threshold=cfg.match_threshold,
        prior_scaling=cfg.prior_scaling,
    )
