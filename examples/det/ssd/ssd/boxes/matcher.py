"""Match anchors to ground-truth boxes by IoU."""

from __future__ import annotations

import numpy as np

from .ops import pairwise_iou

# Rounds in which ground-truth boxes that share a best anchor are given different ones. Boxes that have no anchor of
# their own after the last round keep only those whose IoU is above the threshold.
FORCED_MATCH_ROUNDS = 4
# Above any IoU, so that no other ground-truth box gets an anchor of a forced match.
FORCED_MATCH_IOU = 2.0


class Matcher:
    """Match each anchor to at most one ground-truth box.

    Forced matches come first: each ground-truth box gets the anchor with the highest IoU, even below the threshold
    (torchvision: low-quality matches). If two boxes share a best anchor, the one with the higher IoU gets it, or the
    one with the lower index if the IoUs are equal. The other box gets its best free anchor in the next of
    FORCED_MATCH_ROUNDS rounds. Every other anchor is matched to the box with the highest IoU, if that is above the
    threshold.

    This is the reference for `TargetAssigner`, which computes the same on the device.

    threshold: IoU above which an anchor is matched
    """

    def __init__(self, threshold: float = 0.5):
        self.threshold = threshold

    def match(self, gt_boxes_yxyx: np.ndarray, anchors_yxyx: np.ndarray) -> np.ndarray:
        """Match anchors to the ground-truth boxes of an image.

        gt_boxes_yxyx: (M, 4), M may be 0; anchors_yxyx: (A, 4), in the same unit
        Returns (A,) int64, the index of each anchor's ground-truth box, or -1 for background.
        """
        if len(gt_boxes_yxyx) == 0:
            return np.full(len(anchors_yxyx), -1)
        iou = pairwise_iou(gt_boxes_yxyx, anchors_yxyx)  # (M, A)
        for gt_index, anchor_index in self._forced_matches(iou).items():
            iou[gt_index, anchor_index] = FORCED_MATCH_IOU
        best_gt = np.argmax(iou, axis=0)  # (A,)
        return np.where(iou.max(axis=0) > self.threshold, best_gt, -1)

    def _forced_matches(self, iou: np.ndarray) -> dict[int, int]:
        """Return {index of a ground-truth box: index of the anchor that is its own}. iou: (M, A)"""
        forced: dict[int, int] = {}
        for _ in range(FORCED_MATCH_ROUNDS):
            free_iou = iou.copy()
            free_iou[:, list(forced.values())] = -1
            winners: dict[int, int] = {}  # anchor index: index of the ground-truth box with the highest IoU so far
            for gt_index in range(len(iou)):
                if gt_index in forced:
                    continue
                anchor = int(np.argmax(free_iou[gt_index]))
                if anchor not in winners or free_iou[gt_index, anchor] > free_iou[winners[anchor], anchor]:
                    winners[anchor] = gt_index
            forced.update({gt_index: anchor for anchor, gt_index in winners.items() if free_iou[gt_index, anchor] > 0})
        return forced
