"""Average precision of ranked detections, by the rules of COCO and of Pascal VOC, in NumPy."""

from __future__ import annotations

import numpy as np

RECALL_THRESHOLDS = np.linspace(0, 1, 101)  # COCO's thresholds: 0, 0.01 … 1


def coco_average_precision(is_true_positive: np.ndarray, num_gt: int) -> float:
    """Compute COCO's AP: the mean precision at 101 recall thresholds, as in pycocotools' `COCOeval.accumulate`.

    is_true_positive: (N,) bool, True for true positives; detections of one class, sorted by descending score
    num_gt: number of ground-truth boxes of that class, at least 1
    Returns the AP, 0..1.
    """
    # Add np.spacing(1) to the number of detections, as pycocotools does, to reproduce its AP to the last digit.
    recall, envelope = _precision_recall_curve(is_true_positive, num_gt, epsilon=np.spacing(1))
    positions = np.searchsorted(recall, RECALL_THRESHOLDS)
    return float(np.append(envelope, 0.0)[positions].mean())  # above the highest recall, precision is 0


def voc_average_precision(is_true_positive: np.ndarray, num_gt: int) -> tuple[float, float]:
    """Compute Pascal VOC's AP by both rules of VOC (Everingham et al. 2010, section 4.2, and the 2010 devkit).

    is_true_positive: (N,) bool, True for true positives; detections of one class, sorted by descending score
    num_gt: number of ground-truth boxes of that class, at least 1
    Returns (area, eleven_points), each 0..1:
    area: area under the precision-recall curve, VOC's rule since 2010
    eleven_points: mean of the interpolated precision at the recalls 0, 0.1 … 1, VOC's rule until 2009
    """
    recall, envelope = _precision_recall_curve(is_true_positive, num_gt)
    area = float((np.diff(recall, prepend=0) * envelope).sum())
    # Compute thresholds as tenth / 10, because np.linspace returns 0.30000000000000004, above a recall of 3 / 10.
    eleven_points = [envelope[recall >= tenth / 10].max(initial=0) for tenth in range(11)]
    return area, float(np.mean(eleven_points))


def _precision_recall_curve(
    is_true_positive: np.ndarray, num_gt: int, epsilon: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Compute recall and interpolated precision after each detection.

    is_true_positive: (N,) bool, True for true positives; detections of one class, sorted by descending score
    num_gt: number of ground-truth boxes of that class
    epsilon: number added to the denominator of the precision
    Returns (recall, precision), each (N,), 0..1. Interpolated precision is the highest precision at the same recall or
    a higher recall.
    """
    true_positives = np.cumsum(is_true_positive)
    recall = true_positives / num_gt
    precision = true_positives / (np.arange(1, len(true_positives) + 1) + epsilon)
    return recall, np.maximum.accumulate(precision[::-1])[::-1]
