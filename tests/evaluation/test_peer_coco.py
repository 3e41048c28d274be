"""Our COCO metrics are those of another implementation, faster-coco-eval, on random sets of boxes.

SSD_RANDOM_SETS is the number of sets; `make peers` takes 500.
"""

import contextlib
import io
import json
import os

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster

from ssd.boxes.multiclass_nms import Detections
from ssd.boxes.ops import xywh_to_yxyx
from ssd.evaluation.coco_metrics import METRICS, CocoEvaluator

SETS = int(os.environ.get("SSD_RANDOM_SETS", "30"))


def random_boxes(rng, count):
    """Return boxes_xywh on a grid of 4 pixels, so that equal boxes, IoUs equal to a threshold and sides of 32 and 96
    pixels are frequent. Some are off the grid."""
    boxes = np.concatenate([rng.integers(0, 60, (count, 2)), rng.integers(1, 33, (count, 2))], axis=1) * 4.0
    return boxes + (rng.random((count, 1)) < 0.3) * rng.normal(0, 1, (count, 4)).clip(-1, 1)


def random_annotations(rng):
    """Return a dict of COCO annotations with crowds, areas below those of the boxes, and images without objects."""
    num_classes, num_images = int(rng.integers(1, 5)), int(rng.integers(1, 9))
    category_ids = rng.permutation(90)[:num_classes] + 1
    image_ids = rng.permutation(1000)[:num_images]
    rows = []
    for image_id in image_ids:
        for box in random_boxes(rng, count=rng.integers(0, 12) * (rng.random() < 0.8)).tolist():
            row = {
                "id": len(rows) + 1,
                "image_id": int(image_id),
                "category_id": int(rng.choice(category_ids)),
                "bbox": box,
                "area": box[2] * box[3] * rng.choice([1.0, 0.5]),
                "iscrowd": int(rng.random() < 0.15),
            }
            rows.append(row)
    return {
        "images": [{"id": int(id_), "width": 400, "height": 400, "file_name": f"{id_}.jpg"} for id_ in image_ids],
        "categories": [{"id": int(id_), "name": f"class {id_}"} for id_ in category_ids],
        "annotations": rows,
    }


def random_detections(rng, document, image_id):
    """Return (boxes_xywh, scores, labels) of an image: moved objects, many with the same score, and false positives.

    Some images have more than 100 detections of a class.
    """
    category_ids = [category["id"] for category in document["categories"]]
    rows = [row for row in document["annotations"] if row["image_id"] == image_id]
    boxes = np.array([row["bbox"] for row in rows]).reshape(-1, 4)
    labels = np.array([category_ids.index(row["category_id"]) + 1 for row in rows], int)
    copies = rng.integers(0, 3, len(rows))
    boxes, labels = np.repeat(boxes, copies, axis=0), np.repeat(labels, copies)
    boxes = boxes + rng.integers(-1, 2, boxes.shape) * 4.0 * (rng.random((len(boxes), 1)) < 0.7)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 1)
    extra = int(rng.choice([0, 5, 250], p=[0.3, 0.6, 0.1]))
    boxes = np.concatenate([boxes, random_boxes(rng, extra)])
    labels = np.concatenate([labels, rng.integers(1, len(category_ids) + 1, extra)])
    scores = np.where(rng.random(len(boxes)) < 0.5, rng.integers(0, 5, len(boxes)) / 4, rng.random(len(boxes)))
    return boxes, scores, labels


def peer_stats(document, results):
    """Return the metrics of faster-coco-eval, named as ours."""
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO(document)
        peer = COCOeval_faster(ground_truth, ground_truth.loadRes(results), "bbox")
        peer.evaluate()
        peer.accumulate()
        peer.summarize()
    return dict(zip(METRICS, peer.stats[:12])), peer


@pytest.mark.parametrize("seed", range(SETS))
def test_random_sets_have_the_metrics_of_faster_coco_eval(seed, tmp_path):
    rng = np.random.default_rng(seed)
    document = random_annotations(rng)
    path = tmp_path / "val.json"
    path.write_text(json.dumps(document))
    classes = ["background", *(category["name"] for category in document["categories"])]
    ours, results = CocoEvaluator(path, classes), []
    for image in document["images"]:
        boxes, scores, labels = random_detections(rng, document, image["id"])
        ours.add(image["id"], Detections(boxes_yxyx=xywh_to_yxyx(boxes), scores=scores, labels=labels))
        for box, score, label in zip(boxes.tolist(), scores.tolist(), labels.tolist()):
            category_id = document["categories"][label - 1]["id"]
            results.append({"image_id": image["id"], "category_id": category_id, "bbox": box, "score": score})
    found = ours.summarize()
    if not results:
        assert {value for value in found.metrics.values()} <= {0, -1}
        return
    expected, peer = peer_stats(document, results)
    assert found.metrics == pytest.approx(expected, abs=1e-12, rel=0)
    for entry, category in zip(found.per_class, document["categories"]):
        precision = peer.eval["precision"][:, :, peer.params.catIds.index(category["id"]), 0, -1]
        ap = precision[precision > -1].mean() if (precision > -1).any() else -1
        assert entry.AP == pytest.approx(ap, abs=1e-12, rel=0), category
