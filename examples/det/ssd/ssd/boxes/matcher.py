"""Match anchors to ground-truth boxes by IoU."""

from __future__ import annotations

import numpy as np

from .ops import pairwise_iou

# Number of rounds of forced matching. In each round, ground-truth boxes that share a best anchor compete for the
# anchor. A box without a forced match after the last round gets only anchors whose IoU is above the threshold.
FORCED_MATCH_ROUNDS = 4
# Value that replaces the IoU of a forced match. No real IoU is as high, so no other ground-truth box gets the anchor.
FORCED_MATCH_IOU = 2.0


class Matcher:
    """Match each anchor to at most one ground-truth box.

    First, each ground-truth box gets a forced match: the anchor with the highest IoU, even if that IoU is below the
    threshold (torchvision: low-quality matches). If two boxes share a best anchor, the box with the higher IoU gets the
    anchor. If the IoUs are equal, the box with the lower index gets the anchor. The other box competes for its best
    free anchor in the next round. After FORCED_MATCH_ROUNDS rounds, a box may be left without a forced match.

    Then, each remaining anchor is matched to the ground-truth box with the highest IoU, if that IoU is above the
    threshold.

    This NumPy class is the reference for `TargetAssigner`, which computes the same matches on the device.

    threshold: IoU, 0..1, above which an anchor is matched
    """

    def __init__(self, threshold: float = 0.5):
        self.threshold = threshold

    def match(self, gt_boxes_yxyx: np.ndarray, anchors_yxyx: np.ndarray) -> np.ndarray:
        """Match anchors to the ground-truth boxes of an image.

        gt_boxes_yxyx: (M, 4), corners y0, x0, y1, x1; M may be 0
        anchors_yxyx: (A, 4), corners y0, x0, y1, x1 in the unit of the ground-truth boxes
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
        """Find the forced matches of the ground-truth boxes. A box that overlaps no free anchor gets no forced match.

        iou: (M, A), IoU of each ground-truth box with each anchor
        Returns {index of a ground-truth box: index of its forced anchor}.
        """
        forced: dict[int, int] = {}
        for _ in range(FORCED_MATCH_ROUNDS):
            free_iou = iou.copy()
            free_iou[:, list(forced.values())] = -1
            winners: dict[int, int] = {}  # {anchor index: index of the ground-truth box with the highest IoU so far}
            for gt_index in range(len(iou)):
                if gt_index in forced:
                    continue
                anchor = int(np.argmax(free_iou[gt_index]))
                if anchor not in winners or free_iou[gt_index, anchor] > free_iou[winners[anchor], anchor]:
                    winners[anchor] = gt_index
            forced.update({gt_index: anchor for anchor, gt_index in winners.items() if free_iou[gt_index, anchor] > 0})
        return forced
