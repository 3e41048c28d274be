"""Match anchors to ground-truth boxes by the detector's own predictions: task-aligned assignment."""

from __future__ import annotations

import numpy as np

from .ops import pairwise_iou

# Number of positive anchors of a box, and exponents of the score and of the IoU in the alignment. The values are the
# paper's.
POSITIVES_PER_BOX = 13
SCORE_EXPONENT = 1.0
IOU_EXPONENT = 6.0
# Lower IoUs and lower logarithms of scores count as these values, so that the logarithm of the alignment is finite.
MIN_IOU = 1e-3
MIN_LOG_SCORE = -100.0


class TaskAlignedMatcher:
    """Match each anchor to at most one ground-truth box, by the assignment of TOOD (arXiv:2108.07755, section 3.3).

    The alignment of an anchor with a box is score^1 * IoU^6, where the score is that of the box's class, and the IoU is
    that of the predicted box. The candidates of a box are the anchors whose centers are inside the box. A box without
    such an anchor has one candidate, the anchor with the highest IoU. The POSITIVES_PER_BOX candidates with the highest
    alignment are positive, and candidates whose alignment equals that of the last of them. An anchor that is positive
    for several boxes is matched to the box with which its predicted box has the highest IoU. Another of these boxes may
    then have no positive anchor, for example a small box inside a large one.

    The target score of a positive anchor is its alignment, scaled so that the maximum of each box is the highest IoU of
    the box's positive anchors. So the classifier learns how well the predicted box fits.

    This NumPy class is the reference for `TaskAlignedAssigner`, which computes the same matches on the device.

    anchors_yxyx: (A, 4), corners y0, x0, y1, x1 of the anchors, in the unit of the boxes
    """

    def __init__(self, anchors_yxyx: np.ndarray):
        self.anchors_yxyx = anchors_yxyx
        self.centers = (anchors_yxyx[:, :2] + anchors_yxyx[:, 2:]) / 2

    def match(
        self, gt_boxes_yxyx: np.ndarray, gt_labels: np.ndarray, boxes_yxyx: np.ndarray, scores: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Match anchors to the ground-truth boxes of an image.

        gt_boxes_yxyx: (M, 4), corners y0, x0, y1, x1; M may be 0
        gt_labels: (M,) int, class labels 1..K-1
        boxes_yxyx: (A, 4), predicted box of each anchor
        scores: (A, K), predicted scores, 0..1
        Returns (A,) int64, the index of each anchor's ground-truth box, or -1 for background, and (A,) float, the
        target score of each anchor, 0..1.
        """
        num_anchors = len(self.anchors_yxyx)
        matches, target_scores = np.full(num_anchors, -1), np.zeros(num_anchors)
        if len(gt_boxes_yxyx) == 0:
            return matches, target_scores
        iou = pairwise_iou(gt_boxes_yxyx, boxes_yxyx)  # (M, A)
        # Logarithm of the alignment, because the powers of small numbers underflow
        log_scores = np.log(np.maximum(scores[:, gt_labels].T, np.exp(MIN_LOG_SCORE)))
        alignment = SCORE_EXPONENT * log_scores + IOU_EXPONENT * np.log(np.maximum(iou, MIN_IOU))
        is_selected = np.zeros_like(iou, dtype=bool)
        for row, candidates in enumerate(self._candidates(gt_boxes_yxyx)):
            values = alignment[row, candidates]
            last = np.sort(values)[::-1][:POSITIVES_PER_BOX][-1]
            is_selected[row, candidates[values >= last]] = True
        best_box = np.where(is_selected, iou, -1).argmax(axis=0)  # (A,)
        is_positive = is_selected.any(axis=0)
        matches[is_positive] = best_box[is_positive]
        for row in range(len(gt_boxes_yxyx)):
            own = np.flatnonzero(matches == row)
            if len(own):
                target_scores[own] = np.exp(alignment[row, own] - alignment[row, own].max()) * iou[row, own].max()
        return matches, target_scores

    def _candidates(self, gt_boxes_yxyx: np.ndarray) -> list[np.ndarray]:
        """Return the indices of the candidate anchors of each box. gt_boxes_yxyx: (M, 4)"""
        low, high = gt_boxes_yxyx[:, None, :2], gt_boxes_yxyx[:, None, 2:]
        is_inside = ((self.centers > low) & (self.centers < high)).all(axis=2)  # (M, A)
        best = pairwise_iou(gt_boxes_yxyx, self.anchors_yxyx).argmax(axis=1)  # (M,)
        return [np.flatnonzero(row) if row.any() else best[[index]] for index, row in enumerate(is_inside)]
