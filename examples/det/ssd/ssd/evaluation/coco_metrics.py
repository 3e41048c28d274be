"""COCO's own evaluation, by pycocotools: the twelve figures, and those of each class."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..boxes.ops import yxyx_to_xywh
from ..errors import UserError
from ..models.postprocess import Detections

# The twelve figures in the order of COCOeval.stats.
METRICS = (
    "AP",
    "AP50",
    "AP75",
    "AP_small",
    "AP_medium",
    "AP_large",
    "AR1",
    "AR10",
    "AR100",
    "AR_small",
    "AR_medium",
    "AR_large",
)


@dataclasses.dataclass(frozen=True)
class ClassMetrics:
    """One class. objects: annotated ones, crowds left out; detections: of any score;
    AP, AP50, AP75, AR100: 0..1, or -1 where there is nothing to score"""

    name: str
    objects: int
    detections: int
    AP: float
    AP50: float
    AP75: float
    AR100: float


@dataclasses.dataclass(frozen=True)
class CocoMetrics:
    """metrics: {name of METRICS: 0..1, or -1 where there is nothing to score}; table: pycocotools' text;
    per_class: in the order of the classes, background left out; coco: the evaluation with all its arrays"""

    metrics: dict[str, float]
    table: str
    per_class: list[ClassMetrics]
    coco: COCOeval


class CocoEvaluator:
    """Gather detections in COCO's results format, then score them.

    annotation_path: COCO file of the validation split; classes: names by class index, background first
    Raises UserError if the file does not know a class.
    """

    def __init__(self, annotation_path: Path, classes):
        if not annotation_path.is_file():
            raise UserError(
                f"{annotation_path}: got no such file, expected the validation annotations; check --data_dir"
            )
        self.path = annotation_path
        self.classes = tuple(classes)
        self.truth = _read_truth(annotation_path)
        ids = {category["name"]: category["id"] for category in self.truth.loadCats(self.truth.getCatIds())}
        unknown = [name for name in classes[1:] if name not in ids]
        if unknown:
            raise UserError(
                f"{annotation_path}: got classes {sorted(ids)}, expected {unknown[0]!r} among them; "
                "evaluate with the recipe of this data"
            )
        self.category_ids = [None] + [ids[name] for name in classes[1:]]
        self.results: list[dict] = []

    def add(self, image_id: int, detections: Detections) -> None:
        """Take in one image's detections, in pixels of the original image. Raises UserError for an unknown image."""
        if image_id not in self.truth.imgs:
            raise UserError(
                f"{self.path}: got no image {image_id}, expected all of the shards'; evaluate on their own file"
            )
        boxes_xywh = yxyx_to_xywh(detections.boxes_yxyx).tolist()
        for box, score, label in zip(boxes_xywh, detections.scores.tolist(), detections.labels.tolist()):
            self.results.append(
                {"image_id": image_id, "category_id": self.category_ids[label], "bbox": box, "score": score}
            )

    def summarize(self) -> CocoMetrics:
        """Score what was gathered."""
        table = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(self.truth, self._detections(), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            with contextlib.redirect_stdout(table):
                evaluation.summarize()
        metrics = {name: float(value) for name, value in zip(METRICS, evaluation.stats)}
        return CocoMetrics(metrics, table.getvalue(), self._per_class(evaluation), evaluation)

    def _per_class(self, evaluation: COCOeval) -> list[ClassMetrics]:
        precision = evaluation.eval["precision"][..., 0, -1]  # (10 IoUs, 101 recalls, classes), all sizes, 100 an image
        recall = evaluation.eval["recall"][..., 0, -1]  # (10 IoUs, classes)
        objects = dict.fromkeys(self.category_ids, 0)
        for annotation in self.truth.dataset["annotations"]:
            if annotation["category_id"] in objects and not annotation.get("iscrowd"):
                objects[annotation["category_id"]] += 1
        detections = dict.fromkeys(self.category_ids, 0)
        for result in self.results:
            detections[result["category_id"]] += 1
        scores = []
        for name, category_id in zip(self.classes[1:], self.category_ids[1:]):
            index = evaluation.params.catIds.index(category_id)
            of_class = precision[:, :, index]
            figures = [_mean(values) for values in (of_class, of_class[0], of_class[5], recall[:, index])]
            scores.append(ClassMetrics(name, objects[category_id], detections[category_id], *figures))
        return scores

    def _detections(self) -> COCO:
        if self.results:
            return self.truth.loadRes(json.loads(json.dumps(self.results)))  # a copy, because loadRes adds keys to it
        nothing = COCO()  # loadRes does not take an empty list
        nothing.dataset = {**self.truth.dataset, "annotations": []}
        nothing.createIndex()
        return nothing


def _read_truth(path: Path) -> COCO:
    """A COCO file, its annotations numbered from 1: pycocotools takes 0 for `no match`, and mixes up equal ids.

    It also stops where `iscrowd` or `area` is not given: then they are no crowd, and the area of the box.
    """
    truth = COCO()
    truth.dataset = json.loads(path.read_text(encoding="utf-8-sig"))
    for number, annotation in enumerate(truth.dataset["annotations"], start=1):
        annotation["id"] = number
        annotation.setdefault("iscrowd", 0)
        annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    return truth


def _mean(values: np.ndarray) -> float:
    """As pycocotools: of those that are not -1, or -1."""
    values = values[values > -1]
    return float(values.mean()) if values.size else -1.0
