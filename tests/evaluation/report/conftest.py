"""What tests of the report share: evaluations typed by hand on the four validation images of `shapes_records`."""

import json

import numpy as np
import pytest

from ssd.evaluation.coco_metrics import CocoEvaluator
from ssd.evaluation.evaluator import EvaluationResult
from ssd.evaluation.report.matches import match_detections
from ssd.inference.network import Stopwatch
from ssd.models.postprocess import Detections

CLASSES = ("background", "cat", "dog", "bird")
IMAGE_IDS = (11, 12, 13, 14)  # those of the shards, 96x96 pixels


@pytest.fixture
def evaluate_rows(tmp_path):
    """evaluate_rows(objects, detections) is the EvaluationResult of

    objects: rows of image id, class index, (x, y, w, h) in pixels, and True behind it for a crowd region
    detections: rows of image id, class index, score, (x, y, w, h)
    """

    def evaluate(objects, detections, classes=CLASSES, known=None, image_ids=IMAGE_IDS):
        """known: the class names of the annotation file, if it has more than the detector"""
        names = known or classes
        annotations = [
            {
                "id": number,
                "image_id": image_id,
                "category_id": 10 * label,
                "bbox": list(box),
                "area": box[2] * box[3],
                "iscrowd": int(any(crowd)),
            }
            for number, (image_id, label, box, *crowd) in enumerate(objects)
        ]
        images = [{"id": i, "width": 96, "height": 96, "file_name": f"{i}.png"} for i in image_ids]
        categories = [{"id": 10 * label, "name": name} for label, name in enumerate(names) if label]
        path = tmp_path / "val.json"
        content = {"images": images, "annotations": annotations, "categories": categories}
        path.write_text(json.dumps(content), encoding="utf-8")
        evaluator = CocoEvaluator(path, classes)
        for image_id, label, score, (x, y, w, h) in detections:
            box = np.array([[y, x, y + h, x + w]], np.float64)
            evaluator.add(image_id, Detections(box, np.array([score]), np.array([label])))
        return EvaluationResult(evaluator, evaluator.summarize(), list(image_ids), Stopwatch(4, 2, 0.1, 1.0, 0.5, 0.1))

    return evaluate


@pytest.fixture
def match_rows(evaluate_rows):
    """match_rows(objects, detections) is their Matches."""

    def match(*rows, **more):
        evaluated = evaluate_rows(*rows, **more)
        return match_detections(evaluated.evaluator, evaluated.scores.coco)

    return match


@pytest.fixture(scope="session")
def random_rows():
    """random_rows(seed) is objects, crowd regions among them, and detections that find some of them, with equal scores,
    wrong classes, wrong places and more than 100 of a class in an image."""

    def draw(seed, labels=3):
        rng = np.random.default_rng(seed)

        def box():
            w, h = rng.uniform(5, 50, 2)
            return rng.uniform(0, 96 - w), rng.uniform(0, 96 - h), w, h

        images = rng.choice(IMAGE_IDS, 40)
        objects = [(int(image), int(rng.integers(1, labels + 1)), box(), rng.random() < 0.2) for image in images]
        detections = [(11, 1, float(rng.integers(1, 5)) / 20, box()) for _ in range(120)]
        for image, label, (x, y, w, h), _ in objects:
            for _ in range(rng.integers(0, 3)):
                dx, dy = rng.normal(0, 4, 2)
                found = label if rng.random() < 0.7 else int(rng.integers(1, labels + 1))
                detections.append((image, found, float(rng.integers(1, 20)) / 20, (x + dx, y + dy, w, h)))
        return objects, detections

    return draw
