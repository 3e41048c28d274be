"""Pascal VOC's metrics: AP at IoU 0.5, as the area under the precision-recall curve and at 11 recall thresholds."""

from __future__ import annotations

import collections
import dataclasses
from typing import NamedTuple

import numpy as np
from pycocotools.coco import COCO

from ..boxes.ops import pairwise_iou, xywh_to_yxyx
from .average_precision import voc_average_precision

MIN_IOU = 0.5  # between a detection and the ground-truth box that the detection matches
# Annotation files in COCO's format mark VOC's difficult boxes by one of these keys. VOC ignores difficult boxes:
# missing such a box is not an error, and detecting such a box is neither a true nor a false positive.
DIFFICULT_KEYS = ("iscrowd", "ignore", "difficult")


class VocClassMetrics(NamedTuple):
    """Pascal VOC's metrics of one class, each 0..1, or -1 for a class without ground truth.

    AP: area under the precision-recall curve, VOC's rule since 2010
    AP11: mean precision at 11 recall thresholds, VOC's rule until 2009
    """

    AP: float
    AP11: float


@dataclasses.dataclass(frozen=True)
class VocMetrics:
    """Pascal VOC's metrics of all classes.

    per_class: {class name: metrics of the class}
    AP: mean AP of the classes with ground truth, 0..1, or -1 if no class has ground truth
    AP11: mean AP11 of the classes with ground truth, 0..1, or -1 if no class has ground truth
    """

    per_class: dict[str, VocClassMetrics]
    AP: float
    AP11: float


def compute_voc_metrics(ground_truth: COCO, results: list[dict], category_ids: dict[str, int]) -> VocMetrics:
    """Compute Pascal VOC's AP by the rules of the VOC development kit.

    Unlike the kit, this function uses float boxes and computes a width as x1 - x0, without adding one pixel.
    A detection is assigned to the ground-truth box of the same class with the highest IoU, if the IoU is at least 0.5.
    Of all detections assigned to a box, only the detection with the highest score is a true positive. Boxes marked as
    difficult, and detections assigned to these boxes, are ignored.

    ground_truth: annotations of the validation split
    results: detections in COCO's results format
    category_ids: {class name: COCO category id}, without background
    """
    annotations_by_class = _group_by(ground_truth.dataset["annotations"], "category_id")
    results_by_class = _group_by(results, "category_id")
    per_class = {
        name: _compute_class_metrics(annotations_by_class[category_id], results_by_class[category_id])
        for name, category_id in category_ids.items()
    }
    with_ground_truth = [metrics for metrics in per_class.values() if metrics.AP >= 0]
    mean_ap, mean_ap11 = np.mean(with_ground_truth, axis=0).tolist() if with_ground_truth else (-1.0, -1.0)
    return VocMetrics(per_class, AP=mean_ap, AP11=mean_ap11)


def _group_by(rows: list[dict], key: str) -> dict[int, list[dict]]:
    groups = collections.defaultdict(list)
    for row in rows:
        groups[row[key]].append(row)
    return groups


def _compute_class_metrics(annotations: list[dict], results: list[dict]) -> VocClassMetrics:
    """Compute Pascal VOC's metrics of one class.

    annotations: annotations of this class in all images, in COCO's format
    results: detections of this class in all images, in COCO's results format
    """
    annotations_by_image = _group_by(annotations, "image_id")
    gt_boxes = {
        image_id: xywh_to_yxyx(np.array([row["bbox"] for row in rows]))
        for image_id, rows in annotations_by_image.items()
    }
    is_difficult = {
        image_id: [any(row.get(key) for key in DIFFICULT_KEYS) for row in rows]
        for image_id, rows in annotations_by_image.items()
    }
    is_detected = {image_id: [False] * len(rows) for image_id, rows in annotations_by_image.items()}
    num_gt = sum(flags.count(False) for flags in is_difficult.values())
    if not num_gt:
        return VocClassMetrics(AP=-1.0, AP11=-1.0)
    is_true_positive = []
    for result in sorted(results, key=lambda row: -row["score"]):
        image_id = result["image_id"]
        if image_id in gt_boxes:
            ious = pairwise_iou(xywh_to_yxyx(np.array([result["bbox"]])), gt_boxes[image_id])[0]
            best = int(ious.argmax())
            if ious[best] >= MIN_IOU:
                if not is_difficult[image_id][best]:
                    is_true_positive.append(not is_detected[image_id][best])
                    is_detected[image_id][best] = True
                continue
        is_true_positive.append(False)
    ap, ap11 = voc_average_precision(np.array(is_true_positive), num_gt)
    return VocClassMetrics(AP=ap, AP11=ap11)
