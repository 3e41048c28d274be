"""Non-maximum suppression within each class, hard by OpenCV's compiled kernel, or soft."""

from __future__ import annotations

import cv2
import numpy as np

from .ops import pairwise_iou


def hard_nms(
    boxes_yxyx: np.ndarray, scores: np.ndarray, labels: np.ndarray, iou_threshold: float, max_detections: int
) -> np.ndarray:
    """Greedy suppression: a box goes if a better one of its class that stays overlaps it by more than the threshold.

    boxes_yxyx: (T, 4), each with an area; scores: (T,); labels: (T,) -> indices of what stays, best first, at most
    max_detections
    """
    order = np.argsort(-scores, kind="stable")
    # OpenCV reads x, y, width, height; IoU is the same with x and y exchanged.
    boxes = boxes_yxyx[order].astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    scores, labels = scores[order], labels[order]
    # Better boxes alone decide on a box, so the first ones suffice where enough of them stay. OpenCV compares each box
    # with all that stay, of any class: twice as many boxes cost up to four times as much.
    count = 4 * max_detections
    while True:
        kept = cv2.dnn.NMSBoxesBatched(boxes[:count], scores[:count], labels[:count], 0.0, iou_threshold)
        if len(kept) >= max_detections or count >= len(boxes):
            return order[np.asarray(kept, dtype=np.int64)[:max_detections]]
        count *= 2


def soft_nms(
    boxes_yxyx: np.ndarray, scores: np.ndarray, labels: np.ndarray, sigma: float, max_detections: int
) -> tuple[np.ndarray, np.ndarray]:
    """Soft-NMS (arXiv:1704.04503) with the Gaussian penalty: a chosen box lowers the scores of those of its class that
    it overlaps by the factor exp(-IoU^2 / sigma). A whole batch at a time.

    boxes_yxyx: (B, T, 4), each with an area; scores: (B, T), 0 = no box; labels: (B, T)
    -> indices (B, D) and lowered scores (B, D), falling, of what was chosen; D = min(T, max_detections)
    """
    rows = np.arange(len(scores))
    scores = scores.astype(np.float32)
    chosen, final = [], []
    # To choose the best of all classes gives the order of each class, because classes do not touch one another.
    for _ in range(min(scores.shape[1], max_detections)):
        best = scores.argmax(axis=1)
        chosen.append(best)
        final.append(scores[rows, best])
        iou = pairwise_iou(boxes_yxyx[rows, best][:, None], boxes_yxyx)[:, 0]
        same = labels == labels[rows, best][:, None]
        scores *= np.where(same, np.exp(-(iou**2) / sigma), 1)
        scores[rows, best] = 0
    shape = (len(rows), len(chosen))
    return np.array(chosen, dtype=np.int64).T.reshape(shape), np.array(final, dtype=np.float32).T.reshape(shape)
