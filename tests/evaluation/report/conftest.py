"""Fixtures for tests of the report: hand-made evaluations of the four validation images of `shapes_records`."""

import json

import numpy as np
import pytest

from ssd.boxes.multiclass_nms import Detections
from ssd.evaluation.coco_metrics import CocoEvaluator
from ssd.evaluation.evaluator import EvaluationResult
from ssd.evaluation.report.matches import collect_matches
from ssd.inference.network import InferenceTimes

CLASSES = ("background", "cat", "dog", "bird")
IMAGE_IDS = (11, 12, 13, 14)  # those of the shards, 96x96 pixels


@pytest.fixture
def evaluate_rows(tmp_path):
    """evaluate_rows(objects, detections) is an EvaluationResult.

    objects: rows of image id, class index, (x, y, w, h) in pixels, and optionally True for a crowd region
    detections: rows of image id, class index, score, (x, y, w, h)
    classes: class names of the detector, background first
    file_classes: class names of the annotation file, if it has more than the detector
    """

    def evaluate(objects, detections, classes=CLASSES, file_classes=None, image_ids=IMAGE_IDS):
        annotations = [
            {
                "id": number,
                "image_id": image_id,
                "category_id": 10 * label,
                "bbox": list(box),
                "area": box[2] * box[3],
                "iscrowd": int(any(iscrowd)),
            }
            for number, (image_id, label, box, *iscrowd) in enumerate(objects)
        ]
        images = [{"id": i, "width": 96, "height": 96, "file_name": f"{i}.png"} for i in image_ids]
        categories = [{"id": 10 * label, "name": name} for label, name in enumerate(file_classes or classes) if label]
        path = tmp_path / "val.json"
        content = {"images": images, "annotations": annotations, "categories": categories}
        path.write_text(json.dumps(content), encoding="utf-8")
        evaluator = CocoEvaluator(path, classes)
        for image_id, label, score, (x, y, w, h) in detections:
            box_yxyx = np.array([[y, x, y + h, x + w]], np.float64)
            evaluator.add(image_id, Detections(boxes_yxyx=box_yxyx, scores=np.array([score]), labels=np.array([label])))
        times = InferenceTimes(
            num_images=4,
            first_batch_images=2,
            data_seconds=0.1,
            first_batch_seconds=1.0,
            network_seconds=0.5,
            postprocessing_seconds=0.1,
        )
        return EvaluationResult(
            evaluator=evaluator, coco_metrics=evaluator.summarize(), image_ids=list(image_ids), times=times
        )

    return evaluate


@pytest.fixture
def match_rows(evaluate_rows):
    """match_rows(objects, detections) is their Matches; arguments as those of evaluate_rows."""

    def match(objects, detections, **options):
        result = evaluate_rows(objects, detections, **options)
        return collect_matches(result.evaluator, result.coco_metrics.coco_eval)

    return match


@pytest.fixture(scope="session")
def random_rows():
    """random_rows(seed) is (objects, detections) for evaluate_rows.

    There are crowd regions, and detections with equal scores, wrong classes, inaccurate boxes, and more than 100 of one
    class in an image.
    """

    def draw(seed, num_classes=3):
        rng = np.random.default_rng(seed)

        def draw_box():
            w, h = rng.uniform(5, 50, 2)
            return rng.uniform(0, 96 - w), rng.uniform(0, 96 - h), w, h

        image_ids = rng.choice(IMAGE_IDS, 40)
        objects = [
            (int(image_id), int(rng.integers(1, num_classes + 1)), draw_box(), rng.random() < 0.2)
            for image_id in image_ids
        ]
        detections = [(11, 1, float(rng.integers(1, 5)) / 20, draw_box()) for _ in range(120)]
        for image_id, label, (x, y, w, h), _ in objects:
            for _ in range(rng.integers(0, 3)):
                dx, dy = rng.normal(0, 4, 2)
                detected = label if rng.random() < 0.7 else int(rng.integers(1, num_classes + 1))
                detections.append((image_id, detected, float(rng.integers(1, 20)) / 20, (x + dx, y + dy, w, h)))
        return objects, detections

    return draw
