"""Which classes are taken for which."""

from __future__ import annotations

import numpy as np

from ...boxes.ops import box_area, pairwise_iou
from .matches import IOU, Matches


def confusion_matrix(matches: Matches, min_score: float) -> np.ndarray:
    """Count pairs of detections and objects at an IoU of 0.5, whatever their classes.

    Detections of at least min_score choose in the order of their scores, each the free object with the highest IoU.
    What is in a crowd region and has no object is left out.
    -> (K, K): rows the annotated class, columns the detected one; row 0 nothing annotated, column 0 nothing detected
    """
    detections, objects = matches.detections, matches.objects
    chosen = matches.scores >= min_score
    pairs = np.zeros((len(matches.classes),) * 2, np.int64)
    free = np.ones(len(objects), bool)
    for image in np.unique(detections.images[chosen]).tolist():
        found = np.flatnonzero(chosen[detections.of_image(image)]) + detections.of_image(image).start
        boxes = detections.boxes_yxyx[found]
        present, regions = objects.of_image(image), matches.crowds.of_image(image)
        taken = _greedy_pairs(pairwise_iou(boxes, objects.boxes_yxyx[present]))
        paired = taken >= 0
        indices = taken[paired] + present.start
        free[indices] = False
        np.add.at(pairs, (objects.labels[indices], detections.labels[found[paired]]), 1)
        alone = ~paired & ~_in_crowd(boxes, matches.crowds.boxes_yxyx[regions])
        np.add.at(pairs, (0, detections.labels[found[alone]]), 1)
    np.add.at(pairs, (objects.labels[free], 0), 1)
    return pairs


def _greedy_pairs(ious: np.ndarray) -> np.ndarray:
    """ious: (D, M), the best detection first -> (D,) object of each detection, -1 if there is none"""
    taken = np.full(len(ious), -1)
    if not ious.shape[1]:
        return taken
    for row in np.flatnonzero(ious.max(axis=1) >= IOU).tolist():
        column = ious[row].argmax()
        if ious[row, column] >= IOU:
            taken[row] = column
            ious[:, column] = -1
    return taken


def _in_crowd(boxes_yxyx: np.ndarray, regions_yxyx: np.ndarray) -> np.ndarray:
    """(D,) bool: at least half of a box lies in one region, COCO's rule for crowds. regions_yxyx: (R, 4)"""
    low = np.maximum(boxes_yxyx[:, None, :2], regions_yxyx[None, :, :2])
    high = np.minimum(boxes_yxyx[:, None, 2:], regions_yxyx[None, :, 2:])
    inside = box_area(np.concatenate([low, high], axis=-1))
    return (inside >= np.maximum(IOU * box_area(boxes_yxyx), np.finfo(float).tiny)[:, None]).any(axis=1)
