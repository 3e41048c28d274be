"""Which anchor answers for which object. The oracle for `models/assigner.py`, which does the same in the graph."""

from __future__ import annotations

import numpy as np

from .ops import pairwise_iou

# Rounds of handing out best anchors. Each gives every contested anchor to one object; what is left after the last round
# keeps the anchors that overlap it by more than the threshold, and gets no anchor of its own.
FORCED_MATCH_ROUNDS = 4
# Above any IoU, so that an object's own anchor is never given to another object.
FORCED_MATCH_IOU = 2.0


class Matcher:
    """Match anchors to objects by overlap, as published, except that no object loses its best anchor without amends.

    Every object claims the anchor that overlaps it most. Where several want the same one, the better overlap keeps it
    (the earlier object, if equal) and the others take their best anchor that nobody has claimed, for
    FORCED_MATCH_ROUNDS rounds. Any other anchor goes to the object that overlaps it most, if by more than `threshold`.
    """

    def __init__(self, threshold: float = 0.5):
        self.threshold = threshold

    def match(self, boxes_yxyx: np.ndarray, anchors_yxyx: np.ndarray) -> np.ndarray:
        """boxes_yxyx: (M, 4), M may be 0; anchors_yxyx: (A, 4) -> (A,) int64, the object's index or -1 for none."""
        if len(boxes_yxyx) == 0:
            return np.full(len(anchors_yxyx), -1)
        quality = pairwise_iou(boxes_yxyx, anchors_yxyx)  # (M, A)
        for object_index, anchor_index in self._forced_matches(quality).items():
            quality[object_index, anchor_index] = FORCED_MATCH_IOU
        best = np.argmax(quality, axis=0)  # (A,)
        return np.where(quality.max(axis=0) > self.threshold, best, -1)

    def _forced_matches(self, iou: np.ndarray) -> dict[int, int]:
        """iou: (M, A) -> {object: the anchor it claimed}"""
        claims: dict[int, int] = {}
        for _ in range(FORCED_MATCH_ROUNDS):
            free = iou.copy()
            free[:, list(claims.values())] = -1
            wanted = {}  # anchor: (overlap, object) of the best claim in this round
            for index in range(len(iou)):
                if index in claims:
                    continue
                anchor = int(np.argmax(free[index]))
                if anchor not in wanted or free[index, anchor] > wanted[anchor][0]:
                    wanted[anchor] = (free[index, anchor], index)
            claims.update({index: anchor for anchor, (overlap, index) in wanted.items() if overlap > 0})
        return claims
