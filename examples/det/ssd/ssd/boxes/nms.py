"""Non-maximum suppression within each class: hard, by OpenCV's compiled kernel, or soft."""

from __future__ import annotations

import cv2
import numpy as np

from .ops import pairwise_iou


def hard_nms(
    boxes_yxyx: np.ndarray, scores: np.ndarray, labels: np.ndarray, iou_threshold: float, max_detections: int
) -> np.ndarray:
    """Drop every box whose IoU with a kept box of its class and of a higher score is above the threshold.

    boxes_yxyx: (T, 4), each with a positive area; scores: (T,); labels: (T,)
    Returns the indices of the kept boxes in descending order of their scores, at most max_detections.
    """
    order = np.argsort(-scores, kind="stable")
    # OpenCV reads x, y, width, height. Exchanging x and y changes no IoU.
    boxes = boxes_yxyx[order].astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    scores, labels = scores[order], labels[order]
    # Only higher-scored boxes can suppress a box, so a prefix of the order suffices once it keeps enough boxes. OpenCV
    # compares each box with all kept boxes of any class: twice as many boxes cost up to four times as much.
    count = 4 * max_detections
    while True:
        kept = cv2.dnn.NMSBoxesBatched(
            bboxes=boxes[:count],  # type: ignore[arg-type]  # OpenCV's stubs have sequences only; arrays are not copied
            scores=scores[:count],  # type: ignore[arg-type]
            class_ids=labels[:count],  # type: ignore[arg-type]
            score_threshold=0.0,
            nms_threshold=iou_threshold,
        )
        if len(kept) >= max_detections or count >= len(boxes):
            return order[np.asarray(kept, dtype=np.int64)[:max_detections]]
        count *= 2


def soft_nms(
    boxes_yxyx: np.ndarray, scores: np.ndarray, labels: np.ndarray, sigma: float, max_detections: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lower the scores of overlapping boxes of a batch by Soft-NMS (arXiv:1704.04503) with the Gaussian penalty.

    The box with the highest score is selected again and again. Each time the scores of the other boxes of its class are
    multiplied by exp(-IoU^2 / sigma).

    boxes_yxyx: (B, T, 4), each with a positive area; scores: (B, T), 0 for no box; labels: (B, T)
    Returns indices (B, D) and lowered scores (B, D) of the selected boxes in descending order of the lowered scores;
    D = min(T, max_detections).
    """
    rows = np.arange(len(scores))
    scores = scores.astype(np.float32)
    selected, final_scores = [], []
    # Classes do not affect one another, so selecting the best box of all classes keeps the order within each class.
    for _ in range(min(scores.shape[1], max_detections)):
        best = scores.argmax(axis=1)
        selected.append(best)
        final_scores.append(scores[rows, best])
        iou = pairwise_iou(boxes_yxyx[rows, best][:, None], boxes_yxyx)[:, 0]
        is_same_class = labels == labels[rows, best][:, None]
        scores *= np.where(is_same_class, np.exp(-(iou**2) / sigma), 1)
        scores[rows, best] = 0
    shape = (len(rows), len(selected))
    indices = np.array(selected, dtype=np.int64).T.reshape(shape)
    return indices, np.array(final_scores, dtype=np.float32).T.reshape(shape)
