"""Compute COCO's twelve metrics, and metrics of each class, with pycocotools."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..boxes.multiclass_nms import Detections
from ..boxes.ops import yxyx_to_xywh
from ..data.readers.annotations import load_coco_json
from ..data.readers.coco_fields import normalize_coco
from ..errors import UserError
from ..runtime.heartbeat import activity

# COCO's twelve metrics in the order of COCOeval.stats: {name: description}.
METRICS = {
    "AP": "mean of the AP at IoU 0.50, 0.55 … 0.95",
    "AP50": "AP at IoU 0.50",
    "AP75": "AP at IoU 0.75",
    "AP_small": "AP of objects with an area up to 32² pixels",
    "AP_medium": "AP of objects with an area of 32² to 96² pixels",
    "AP_large": "AP of objects with an area of at least 96² pixels",
    "AR1": "recall with at most 1 detection per image",
    "AR10": "recall with at most 10 detections per image",
    "AR100": "recall with at most 100 detections per image",
    "AR_small": "recall of objects with an area up to 32² pixels",
    "AR_medium": "recall of objects with an area of 32² to 96² pixels",
    "AR_large": "recall of objects with an area of at least 96² pixels",
}


CROWD_KEYS = ("iscrowd",)  # annotations with this key count neither as found nor as missed


@dataclasses.dataclass(frozen=True)
class ClassMetrics:
    """COCO's metrics of one class, each 0..1, or -1 for a class without objects.

    name: class name
    objects: number of annotated objects, without crowd regions
    detections: number of detections of any score
    AP: average precision, averaged over IoU thresholds 0.50–0.95
    AP50: average precision at IoU threshold 0.50
    AP75: average precision at IoU threshold 0.75
    AR100: recall with at most 100 detections per image, averaged over IoU thresholds 0.50–0.95
    """

    name: str
    objects: int
    detections: int
    AP: float
    AP50: float
    AP75: float
    AR100: float


@dataclasses.dataclass(frozen=True)
class CocoMetrics:
    """COCO's metrics of all classes together and of each class.

    metrics: {name from METRICS: value, 0..1, or -1 if no object has the size of the metric}
    table: text that COCOeval.summarize prints
    per_class: metrics of each class, in the order of the class indices, without background
    coco_eval: pycocotools' evaluation, with its precision and recall arrays
    """

    metrics: dict[str, float]
    table: str
    per_class: list[ClassMetrics]
    coco_eval: COCOeval


class CocoEvaluator:
    """Collect detections in COCO's results format and compute COCO's metrics.

    annotation_path: path of the COCO annotation file of the validation split
    classes: class names by label, background first
    Raises UserError if the annotation file does not exist or has no category for one of the classes.
    """

    def __init__(self, annotation_path: Path, classes: Sequence[str]):
        if not annotation_path.is_file():
            raise UserError(f"{annotation_path}: not found. Set --data_dir to a folder with validation annotations.")
        self.annotation_path = annotation_path
        self.classes = tuple(classes)
        self.ground_truth = _read_ground_truth(annotation_path)
        categories = self.ground_truth.loadCats(self.ground_truth.getCatIds())
        ids = {category["name"]: category["id"] for category in categories}
        missing = [name for name in classes[1:] if name not in ids]
        if missing:
            raise UserError(
                f"{annotation_path}: category {missing[0]!r} is missing. The file has the categories {sorted(ids)}. "
                "Use a recipe with the classes of this dataset."
            )
        self.category_ids = [None] + [ids[name] for name in classes[1:]]
        self.results: list[dict] = []

    def add(self, image_id: int, detections: Detections) -> None:
        """Add the detections of one image.

        image_id: id of the image in the annotation file
        detections: detections with boxes in pixels of the original image
        Raises UserError if the annotation file does not contain the image.
        """
        if image_id not in self.ground_truth.imgs:
            raise UserError(
                f"{self.annotation_path}: image {image_id} of the shards is missing in this file. "
                "Use the annotation file that the shards were created from."
            )
        boxes_xywh = yxyx_to_xywh(detections.boxes_yxyx).tolist()
        for box, score, label in zip(boxes_xywh, detections.scores.tolist(), detections.labels.tolist()):
            self.results.append(
                {"image_id": image_id, "category_id": self.category_ids[label], "bbox": box, "score": score}
            )

    def count_objects(self, ignored_keys: Sequence[str]) -> int:
        """Return the number of ground-truth boxes that count in the metrics. Without such boxes, they are undefined.

        ignored_keys: an annotation with a true value of one of these keys does not count
        """
        category_ids = set(self.category_ids[1:])
        rows = self.ground_truth.dataset["annotations"]
        return sum(row["category_id"] in category_ids and not any(map(row.get, ignored_keys)) for row in rows)

    @activity("computing the metrics")
    def summarize(self) -> CocoMetrics:
        """Compute the metrics of all detections added so far."""
        table = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()):
            coco_eval = COCOeval(self.ground_truth, self._load_results(), "bbox")
            coco_eval.evaluate()
            coco_eval.accumulate()
            with contextlib.redirect_stdout(table):
                coco_eval.summarize()
        return CocoMetrics(
            metrics={name: float(value) for name, value in zip(METRICS, coco_eval.stats)},
            table=table.getvalue(),
            per_class=self._compute_class_metrics(coco_eval),
            coco_eval=coco_eval,
        )

    def _compute_class_metrics(self, coco_eval: COCOeval) -> list[ClassMetrics]:
        # The last two axes are the object size (all, small, medium, large) and the maximum number of detections per
        # image (1, 10, 100). All values of a class without objects are -1, and so are their means.
        precision = coco_eval.eval["precision"][..., 0, -1]  # (10 IoUs, 101 recalls, classes)
        recall = coco_eval.eval["recall"][..., 0, -1]  # (10 IoUs, classes)
        num_objects = dict.fromkeys(self.category_ids, 0)
        for annotation in self.ground_truth.dataset["annotations"]:
            if annotation["category_id"] in num_objects and not annotation.get("iscrowd"):
                num_objects[annotation["category_id"]] += 1
        num_detections = dict.fromkeys(self.category_ids, 0)
        for result in self.results:
            num_detections[result["category_id"]] += 1
        per_class = []
        for name, category_id in zip(self.classes[1:], self.category_ids[1:]):
            index = coco_eval.params.catIds.index(category_id)
            class_precision = precision[:, :, index]
            per_class.append(
                ClassMetrics(
                    name=name,
                    objects=num_objects[category_id],
                    detections=num_detections[category_id],
                    AP=float(class_precision.mean()),
                    AP50=float(class_precision[0].mean()),
                    AP75=float(class_precision[5].mean()),
                    AR100=float(recall[:, index].mean()),
                )
            )
        return per_class

    def _load_results(self) -> COCO:
        if self.results:
            # Copy the results, because loadRes adds keys to the dicts.
            return self.ground_truth.loadRes(json.loads(json.dumps(self.results)))
        no_results = COCO()  # loadRes fails on an empty list
        no_results.dataset = {**self.ground_truth.dataset, "annotations": []}
        no_results.createIndex()
        return no_results


@activity("reading the annotations")
def _read_ground_truth(path: Path) -> COCO:
    """Read a COCO annotation file, normalized as create_data.py does, because older shards have the user's own file.

    Raises UserError if values of the file cannot be used.
    """
    ground_truth = COCO()
    ground_truth.dataset, _ = normalize_coco(load_coco_json(path), path, check_references=False)
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth.createIndex()
    return ground_truth
