"""Classify errors as in TIDE (Bolya et al. 2020, arXiv:2008.08115), and compute AP50 without the errors of one type."""

from __future__ import annotations

import dataclasses

import numpy as np

from ...boxes.ops import pairwise_iou
from ..average_precision import coco_average_precision
from .matches import MATCH_IOU, Matches

BACKGROUND_IOU = 0.1  # TIDE's threshold: a detection with a lower IoU is on background
LOCALISATION, CLASS, BOTH, DUPLICATE, BACKGROUND, MISSED = ERROR_TYPES = (
    "localisation",
    "class",
    "both",
    "duplicate",
    "background",
    "missed",
)


@dataclasses.dataclass(frozen=True)
class DetectionErrors:
    """Errors of N detections and G ground-truth boxes.

    types: (N,) str, error type of each false positive, "" for all other detections
    gt_indices: (N,) int, index of the ground-truth box that each false positive overlaps; -1 for background errors and
        for detections without an error
    ious: (N,) float, IoU of each false positive with that ground-truth box, 0..1; 0 if the index is -1
    missed_gt: (G,) bool, True for ground-truth boxes that have neither a match nor a localisation or class error
    """

    types: np.ndarray
    gt_indices: np.ndarray
    ious: np.ndarray
    missed_gt: np.ndarray


def classify_errors(matches: Matches) -> DetectionErrors:
    """Classify each false positive, and find the missed ground-truth boxes.

    As in TIDE, an unmatched ground-truth box is not missed if fixing a localisation or class error would match the box.
    """
    num_detections = len(matches.detections)
    types = np.full(num_detections, "", "U12")
    gt_indices = np.full(num_detections, -1, np.int64)
    ious = np.zeros(num_detections)
    false_positives = matches.false_positives
    for image_index in np.unique(matches.detections.image_indices[false_positives]).tolist():
        image_detections = matches.detections.of_image(image_index)
        image_gt = matches.ground_truth.of_image(image_index)
        errors = np.flatnonzero(false_positives[image_detections]) + image_detections.start
        types[errors], image_gt_indices, ious[errors] = _classify_image_errors(
            pairwise_iou(matches.detections.boxes_yxyx[errors], matches.ground_truth.boxes_yxyx[image_gt]),
            matches.detections.labels[errors][:, None] == matches.ground_truth.labels[image_gt],
        )
        gt_indices[errors] = np.where(image_gt_indices >= 0, image_gt_indices + image_gt.start, -1)
    missed_gt = ~matches.recalled_gt(-np.inf)
    missed_gt[gt_indices[np.isin(types, (LOCALISATION, CLASS))]] = False
    return DetectionErrors(types=types, gt_indices=gt_indices, ious=ious, missed_gt=missed_gt)


