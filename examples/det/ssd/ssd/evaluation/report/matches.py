"""Collect the matches that pycocotools found at IoU 0.5 between detections and ground truth, as flat arrays."""

from __future__ import annotations

import dataclasses

import numpy as np
from pycocotools.cocoeval import COCOeval

from ...boxes.ops import xywh_to_yxyx
from ..coco_metrics import CocoEvaluator

MATCH_IOU = 0.5


@dataclasses.dataclass(frozen=True)
class SplitBoxes:
    """Labelled boxes of all images of a split, sorted by image.

    image_indices: (N,) int, index of the image in `Matches.image_ids`, ascending
    labels: (N,) int, 1..K-1
    boxes_yxyx: (N, 4) float64, corners in pixels of the original image, y first
    """

    image_indices: np.ndarray
    labels: np.ndarray
    boxes_yxyx: np.ndarray

    def __len__(self) -> int:
        return len(self.image_indices)

    def of_image(self, image_index: int) -> slice:
        """Return the rows of one image."""
        return slice(*np.searchsorted(self.image_indices, [image_index, image_index + 1]).tolist())

    def select(self, indices: np.ndarray) -> SplitBoxes:
        """Return the given rows, in the given order."""
        return SplitBoxes(
            image_indices=self.image_indices[indices],
            labels=self.labels[indices],
            boxes_yxyx=self.boxes_yxyx[indices],
        )


@dataclasses.dataclass(frozen=True)
class Matches:
    """Detections of a split (N), its ground-truth boxes (G) and the matches between them.

    image_ids: (I,) int64, ascending
    classes: K names by class index, background first
    detections: N boxes, by falling score within an image
    scores: (N,) float64, 0..1
    ground_truth: G boxes without crowd regions
    crowds: boxes of crowd regions; detections inside are no false positives
    ignored: (N,) bool, detections that COCO leaves out: those matched with a crowd region, and those beyond the 100
        best of a class in an image
    matched_gt: (N,) int, index of the ground-truth box a detection is matched with, -1 without a match
    """

    image_ids: np.ndarray
    classes: tuple[str, ...]
    detections: SplitBoxes
    scores: np.ndarray
    ground_truth: SplitBoxes
    crowds: SplitBoxes
    ignored: np.ndarray
    matched_gt: np.ndarray

    @property
    def true_positives(self) -> np.ndarray:
        """(N,) bool"""
        return ~self.ignored & (self.matched_gt >= 0)

    @property
    def false_positives(self) -> np.ndarray:
        """(N,) bool"""
        return ~self.ignored & (self.matched_gt < 0)

    def recalled_gt(self, min_score: float) -> np.ndarray:
        """Return (G,) bool, the ground-truth boxes matched with a detection of at least this score."""
        recalled = np.zeros(len(self.ground_truth), bool)
        recalled[self.matched_gt[self.true_positives & (self.scores >= min_score)]] = True
        return recalled


def collect_matches(evaluator: CocoEvaluator, coco_eval: COCOeval) -> Matches:
    """Collect the matches of an evaluation.

    coco_eval: the evaluation of `evaluator`, after its evaluate()
    """
    labels = {category_id: label for label, category_id in enumerate(evaluator.category_ids) if label}
    classes = list(evaluator.classes)
    for category_id in coco_eval.params.catIds:
        # The annotation file may have classes that the detector does not know. COCO's mean AP includes them.
        if category_id not in labels:
            labels[category_id] = len(classes)
            classes.append(coco_eval.cocoGt.cats[category_id]["name"])
    image_ids = np.array(sorted(coco_eval.params.imgIds), np.int64)

    matched_ids, ignored = _read_detection_matches(coco_eval, len(evaluator.results))
    detections = _to_boxes(evaluator.results, image_ids, labels)
    scores = np.array([result["score"] for result in evaluator.results], np.float64)
    # COCO's order: by image, then by falling score; equal scores keep their order.
    order = np.lexsort((-scores, detections.image_indices))

    annotations = [
        annotation
        for annotation in coco_eval.cocoGt.dataset["annotations"]
        if annotation["category_id"] in labels and annotation["image_id"] in coco_eval.cocoGt.imgs
    ]
    annotated_boxes = _to_boxes(annotations, image_ids, labels)
    by_image = np.argsort(annotated_boxes.image_indices, kind="stable")
    is_crowd = np.array([bool(annotation.get("iscrowd")) for annotation in annotations], bool)[by_image]
    gt_order = by_image[~is_crowd]
    gt_indices = {annotations[position]["id"]: gt_index for gt_index, position in enumerate(gt_order.tolist())}
    return Matches(
        image_ids=image_ids,
        classes=tuple(classes),
        detections=detections.select(order),
        scores=scores[order],
        ground_truth=annotated_boxes.select(gt_order),
        crowds=annotated_boxes.select(by_image[is_crowd]),
        ignored=ignored[order],
        matched_gt=np.array([gt_indices.get(matched, -1) for matched in matched_ids[order].tolist()], np.int64),
    )


def _read_detection_matches(coco_eval: COCOeval, num_results: int) -> tuple[np.ndarray, np.ndarray]:
    """Read the match of each detection from pycocotools' per-image results.

    Returns matched_ids (num_results,) int, id of the matched annotation, 0 without a match; ignored (num_results,)
    bool. Both are in the order of the results.
    """
    # A detection beyond the 100 best of a class in an image is in no per-image result, and stays ignored.
    matched_ids, ignored = np.zeros(num_results, np.int64), np.ones(num_results, bool)
    num_images, num_size_ranges = len(coco_eval.params.imgIds), len(coco_eval.params.areaRng)
    for category in range(len(coco_eval.params.catIds)):
        start = category * num_size_ranges * num_images  # the first range contains all sizes
        for image_result in filter(None, coco_eval.evalImgs[start : start + num_images]):
            indices = np.array(image_result["dtIds"], np.int64) - 1  # pycocotools numbers results from 1
            matched_ids[indices] = image_result["dtMatches"][0]  # at the first IoU threshold, 0.5
            ignored[indices] = image_result["dtIgnore"][0].astype(bool)
    return matched_ids, ignored


def _to_boxes(rows: list[dict], image_ids: np.ndarray, labels: dict[int, int]) -> SplitBoxes:
    """Convert COCO's annotations or results to arrays in the same order. labels: {category id: label}"""
    boxes_xywh = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    return SplitBoxes(
        image_indices=np.searchsorted(image_ids, np.array([row["image_id"] for row in rows], np.int64)),
        labels=np.array([labels[row["category_id"]] for row in rows], np.int64),
        boxes_yxyx=xywh_to_yxyx(boxes_xywh),
    )
