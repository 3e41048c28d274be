"""Confusion matrix of a detector, with a background class for false positives and missed objects."""

from __future__ import annotations

import numpy as np

from ...boxes.ops import box_area, pairwise_iou
from .matches import MATCH_IOU, Matches


def confusion_matrix(matches: Matches, min_score: float) -> np.ndarray:
    """Count the detections of each pair of ground-truth class and detected class.

    In descending order of score, each detection is assigned to the free ground-truth box with the highest IoU. The IoU
    must be at least 0.5, and the classes may differ. Unassigned detections inside a crowd region are not counted.

    min_score: minimum score, 0..1, of the detections that are counted
    Returns (K, K) int64: rows are ground-truth classes, columns are detected classes. Row 0 counts detections without a
    ground-truth box. Column 0 counts ground-truth boxes without a detection.
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
    """Assign each detection, by descending score, to the free ground-truth box with the highest IoU of at least 0.5.

    ious: (D, M) float, IoU of the detections, by descending score, with the ground-truth boxes; changed in place
    Returns (D,) int, index of the assigned ground-truth box, -1 for unassigned detections.
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
    """Find boxes with at least half of their area in one crowd region, which is COCO's rule for ignored detections.

    boxes_yxyx: (D, 4) boxes of detections, corners in pixels, y first
    crowds_yxyx: (R, 4) boxes of crowd regions, corners in pixels, y first
    Returns (D,) bool, True for boxes inside a crowd region.
    """
    low = np.maximum(boxes_yxyx[:, None, :2], crowds_yxyx[None, :, :2])
    high = np.minimum(boxes_yxyx[:, None, 2:], crowds_yxyx[None, :, 2:])
    intersection = box_area(np.concatenate([low, high], axis=-1))
    min_intersection = np.maximum(MATCH_IOU * box_area(boxes_yxyx), np.finfo(float).tiny)  # > 0 even for empty boxes
    return (intersection >= min_intersection[:, None]).any(axis=1)