def _classify_image_errors(ious: np.ndarray, same_class: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Classify D false positives of an image with M ground-truth boxes.

    ious: (D, M) float, IoU of each false positive with each ground-truth box, 0..1
    same_class: (D, M) bool, True where false positive and ground-truth box have the same class
    Returns (types, gt_indices, ious) of the false positives:
    types: (D,) str, error types
    gt_indices: (D,) int, index of the ground-truth box that each false positive overlaps; -1 for background errors
    ious: (D,) float, IoU with that ground-truth box, 0..1; 0 for background errors
    """
    if not ious.shape[1]:
        num_errors = len(ious)
        return np.full(num_errors, BACKGROUND), np.full(num_errors, -1), np.zeros(num_errors)
    rows = np.arange(len(ious))
    same_class_ious, other_class_ious = np.where(same_class, ious, 0), np.where(same_class, 0, ious)
    same_class_gt, other_class_gt = same_class_ious.argmax(axis=1), other_class_ious.argmax(axis=1)
    same_class_iou, other_class_iou = same_class_ious[rows, same_class_gt], other_class_ious[rows, other_class_gt]
    # A detection can meet several conditions. The first condition applies, in the order of TIDE's source code.
    types = np.select(
        [
            (same_class_iou >= BACKGROUND_IOU) & (same_class_iou < MATCH_IOU),
            other_class_iou >= MATCH_IOU,
            same_class_iou >= MATCH_IOU,
            other_class_iou < BACKGROUND_IOU,
        ],
        [LOCALISATION, CLASS, DUPLICATE, BACKGROUND],
        BOTH,
    )
    is_about_other_class = np.isin(types, (CLASS, BOTH))
    is_background = types == BACKGROUND
    gt_indices = np.where(is_background, -1, np.where(is_about_other_class, other_class_gt, same_class_gt))
    error_ious = np.where(is_background, 0, np.where(is_about_other_class, other_class_iou, same_class_iou))
    return types, gt_indices, error_ious


def compute_ap50(matches: Matches) -> float:
    """Compute COCO's AP50 of the detections. Returns 0..1, or -1 without ground truth."""
    return _mean_ap50(
        matches,
        labels=matches.detections.labels,
        is_true_positive=matches.true_positives,
        ignored=matches.ignored,
        gt_labels=matches.ground_truth.labels,
    )


def compute_ap50_without(matches: Matches, errors: DetectionErrors, error_type: str) -> float:
    """Compute the AP50 that the detector would have if all errors of one type were fixed.

    The errors of each type are fixed as follows:
    localisation, class: for each unmatched ground-truth box, the highest-scoring detection with such an error on this
        box becomes a true positive; all other detections with an error of this type are removed
    both, duplicate, background: detections with an error of this type are removed
    missed: missed ground-truth boxes are removed

    error_type: one of ERROR_TYPES
    Returns AP50, 0..1, or -1 without ground truth.
    """
    labels, is_true_positive = matches.detections.labels, matches.true_positives
    if error_type == MISSED:
        return _mean_ap50(
            matches,
            labels=labels,
            is_true_positive=is_true_positive,
            ignored=matches.ignored,
            gt_labels=matches.ground_truth.labels[~errors.missed_gt],
        )
    is_error = errors.types == error_type
    fixed = np.zeros(0, np.int64)
    if error_type in (LOCALISATION, CLASS):
        fixable = np.flatnonzero(is_error & (errors.gt_indices >= 0))
        fixable = fixable[~matches.recalled_gt(-np.inf)[errors.gt_indices[fixable]]]
        # Detections of an image are sorted by descending score, so the first detection of a box has the highest score.
        fixed = fixable[np.unique(errors.gt_indices[fixable], return_index=True)[1]]
    labels, is_true_positive = labels.copy(), is_true_positive.copy()
    labels[fixed], is_true_positive[fixed] = matches.ground_truth.labels[errors.gt_indices[fixed]], True
    return _mean_ap50(
        matches,
        labels=labels,
        is_true_positive=is_true_positive,
        ignored=matches.ignored | (is_error & ~is_true_positive),
        gt_labels=matches.ground_truth.labels,
    )


def _mean_ap50(
    matches: Matches, labels: np.ndarray, is_true_positive: np.ndarray, ignored: np.ndarray, gt_labels: np.ndarray
) -> float:
    """Average the AP50 of the classes with ground truth in `matches`.

    labels: (N,) int, class index of each detection, 1..K-1
    is_true_positive: (N,) bool, True for true positives
    ignored: (N,) bool, True for detections that are left out
    gt_labels: (G,) int, class index of each ground-truth box that should be detected, 1..K-1
    Returns AP50, 0..1, or -1 without ground truth.
    """
    num_classes = len(matches.classes)
    order = np.lexsort((-matches.scores, labels))  # lexsort is stable, so equal scores keep COCO's order
    order = order[~ignored[order]]
    starts = np.searchsorted(labels[order], np.arange(num_classes + 1))
    num_gt = np.bincount(gt_labels, minlength=num_classes)
    values = []
    for label in np.unique(matches.ground_truth.labels).tolist():
        of_class = is_true_positive[order[starts[label] : starts[label + 1]]]
        if num_gt[label]:
            values.append(coco_average_precision(of_class, num_gt[label]))
        else:  # all boxes of the class were missed and are removed: AP is 1 without detections, else 0
            values.append(float(not len(of_class)))
    return float(np.mean(values)) if values else -1.0
