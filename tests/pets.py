"""Annotations and detections of three images, made by hand, for tests of evaluation."""

import json

import numpy as np

from ssd.models.postprocess import Detections

CLASSES = ("background", "cat", "dog", "bird")
# Ids with gaps, and in another order than the classes.
CATEGORIES = [{"id": 90, "name": "cat"}, {"id": 7, "name": "dog"}, {"id": 55, "name": "bird"}]
# (image, category id, box x, y, w, h); the last is the only bird.
OBJECTS = [
    (11, 90, (10, 20, 30, 50)),
    (11, 7, (60.5, 5, 39.5, 40)),
    (12, 90, (0, 0, 100, 80)),
    (12, 55, (5, 5, 20, 20)),
]


def annotation(number, image_id, category_id, box, iscrowd=0):
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": list(box),
        "area": box[2] * box[3],
        "iscrowd": iscrowd,
    }


def write_annotations(path, annotations, image_ids=(11, 12, 13)):
    images = [{"id": image_id, "width": 120, "height": 100, "file_name": f"{image_id}.jpg"} for image_id in image_ids]
    path.write_text(json.dumps({"images": images, "categories": CATEGORIES, "annotations": annotations}))
    return path


def detections(*rows):
    """(class name, score, (x, y, w, h)) of each to Detections."""
    boxes = [(y, x, y + h, x + w) for _, _, (x, y, w, h) in rows]
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in rows], np.float32),
        np.array([CLASSES.index(name) for name, _, _ in rows], np.int32),
    )


def add_all_but(evaluator, left_out=()):
    """Detect every object exactly, but for those with these numbers."""
    names = {category["id"]: category["name"] for category in CATEGORIES}
    for number, (image_id, category_id, box) in enumerate(OBJECTS):
        if number not in left_out:
            evaluator.add(image_id, detections((names[category_id], 0.9 - number / 10, box)))
    return evaluator
