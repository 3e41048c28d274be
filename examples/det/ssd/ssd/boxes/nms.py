"""Non-maximum suppression (NMS) within each class: hard NMS with OpenCV, and Soft-NMS with NumPy."""

from __future__ import annotations

import cv2
import numpy as np

from .ops import pairwise_iou


def hard_nms(
    boxes_yxyx: np.ndarray, scores: np.ndarray, labels: np.ndarray, iou_threshold: float, max_detections: int
) -> np.ndarray:
    """Apply hard NMS to the boxes of one image, separately for each class.

    A box is dropped if its IoU with a kept box of the same class and a higher score is above the threshold.

    boxes_yxyx: (T, 4), corners y0, x0, y1, x1 in any unit; every box has a positive area
    scores: (T,), 0..1
    labels: (T,), class labels; equal labels apply NMS across classes
    iou_threshold: IoU above which the box with the lower score is dropped
    max_detections: maximum number of kept boxes
    Returns (D,) int64, the indices of the kept boxes in descending order of score.
    """
    order = np.argsort(-scores, kind="stable")
    # OpenCV expects x, y, width, height. Swapping x and y does not change the IoU.
    boxes = boxes_yxyx[order].astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    scores, labels = scores[order], labels[order]
    # A box can be suppressed only by a box with a higher score. Therefore process only the first boxes of the order,
    # and double their number until enough boxes are kept. OpenCV compares each box with all kept boxes of any class, so
    # twice as many boxes cost up to four times as much.
    count = 4 * max_detections
    while True:
        kept = cv2.dnn.NMSBoxesBatched(
            bboxes=boxes[:count],  # type: ignore[arg-type]  # OpenCV's stubs declare sequences; arrays are not copied
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
    """Apply Soft-NMS with the Gaussian penalty (arXiv:1704.04503) to a batch, separately for each class.

    The box with the highest score is selected repeatedly. After each selection, the scores of the other boxes of the
    same class are multiplied by exp(-IoU^2 / sigma).

    boxes_yxyx: (B, T, 4), corners y0, x0, y1, x1 in any unit; every box has a positive area
    scores: (B, T), 0..1; a score of 0 marks an empty entry
    labels: (B, T), class labels; equal labels apply NMS across classes
    sigma: width of the Gaussian penalty
    max_detections: maximum number of selected boxes of an image
    Returns indices (B, D) int64 and lowered scores (B, D) float32 of the selected boxes, where D = min(T,
    max_detections). Both are in descending order of the lowered scores.
    """
    rows = np.arange(len(scores))
    scores = scores.astype(np.float32)
    selected, final_scores = [], []
    # Classes do not affect one another. Selecting the best box of all classes keeps the order within each class.
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
