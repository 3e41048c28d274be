"""Pascal VOC's average precision at IoU 0.5, over 11 points as until 2009 and by area as since 2010."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
from pycocotools.coco import COCO

from ..boxes.ops import pairwise_iou, xywh_to_yxyx

MIN_IOU = 0.5
# How annotation files in COCO's format mark what VOC calls difficult: not asked for, and not wrong to find.
IGNORED = ("iscrowd", "ignore", "difficult")


@dataclasses.dataclass(frozen=True)
class VocMetrics:
    """per_class: {name: (AP by area, AP over 11 points)}, 0..1, or -1 for a class without objects;
    AP, AP11: the means over classes with objects, or -1"""

    per_class: dict[str, tuple[float, float]]
    AP: float
    AP11: float


def compute_voc_metrics(truth: COCO, results: list[dict], category_ids: dict[str, int]) -> VocMetrics:
    """Score detections as VOC's development kit does, but on float boxes, without its added pixel.

    A detection belongs to the object of its class that it overlaps most; only the first to find an object is right.
    truth: annotations; results: COCO's results format; category_ids: {class name: id}
    """
    objects, found = _by_class(truth.dataset["annotations"]), _by_class(results)
    per_class = {name: _score_class(objects[index], found[index]) for name, index in category_ids.items()}
    scored = [figures for figures in per_class.values() if figures[0] >= 0]
    means = np.mean(scored, axis=0).tolist() if scored else [-1.0, -1.0]
    return VocMetrics(per_class, *means)


def _by_class(rows: list[dict]) -> dict[int, list[dict]]:
    table = collections.defaultdict(list)
    for row in rows:
        table[row["category_id"]].append(row)
    return table


def _score_class(objects: list[dict], detections: list[dict]) -> tuple[float, float]:
    """(AP by area, AP over 11 points) of one class."""
    by_image = collections.defaultdict(list)
    for annotation in objects:
        by_image[annotation["image_id"]].append(annotation)
    boxes = {image: xywh_to_yxyx(np.array([row["bbox"] for row in rows], float)) for image, rows in by_image.items()}
    ignored = {
        image: np.array([any(row.get(key) for key in IGNORED) for row in rows]) for image, rows in by_image.items()
    }
    taken = {image: np.zeros(len(rows), bool) for image, rows in by_image.items()}
    count = sum(int((~flags).sum()) for flags in ignored.values())
    if not count:
        return -1.0, -1.0
    is_right = []
    for detection in sorted(detections, key=lambda row: -row["score"]):
        image = detection["image_id"]
        if image in boxes:
            iou = pairwise_iou(xywh_to_yxyx(np.array([detection["bbox"]], float)), boxes[image])[0]
            best = int(iou.argmax())
            if iou[best] >= MIN_IOU:
                if ignored[image][best]:
                    continue
                is_right.append(not taken[image][best])
                taken[image][best] = True
                continue
        is_right.append(False)
    return _average_precision(np.array(is_right, bool), count)


def _average_precision(is_right: np.ndarray, count: int) -> tuple[float, float]:
    """is_right: of each detection, best first; count: objects to find"""
    hits = np.cumsum(is_right)
    recall = hits / count
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]  # the best precision at this recall or more
    area = float((np.diff(recall, prepend=0) * envelope).sum())
    # Not np.linspace, whose 0.30000000000000004 is more than the recall of 3 objects in 10.
    eleven = [envelope[recall >= tenth / 10].max(initial=0) for tenth in range(11)]
    return area, float(np.mean(eleven))
