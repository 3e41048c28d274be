"""Hand-made annotations and detections of three images, for tests of the evaluation."""

import json

import numpy as np

from ssd.boxes.multiclass_nms import Detections

CLASSES = ("background", "cat", "dog", "bird")
# Ids with gaps, in another order than the classes.
CATEGORIES = [{"id": 90, "name": "cat"}, {"id": 7, "name": "dog"}, {"id": 55, "name": "bird"}]
# (image id, category id, box x, y, w, h) of two cats, a dog and a bird.
OBJECTS = [
    (11, 90, (10, 20, 30, 50)),
    (11, 7, (60.5, 5, 39.5, 40)),
    (12, 90, (0, 0, 100, 80)),
    (12, 55, (5, 5, 20, 20)),
]


def make_annotation(image_id, category_id, box_xywh, *, annotation_id=1, iscrowd=0):
    """Return an annotation in COCO's format."""
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": list(box_xywh),
        "area": box_xywh[2] * box_xywh[3],
        "iscrowd": iscrowd,
    }


def write_annotations(path, annotations, image_ids=(11, 12, 13)):
    """Write a COCO annotation file and return its path."""
    images = [{"id": image_id, "width": 120, "height": 100, "file_name": f"{image_id}.jpg"} for image_id in image_ids]
    path.write_text(json.dumps({"images": images, "categories": CATEGORIES, "annotations": annotations}))
    return path


def make_detections(*rows):
    """Make the Detections of one image from rows of (class name, score, (x, y, w, h))."""
    boxes_yxyx = [(y, x, y + h, x + w) for _, _, (x, y, w, h) in rows]
    return Detections(
        boxes_yxyx=np.array(boxes_yxyx, np.float32).reshape(-1, 4),
        scores=np.array([score for _, score, _ in rows], np.float32),
        labels=np.array([CLASSES.index(name) for name, _, _ in rows], np.int32),
    )


def add_exact_detections(evaluator, left_out=()):
    """Add an exact detection of every row of OBJECTS but those with the indices `left_out`. Returns the evaluator."""
    names = {category["id"]: category["name"] for category in CATEGORIES}
    for index, (image_id, category_id, box_xywh) in enumerate(OBJECTS):
        if index not in left_out:
            evaluator.add(image_id, make_detections((names[category_id], 0.9 - index / 10, box_xywh)))
    return evaluator
