"""Pascal VOC's evaluation: AP at IoU 0.5, by area (since 2010) and over 11 recall thresholds (until 2009)."""

from __future__ import annotations

import collections
import dataclasses
from typing import NamedTuple

import numpy as np
from pycocotools.coco import COCO

from ..boxes.ops import pairwise_iou, xywh_to_yxyx
from .average_precision import voc_average_precision

MIN_IOU = 0.5
# Keys by which annotation files in COCO's format mark what VOC calls difficult: such boxes count neither as
# ground truth when missed nor as errors when detected.
DIFFICULT_KEYS = ("iscrowd", "ignore", "difficult")


class VocClassMetrics(NamedTuple):
    """Metrics of one class, each 0..1, or -1 for a class without ground truth.

    AP: by area; AP11: over 11 recall thresholds
    """

    AP: float
    AP11: float


@dataclasses.dataclass(frozen=True)
class VocMetrics:
    """Result of a Pascal VOC evaluation.

    per_class: {class name: metrics}
    AP, AP11: means over the classes with ground truth, 0..1, or -1 if there is no such class
    """

    per_class: dict[str, VocClassMetrics]
    AP: float
    AP11: float


def compute_voc_metrics(ground_truth: COCO, results: list[dict], category_ids: dict[str, int]) -> VocMetrics:
    """Compute Pascal VOC's AP as its development kit does, but with float boxes, without its extra pixel.

    A detection is assigned to the ground-truth box of its class with the highest IoU. Only the first detection of a
    box is a true positive.

    ground_truth: annotations; results: detections in COCO's results format; category_ids: {class name: category id}
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
    """Compute the metrics of one class from its annotations and detections of all images."""
    annotations_by_image = _group_by(annotations, "image_id")
    gt_boxes = {
        image_id: xywh_to_yxyx(np.array([row["bbox"] for row in rows], float))
        for image_id, rows in annotations_by_image.items()
    }
    is_difficult = {
        image_id: np.array([any(row.get(key) for key in DIFFICULT_KEYS) for row in rows])
        for image_id, rows in annotations_by_image.items()
    }
    is_detected = {image_id: np.zeros(len(rows), bool) for image_id, rows in annotations_by_image.items()}
    num_gt = sum(int((~flags).sum()) for flags in is_difficult.values())
    if not num_gt:
        return VocClassMetrics(AP=-1.0, AP11=-1.0)
    is_true_positive = []
    for result in sorted(results, key=lambda row: -row["score"]):
        image_id = result["image_id"]
        if image_id in gt_boxes:
            ious = pairwise_iou(xywh_to_yxyx(np.array([result["bbox"]], float)), gt_boxes[image_id])[0]
            best = int(ious.argmax())
            if ious[best] >= MIN_IOU:
                if not is_difficult[image_id][best]:
                    is_true_positive.append(not is_detected[image_id][best])
                    is_detected[image_id][best] = True
                continue
        is_true_positive.append(False)
    ap, ap11 = voc_average_precision(np.array(is_true_positive, bool), num_gt)
    return VocClassMetrics(AP=ap, AP11=ap11)
