"""Task-aligned assignment of training targets inside the compiled graph, with static shapes."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops

from ..boxes.coder import MAX_LOG_RATIO
from ..boxes.task_aligned_matcher import IOU_EXPONENT, MIN_IOU, MIN_LOG_SCORE, POSITIVES_PER_BOX, SCORE_EXPONENT
from .box_coder import GraphBoxCoder
from .pairwise_iou import pairwise_iou

# Alignment of anchors that are no candidates. The alignments of candidates are above -200, because of MIN_LOG_SCORE.
NO_CANDIDATE = -1000.0


class TaskAlignedAssigner(nn.Cell):
    """Match ground-truth boxes to anchors by the predictions, and encode the matched boxes as regression targets.

    The NumPy class `TaskAlignedMatcher` explains the matching rules, and is the reference for them. No gradient flows
    through the targets.

    anchors_cyxhw: (A, 4) float32, center y, center x, height, width as fractions of the image height and width
    anchors_yxyx: (A, 4) float32, corners y0, x0, y1, x1 of the same anchors
    prior_scaling: (center_scale, size_scale), SSD's variances; the encoded offsets are divided by these values
    """

    def __init__(
        self, anchors_cyxhw: np.ndarray, anchors_yxyx: np.ndarray, prior_scaling: Sequence[float] = (0.1, 0.2)
    ):
        super().__init__()
        self.coder = GraphBoxCoder(anchors_cyxhw, prior_scaling)
        # Tensors y0, x0, y1, x1 of shape (A,)
        self.anchor_sides = tuple(Tensor(side) for side in np.ascontiguousarray(anchors_yxyx.T))
        self.anchor_area = Tensor(np.prod(anchors_yxyx[:, 2:] - anchors_yxyx[:, :2], axis=-1))
        center_y, center_x = np.ascontiguousarray((anchors_yxyx[:, :2] + anchors_yxyx[:, 2:]).T / 2)
        self.center_y, self.center_x = Tensor(center_y), Tensor(center_x)
        self.anchor_index = Tensor(np.arange(len(anchors_cyxhw), dtype=np.int32))
        self.num_positives = min(POSITIVES_PER_BOX, len(anchors_cyxhw))

    def construct(
        self, gt_boxes_yxyx: Tensor, gt_labels: Tensor, box_offsets: Tensor, cls_logits: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Assign target offsets, a target label and a target score to each anchor.

        gt_boxes_yxyx: (B, M, 4), corners y0, x0, y1, x1 as fractions of the image height and width
        gt_labels: (B, M) int32, class labels 1..K-1, or 0 for padding
        box_offsets: (B, A, 4), predicted scaled offsets
        cls_logits: (B, A, K), predicted class logits
        Returns target_offsets (B, A, 4), scaled offsets or 0 for background; target_labels (B, A) int32, 0 for
        background; target_scores (B, A), 0..1, 0 for background.
        """
        box_offsets, cls_logits = ops.stop_gradient(box_offsets), ops.stop_gradient(cls_logits)
        is_gt = gt_labels > 0
        gt_boxes_yxyx = gt_boxes_yxyx * is_gt.expand_dims(2).astype("float32")  # padding contains no anchor center
        iou = self._predicted_iou(gt_boxes_yxyx, box_offsets)  # (B, M, A)
        # Logarithm of the alignment, because the powers of small numbers underflow
        logits = ops.gather(cls_logits.swapaxes(1, 2), gt_labels, axis=1, batch_dims=1)  # (B, M, A)
        log_scores = -(ops.maximum(-logits, 0.0) + ops.log1p(ops.exp(-ops.abs(logits))))
        log_scores = ops.maximum(log_scores, MIN_LOG_SCORE)
        alignment = SCORE_EXPONENT * log_scores + IOU_EXPONENT * ops.log(ops.maximum(iou, MIN_IOU))

        is_candidate = self._find_candidates(gt_boxes_yxyx, is_gt)
        ranked = ops.select(is_candidate, alignment, ops.full_like(alignment, NO_CANDIDATE))
        # Gather the last value by index instead of using topk's values, because NPUs may sort in float16.
        _, index = ops.topk(ranked, self.num_positives)
        last = ops.gather_elements(ranked, 2, index[..., self.num_positives - 1 :])  # (B, M, 1)
        is_selected = ops.logical_and(is_candidate, ranked >= last)

        best_iou, best_gt = ops.max(ops.select(is_selected, iou, ops.full_like(iou, -1.0)), axis=1)  # (B, A)
        is_positive = best_iou >= ops.zeros_like(best_iou)
        best_gt = best_gt.astype("int32")
        target_scores = self._scale(alignment, iou, is_selected=is_selected, best_gt=best_gt)
        boxes_yxyx = ops.gather(gt_boxes_yxyx, best_gt, axis=1, batch_dims=1)  # (B, A, 4)
        target_labels = ops.gather(gt_labels, best_gt, axis=1, batch_dims=1) * is_positive.astype("int32")
        target_offsets = self.coder.encode(boxes_yxyx) * is_positive.expand_dims(2).astype("float32")
        return target_offsets, target_labels, target_scores

    def _predicted_iou(self, gt_boxes_yxyx: Tensor, box_offsets: Tensor) -> Tensor:
        """Compute the IoU of every ground-truth box with every predicted box.

        gt_boxes_yxyx: (B, M, 4), corners y0, x0, y1, x1 as fractions of the image height and width
        box_offsets: (B, A, 4), predicted scaled offsets
        Returns (B, M, A), IoUs 0..1.
        """
        centers, sizes = self.coder.decode_bounded(box_offsets, MAX_LOG_RATIO)
        low, high = centers - sizes / 2, centers + sizes / 2
        area = (sizes[..., 0] * sizes[..., 1]).expand_dims(1)
        corners = low[..., 0], low[..., 1], high[..., 0], high[..., 1]
        sides: tuple[Tensor, ...] = ()
        for side in corners:
            sides += (side.expand_dims(1),)
        return pairwise_iou(gt_boxes_yxyx, sides, area)

    def _find_candidates(self, gt_boxes_yxyx: Tensor, is_gt: Tensor) -> Tensor:
        """Find the anchors with centers inside each box, or else the anchor with the highest IoU.

        gt_boxes_yxyx: (B, M, 4), corners y0, x0, y1, x1 as fractions of the image height and width
        is_gt: (B, M) bool, True for ground-truth boxes, False for padding
        Returns (B, M, A) bool.
        """
        y0, x0, y1, x1 = ops.split(gt_boxes_yxyx, 1, axis=2)  # (B, M, 1) each
        # Distance of each center from the nearest side, positive inside the box, (B, M, A)
        distance_y = ops.minimum(self.center_y - y0, y1 - self.center_y)
        distance_x = ops.minimum(self.center_x - x0, x1 - self.center_x)
        distance = ops.minimum(distance_y, distance_x)
        is_inside = distance > ops.zeros_like(distance)
        _, best = ops.max(pairwise_iou(gt_boxes_yxyx, self.anchor_sides, self.anchor_area), axis=2)  # (B, M)
        is_best = self.anchor_index == best.astype("int32").expand_dims(2)
        needs_best = ops.logical_and(is_gt, ops.logical_not(is_inside.any(axis=2)))
        return ops.logical_or(is_inside, ops.logical_and(is_best, needs_best.expand_dims(2)))

    def _scale(self, alignment: Tensor, iou: Tensor, *, is_selected: Tensor, best_gt: Tensor) -> Tensor:
        """Scale alignments to target scores.

        alignment: (B, M, A), logarithm of the alignment of each box with each anchor
        iou: (B, M, A), IoU of each box with each predicted box
        is_selected: (B, M, A) bool, True for the positive anchors of a box, possibly of several boxes
        best_gt: (B, A) int32, index of the box to which a positive anchor is matched
        Returns (B, A), target scores 0..1, 0 for background.
        """
        rows = ops.arange(iou.shape[1]).astype("int32").reshape(1, -1, 1)
        is_own = ops.logical_and(is_selected, best_gt.expand_dims(1) == rows)
        own_alignment = ops.select(is_own, alignment, ops.full_like(alignment, NO_CANDIDATE))
        highest_alignment, _ = ops.max(own_alignment, axis=2, keepdims=True)  # (B, M, 1)
        highest_iou, _ = ops.max(iou * is_own.astype("float32"), axis=2, keepdims=True)
        scores = ops.exp(own_alignment - highest_alignment) * highest_iou * is_own.astype("float32")
        return ops.max(scores, axis=1)[0]
