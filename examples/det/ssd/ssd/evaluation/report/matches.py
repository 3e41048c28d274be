"""Collect the matches between detections and ground truth, found by pycocotools at IoU 0.5, in flat arrays."""

from __future__ import annotations

import dataclasses

import numpy as np
from pycocotools.cocoeval import COCOeval

from ...boxes.ops import xywh_to_yxyx
from ..coco_metrics import CocoEvaluator

MATCH_IOU = 0.5  # minimum IoU of a detection and the ground-truth box that the detection matches


@dataclasses.dataclass(frozen=True)
class SplitBoxes:
    """Boxes of all images of a split with their class indices, sorted by image.

    image_indices: (N,) int, index of each box's image in `Matches.image_ids`, ascending
    labels: (N,) int, class index of each box, 1..K-1
    boxes_yxyx: (N, 4) float64, corners in pixels of the original image, y first
    """

    image_indices: np.ndarray
    labels: np.ndarray
    boxes_yxyx: np.ndarray

    def __len__(self) -> int:
        return len(self.image_indices)

    def of_image(self, image_index: int) -> slice:
        """Return the slice that contains the boxes of one image."""
        return slice(*np.searchsorted(self.image_indices, [image_index, image_index + 1]).tolist())

    def select(self, indices: np.ndarray) -> SplitBoxes:
        """Return the boxes at the given (M,) int indices, in the order of the indices."""
        return SplitBoxes(
            image_indices=self.image_indices[indices],
            labels=self.labels[indices],
            boxes_yxyx=self.boxes_yxyx[indices],
        )


@dataclasses.dataclass(frozen=True)
class Matches:
    """Matches between the N detections and the G ground-truth boxes of a split, at IoU 0.5.

    image_ids: (I,) int64, image ids of the annotation file, ascending
    classes: K class names by label, background first
    detections: N detected boxes, by descending score within an image
    scores: (N,) float64, score of each detection, 0..1
    ground_truth: G ground-truth boxes, without crowd regions
    crowds: boxes of crowd regions; detections inside a crowd region are not false positives
    ignored: (N,) bool, True for detections that COCO's metrics leave out. COCO leaves out detections in crowd regions
        and all but the 100 highest-scoring detections of a class in an image.
    matched_gt: (N,) int, index of the ground-truth box that each detection matches, -1 without a match
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
        """Mask of the true positives: (N,) bool, True for detections with a match that are not ignored."""
        return ~self.ignored & (self.matched_gt >= 0)

    @property
    def false_positives(self) -> np.ndarray:
        """Mask of the false positives: (N,) bool, True for detections without a match that are not ignored."""
        return ~self.ignored & (self.matched_gt < 0)

    def recalled_gt(self, min_score: float) -> np.ndarray:
        """Find the ground-truth boxes that match a detection with a score of at least min_score.

        Returns (G,) bool, True for ground-truth boxes with a match.
        """
        recalled = np.zeros(len(self.ground_truth), bool)
        recalled[self.matched_gt[self.true_positives & (self.scores >= min_score)]] = True
        return recalled


def collect_matches(evaluator: CocoEvaluator, coco_eval: COCOeval) -> Matches:
    """Collect the matches of a COCO evaluation.

    evaluator: evaluator with the annotations and all detections
    coco_eval: pycocotools' evaluation of these detections, after coco_eval.evaluate()
    """
    labels = {category_id: label for label, category_id in enumerate(evaluator.category_ids) if label}
    classes = list(evaluator.classes)
    for category_id in coco_eval.params.catIds:
        # Add annotated classes that the detector does not know, because COCO's mean AP includes these classes.
        if category_id not in labels:
            labels[category_id] = len(classes)
            classes.append(coco_eval.cocoGt.cats[category_id]["name"])
    image_ids = np.array(sorted(coco_eval.params.imgIds), np.int64)

    matched_ids, ignored = _read_detection_matches(coco_eval, len(evaluator.results))
    detections = _to_boxes(evaluator.results, image_ids, labels)
    scores = np.array([result["score"] for result in evaluator.results], np.float64)
    # Sort as COCO does: by image, then by descending score. Detections with equal scores keep their order.
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
    """Read the match of each detection from the per-image results of pycocotools.

    num_results: N, number of detections that were evaluated
    Returns (matched_ids, ignored), in the order of the evaluated detections:
    matched_ids: (N,) int, id of the annotation that each detection matches, 0 without a match
    ignored: (N,) bool, True for detections that COCO's metrics leave out
    """
    # Per-image results contain the 100 highest-scoring detections of each class. All other detections stay ignored.
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
    """Convert COCO annotations or results to arrays, in the same order.

    rows: annotations, or results in COCO's results format
    image_ids: (I,) int64, ascending
    labels: {COCO category id: class index}
    """
    boxes_xywh = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    return SplitBoxes(
        image_indices=np.searchsorted(image_ids, np.array([row["image_id"] for row in rows], np.int64)),
        labels=np.array([labels[row["category_id"]] for row in rows], np.int64),
        boxes_yxyx=xywh_to_yxyx(boxes_xywh),
    )
