"""Average precision of ranked detections, by the rules of COCO and of Pascal VOC. NumPy only."""

from __future__ import annotations

import numpy as np

RECALL_THRESHOLDS = np.linspace(0, 1, 101)  # COCO's: 0, 0.01 … 1


def coco_average_precision(is_true_positive: np.ndarray, num_gt: int) -> float:
    """Compute COCO's AP: the mean precision at 101 recall thresholds, as in pycocotools' `COCOeval.accumulate`.

    is_true_positive: (N,) bool, detections of one class by falling score
    num_gt: number of ground-truth boxes of that class, at least 1
    Returns the AP, 0..1.
    """
    # pycocotools adds np.spacing(1) to the number of detections, and so do we to get its last digit.
    recall, envelope = _precision_recall_curve(is_true_positive, num_gt, epsilon=np.spacing(1))
    positions = np.searchsorted(recall, RECALL_THRESHOLDS, side="left")
    return float(np.append(envelope, 0.0)[positions].mean())  # a threshold beyond the highest recall has precision 0


def voc_average_precision(is_true_positive: np.ndarray, num_gt: int) -> tuple[float, float]:
    """Compute Pascal VOC's AP by both of its rules (Everingham et al. 2010, section 4.2, and the 2010 devkit).

    is_true_positive: (N,) bool, detections of one class by falling score
    num_gt: number of ground-truth boxes of that class, at least 1
    Returns (area under the curve, the rule since 2010; mean over 11 recall thresholds, the rule until 2009), each 0..1.
    """
    recall, envelope = _precision_recall_curve(is_true_positive, num_gt)
    area = float((np.diff(recall, prepend=0) * envelope).sum())
    # Thresholds are tenth / 10, because np.linspace gives 0.30000000000000004, above the recall of 3 boxes in 10.
    eleven_points = [envelope[recall >= tenth / 10].max(initial=0) for tenth in range(11)]
    return area, float(np.mean(eleven_points))


def _precision_recall_curve(
    is_true_positive: np.ndarray, num_gt: int, epsilon: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Compute recall and the precision envelope after each detection.

    is_true_positive: (N,) bool, by falling score; epsilon: added to the denominator of the precision
    Returns recall (N,) and the highest precision at this recall or a higher one (N,).
    """
    true_positives = np.cumsum(is_true_positive)
    recall = true_positives / num_gt
    precision = true_positives / (np.arange(1, len(true_positives) + 1) + epsilon)
    return recall, np.maximum.accumulate(precision[::-1])[::-1]
