"""The annotations written beside the shards are read by our evaluation and by pycocotools with the same result."""

import json
import math
import shutil

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ssd.boxes.multiclass_nms import Detections
from ssd.data import mindrecord
from ssd.data.readers.coco_layouts import CocoFolder
from ssd.data.readers.splits import read_splits
from ssd.evaluation.coco_metrics import CocoEvaluator
from ssd.evaluation.report.matches import collect_matches
from ssd.evaluation.voc_metrics import compute_voc_metrics

# Height 320: the rows 10 to 59 of the columns 20 and 21.
MASK = {"size": [320, 320], "counts": [20 * 320 + 10, 50, 270, 50]}


def text(content):
    """Write all numbers of the annotations as text."""
    for annotation in content["annotations"]:
        annotation.update({key: str(annotation[key]) for key in ("id", "image_id", "category_id", "area", "iscrowd")})
        annotation["bbox"] = [str(value) for value in annotation["bbox"]]
    for image in content["images"]:
        image.update({key: str(image[key]) for key in ("id", "height", "width")})
    for category in content["categories"]:
        category["id"] = str(category["id"])


def change_second(**changes):
    """Return a function that changes the second annotation."""
    return lambda content: content["annotations"][1].update(changes)


def remove(*keys):
    """Return a function that removes keys of all annotations."""
    return lambda content: [annotation.pop(key) for annotation in content["annotations"] for key in keys]


CHANGES = {
    "nothing": lambda content: None,
    "area null": change_second(area=None),
    "area text": change_second(area="123.5"),
    "area list": change_second(area=[1]),
    "area NaN": change_second(area=math.nan),
    "no area, no iscrowd": remove("area", "iscrowd"),
    "no annotation ids": remove("id"),
    "annotation id 0": change_second(id=0),
    "the same id twice": lambda content: change_second(id=content["annotations"][0]["id"])(content),
    "annotation id list": change_second(id=[1]),
    "iscrowd null": change_second(iscrowd=None),
    "iscrowd '0'": change_second(iscrowd="0"),
    "iscrowd '1'": change_second(iscrowd="1"),
    "ignore '0'": change_second(ignore="0"),
    "crowd mask": change_second(iscrowd=1, bbox=None, area=None, segmentation=MASK),
    "crowd polygon": change_second(iscrowd=1, bbox=[], area=None, segmentation=[[5, 5, 50, 5, 50, 60]]),
    "reversed": change_second(bbox=[150, 160, -70, -80]),
    "text": text,
}


ENCODINGS = ("utf-8-sig", "utf-16")  # Windows programs write a byte order mark, or UTF-16


@pytest.mark.parametrize("name", [*CHANGES, *ENCODINGS])
def test_the_written_file_is_read_without_faults(name, shapes_coco, tmp_path):
    coco = shutil.copytree(shapes_coco, tmp_path / "coco")
    for path in sorted((coco / "annotations").iterdir()):
        content = json.loads(path.read_text())
        if name in CHANGES:
            CHANGES[name](content)
        path.write_text(json.dumps(content), encoding=name if name in ENCODINGS else "utf-8")
    train, val = read_splits(CocoFolder(coco))
    info = mindrecord.convert(train, val, tmp_path / "out", overwrite=False, num_workers=1)

    path = tmp_path / "out" / info.annotations
    assert (path.name == "instances_val2017.json") == (name == "nothing")  # only a normal file is copied
    evaluator = CocoEvaluator(path, info.classes)
    for image in val.images:
        rows = image.ground_truth
        detections = Detections(
            boxes_yxyx=rows[:, :4].astype(np.float32),
            scores=np.full(len(rows), 0.5, np.float32),
            labels=rows[:, 4].astype(np.int32),
        )
        evaluator.add(image.image_id, detections)
    metrics = evaluator.summarize()
    category_ids = dict(zip(info.classes[1:], evaluator.category_ids[1:]))
    assert metrics.metrics["AP"] == pytest.approx(1)
    assert compute_voc_metrics(evaluator.ground_truth, evaluator.results, category_ids).AP == pytest.approx(1)
    matches = collect_matches(evaluator, metrics.coco_eval)
    assert len(matches.ground_truth) == info.val.boxes and len(matches.crowds) == info.val.crowd_boxes
    assert info.val.crowd_boxes == (1 if name in ("iscrowd '1'", "crowd mask", "crowd polygon") else 0)

    ground_truth = COCO(str(path))  # the file itself, not as our evaluation reads it
    coco_eval = COCOeval(ground_truth, ground_truth.loadRes(evaluator.results), "bbox")
    coco_eval.evaluate()
    coco_eval.accumulate()
    coco_eval.summarize()
    assert coco_eval.stats.tolist() == list(metrics.metrics.values())
