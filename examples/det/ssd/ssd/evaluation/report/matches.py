"""Detections paired with objects by COCO's own matching at an IoU of 0.5, as flat arrays."""

from __future__ import annotations

import dataclasses

import numpy as np
from pycocotools.cocoeval import COCOeval

from ...boxes.ops import xywh_to_yxyx
from ..coco_metrics import CocoEvaluator

IOU = 0.5


@dataclasses.dataclass(frozen=True)
class Boxes:
    """Boxes of many images. images: (N,) indices of images, rising; labels: (N,) class indices, 1 and up;
    boxes_yxyx: (N, 4) float64 pixels of the original image"""

    images: np.ndarray
    labels: np.ndarray
    boxes_yxyx: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def of_image(self, image: int) -> slice:
        """Where the boxes of an image are. image: its index"""
        return slice(*np.searchsorted(self.images, [image, image + 1]).tolist())


@dataclasses.dataclass(frozen=True)
class Matches:
    """A validation split. I images, N detections, G objects, K classes

    image_ids: (I,) rising; classes: K names by class index, background first
    detections: N boxes, in an image the best first; scores: (N,)
    objects: G annotated boxes; crowds: regions annotated as crowds, in which nothing is counted as wrong
    counted: (N,) bool, False for what COCO ignores: what lies in crowds, and all but an image's 100 best of a class
    found: (N,) index of the object that a detection is matched with, -1 if there is none
    """

    image_ids: np.ndarray
    classes: tuple[str, ...]
    detections: Boxes
    scores: np.ndarray
    objects: Boxes
    crowds: Boxes
    counted: np.ndarray
    found: np.ndarray

    @property
    def hits(self) -> np.ndarray:
        """(N,) bool: COCO's true positives"""
        return self.counted & (self.found >= 0)

    @property
    def mistakes(self) -> np.ndarray:
        """(N,) bool: COCO's false positives"""
        return self.counted & (self.found < 0)

    def found_at(self, min_score: float) -> np.ndarray:
        """(G,) bool: objects matched with a detection of at least this score."""
        found = np.zeros(len(self.objects), bool)
        found[self.found[self.hits & (self.scores >= min_score)]] = True
        return found


def match_detections(evaluator: CocoEvaluator, coco: COCOeval) -> Matches:
    """What an evaluation has matched. coco: the evaluation of `evaluator`, after its evaluate()"""
    labels = {category_id: label for label, category_id in enumerate(evaluator.category_ids) if label}
    classes = list(evaluator.classes)
    for category_id in coco.params.catIds:  # the file may know more classes than the detector: COCO's mean has them too
        if category_id not in labels:
            labels[category_id] = len(classes)
            classes.append(coco.cocoGt.cats[category_id]["name"])
    image_ids = np.array(sorted(coco.params.imgIds), np.int64)
    found, counted = _matched(coco, len(evaluator.results))
    detections = _boxes(evaluator.results, image_ids, labels)
    scores = np.array([result["score"] for result in evaluator.results], np.float64)
    # COCO's order: by image, then by falling score; equal ones as they came.
    order = np.lexsort((-scores, detections.images))

    known = [
        annotation
        for annotation in coco.cocoGt.dataset["annotations"]
        if annotation["category_id"] in labels and annotation["image_id"] in coco.cocoGt.imgs
    ]
    annotated = _boxes(known, image_ids, labels)
    by_image = np.argsort(annotated.images, kind="stable")
    is_crowd = np.array([bool(annotation.get("iscrowd")) for annotation in known], bool)[by_image]
    kept = by_image[~is_crowd]
    position = {known[index]["id"]: place for place, index in enumerate(kept.tolist())}
    found = np.array([position.get(number, -1) for number in found[order].tolist()], np.int64)
    return Matches(
        image_ids,
        tuple(classes),
        _take(detections, order),
        scores[order],
        _take(annotated, kept),
        _take(annotated, by_image[is_crowd]),
        counted[order],
        found,
    )


def _matched(coco: COCOeval, count: int) -> tuple[np.ndarray, np.ndarray]:
    """By a detection's number: the annotation that it is matched with, 0 if there is none; whether it is counted."""
    found, counted = np.zeros(count, np.int64), np.zeros(count, bool)
    images, sizes = len(coco.params.imgIds), len(coco.params.areaRng)
    for category in range(len(coco.params.catIds)):
        start = category * sizes * images  # those of the first range of sizes, which is all
        for evaluated in filter(None, coco.evalImgs[start : start + images]):
            numbers = np.array(evaluated["dtIds"], np.int64) - 1  # pycocotools counts results from 1
            found[numbers] = evaluated["dtMatches"][0]  # at the first IoU threshold, 0.5
            counted[numbers] = ~evaluated["dtIgnore"][0].astype(bool)
    return found, counted


def _boxes(rows: list[dict], image_ids: np.ndarray, labels: dict[int, int]) -> Boxes:
    """COCO's annotations or results as arrays, in their own order."""
    boxes_xywh = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    return Boxes(
        np.searchsorted(image_ids, np.array([row["image_id"] for row in rows], np.int64)),
        np.array([labels[row["category_id"]] for row in rows], np.int64),
        xywh_to_yxyx(boxes_xywh),
    )


def _take(boxes: Boxes, order: np.ndarray) -> Boxes:
    return Boxes(boxes.images[order], boxes.labels[order], boxes.boxes_yxyx[order])
