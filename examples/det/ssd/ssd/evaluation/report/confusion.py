"""Confusion matrix of a detector, with background for false positives and missed objects."""

from __future__ import annotations

import numpy as np

from ...boxes.ops import box_area, pairwise_iou
from .matches import MATCH_IOU, Matches


def confusion_matrix(matches: Matches, min_score: float) -> np.ndarray:
    """Count pairs of ground-truth class and detected class.

    Detections of at least min_score choose by falling score, each the free ground-truth box with the highest IoU of at
    least 0.5, whatever the classes. Detections inside a crowd region that get no box are not counted.

    Returns (K, K) int64: rows are ground-truth classes, columns detected classes. Row 0 counts detections without a
    ground-truth box, column 0 counts ground-truth boxes without a detection.
    """
    detections, ground_truth = matches.detections, matches.ground_truth
    is_shown = matches.scores >= min_score
    matrix = np.zeros((len(matches.classes), len(matches.classes)), np.int64)
    is_free = np.ones(len(ground_truth), bool)
    for image_index in np.unique(detections.image_indices[is_shown]).tolist():
        image_detections = detections.of_image(image_index)
        image_gt = ground_truth.of_image(image_index)
        crowds_yxyx = matches.crowds.boxes_yxyx[matches.crowds.of_image(image_index)]
        shown = np.flatnonzero(is_shown[image_detections]) + image_detections.start
        boxes_yxyx = detections.boxes_yxyx[shown]

        assigned = _assign_greedily(pairwise_iou(boxes_yxyx, ground_truth.boxes_yxyx[image_gt]))
        is_assigned = assigned >= 0
        gt_indices = assigned[is_assigned] + image_gt.start
        is_free[gt_indices] = False
        np.add.at(matrix, (ground_truth.labels[gt_indices], detections.labels[shown[is_assigned]]), 1)
        is_background = ~is_assigned & ~_is_in_crowd(boxes_yxyx, crowds_yxyx)
        np.add.at(matrix, (0, detections.labels[shown[is_background]]), 1)
    np.add.at(matrix, (ground_truth.labels[is_free], 0), 1)
    return matrix


def _assign_greedily(ious: np.ndarray) -> np.ndarray:
    """Assign each detection, by falling score, the free ground-truth box with the highest IoU.

    ious: (D, M), changed in place
    Returns (D,) int, index of the box, -1 for none.
    """
    assigned = np.full(len(ious), -1)
    if not ious.shape[1]:
        return assigned
    for row in np.flatnonzero(ious.max(axis=1) >= MATCH_IOU).tolist():
        column = ious[row].argmax()
        if ious[row, column] >= MATCH_IOU:
            assigned[row] = column
            ious[:, column] = -1
    return assigned


def _is_in_crowd(boxes_yxyx: np.ndarray, crowds_yxyx: np.ndarray) -> np.ndarray:
    """Return (D,) bool, boxes with at least half of their area in one crowd region: COCO's rule for crowds.

    boxes_yxyx: (D, 4); crowds_yxyx: (R, 4)
    """
    low = np.maximum(boxes_yxyx[:, None, :2], crowds_yxyx[None, :, :2])
    high = np.minimum(boxes_yxyx[:, None, 2:], crowds_yxyx[None, :, 2:])
    intersection = box_area(np.concatenate([low, high], axis=-1))
    min_intersection = np.maximum(MATCH_IOU * box_area(boxes_yxyx), np.finfo(float).tiny)  # more than 0
    return (intersection >= min_intersection[:, None]).any(axis=1)
