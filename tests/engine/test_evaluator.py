"""COCO's evaluation of detections made by hand."""

import contextlib
import io
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from ssd.boxes.anchors import create_anchors
from ssd.data.dataset import create_dataset
from ssd.engine import evaluator as evaluator_module
from ssd.engine.evaluator import METRICS, CocoEvaluator, Evaluation, annotation_path, write_results
from ssd.errors import UserError
from ssd.models.detector import create_detector
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


@pytest.fixture
def truth(tmp_path):
    """Three images with four objects; the third image has none."""
    return write_annotations(tmp_path / "val.json", [annotation(i + 1, *row) for i, row in enumerate(OBJECTS)])


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


def test_perfect_detections(truth, capsys):
    metrics, table = add_all_but(CocoEvaluator(truth, CLASSES)).summarize()
    assert tuple(metrics) == METRICS
    assert [metrics[name] for name in ("AP", "AP50", "AP75", "AR100")] == pytest.approx([1] * 4)
    assert "Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 1.000" in table
    assert capsys.readouterr().out == ""  # the table is given back, not printed


def test_no_detections(truth):
    metrics, table = CocoEvaluator(truth, CLASSES).summarize()
    assert metrics["AP"] == metrics["AR100"] == 0
    assert "= 0.000" in table


def test_figures_that_have_nothing_to_score_are_minus_one(truth):
    metrics, _ = add_all_but(CocoEvaluator(truth, CLASSES)).summarize()
    assert [metrics["AP_small"], metrics["AP_medium"]] == pytest.approx([1, 1])
    assert metrics["AP_large"] == metrics["AR_large"] == -1  # no object is larger than 96x96


def test_half_of_the_cats_by_hand(truth):
    evaluator = add_all_but(CocoEvaluator(truth, CLASSES), left_out=[0])
    # Precision of the cats is 1 up to the recall 0.5: at 51 of the 101 places 0, 0.01 ... 1. Dog and bird are perfect.
    assert evaluator.summarize()[0]["AP"] == pytest.approx((51 / 101 + 1 + 1) / 3)


def test_images_without_detections_count(truth):
    evaluator = CocoEvaluator(truth, CLASSES)
    evaluator.add(11, detections(("cat", 0.9, OBJECTS[0][2]), ("dog", 0.8, OBJECTS[1][2])))
    for image_id in (12, 13):
        evaluator.add(image_id, detections())
    assert evaluator.summarize()[0]["AP"] == pytest.approx((51 / 101 + 1 + 0) / 3)


def test_a_better_score_in_the_wrong_place_costs_precision(truth):
    evaluator = add_all_but(CocoEvaluator(truth, CLASSES))
    evaluator.add(13, detections(("bird", 0.99, (5, 5, 20, 20))))
    assert evaluator.summarize()[0]["AP"] == pytest.approx((1 + 1 + 0.5) / 3)


def test_category_ids_are_those_of_the_file(truth):
    evaluator = CocoEvaluator(truth, CLASSES)
    evaluator.add(11, detections(*((name, 0.5, (1, 2, 3, 4)) for name in CLASSES[1:])))
    assert [result["category_id"] for result in evaluator.results] == [90, 7, 55]
    assert [result["image_id"] for result in evaluator.results] == [11] * 3
    assert evaluator.results[0]["bbox"] == [1, 2, 3, 4]
    assert evaluator.results[0]["score"] == pytest.approx(0.5)


def test_a_box_of_the_right_place_and_wrong_class_is_no_hit(truth):
    evaluator = CocoEvaluator(truth, CLASSES)
    evaluator.add(12, detections(("cat", 0.9, OBJECTS[3][2])))
    assert evaluator.summarize()[0]["AP"] == 0


@pytest.mark.parametrize("inside, ap", [(True, 1), (False, 0.5)])
def test_crowds_forgive_what_lies_in_them(inside, ap, tmp_path):
    region = (50, 40, 60, 50)
    rows = [annotation(1, 11, 90, OBJECTS[0][2]), annotation(2, 11, 90, region, iscrowd=1)]
    evaluator = CocoEvaluator(write_annotations(tmp_path / "val.json", rows), ("background", "cat"))
    evaluator.add(11, detections(("cat", 0.8, OBJECTS[0][2])))
    evaluator.add(11, detections(("cat", 0.9, (55, 45, 20, 20) if inside else (85, 0, 20, 20))))
    assert evaluator.summarize()[0]["AP"] == pytest.approx(ap)


def test_scoring_twice_gives_the_same_and_more_can_follow(truth):
    evaluator = add_all_but(CocoEvaluator(truth, CLASSES), left_out=[3])
    first = evaluator.summarize()
    assert evaluator.summarize() == first
    assert set(evaluator.results[0]) == {"image_id", "category_id", "bbox", "score"}
    evaluator.add(12, detections(("bird", 0.9, OBJECTS[3][2])))
    assert first[0]["AP"] == pytest.approx(2 / 3) and evaluator.summarize()[0]["AP"] == pytest.approx(1)


def test_a_class_that_the_file_does_not_know_is_refused(truth):
    with pytest.raises(UserError) as error:
        CocoEvaluator(truth, ("background", "cat", "fish"))
    assert str(error.value).startswith(f"{truth}: got classes ['bird', 'cat', 'dog'], expected 'fish' among them; ")


def test_an_image_that_the_file_does_not_know_is_refused(truth):
    with pytest.raises(UserError, match="val.json: got no image 99"):
        CocoEvaluator(truth, CLASSES).add(99, detections(("cat", 0.5, (0, 0, 9, 9))))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="got no such file, expected the validation annotations"):
        CocoEvaluator(tmp_path / "val.json", CLASSES)


def test_written_results_score_the_same_elsewhere(truth, tmp_path):
    evaluator = add_all_but(CocoEvaluator(truth, CLASSES), left_out=[1])
    evaluator.add(11, detections(("dog", 0.95, (58, 5, 40, 41)), ("cat", 0.5, (70, 70, 10, 10))))
    metrics, _ = evaluator.summarize()
    write_results(tmp_path / "new" / "output", evaluator, {"mAP": metrics["AP"], **metrics})
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO(str(truth))
        predictions = ground_truth.loadRes(str(tmp_path / "new" / "output" / "predictions.json"))
        other = COCOeval(ground_truth, predictions, "bbox")
        other.evaluate()
        other.accumulate()
        other.summarize()
    assert 0.5 < metrics["AP"] < 1
    assert other.stats.tolist() == pytest.approx(list(metrics.values()))
    assert json.loads((tmp_path / "new" / "output" / "metrics.json").read_text()) == {"mAP": metrics["AP"], **metrics}


def test_written_results_may_be_none(truth, tmp_path):
    evaluator = CocoEvaluator(truth, CLASSES)
    write_results(tmp_path, evaluator, evaluator.summarize()[0])
    assert json.loads((tmp_path / "predictions.json").read_text()) == []


# --- a recipe's data ---


def test_annotations_of_a_folder(shapes_records, tmp_path):
    assert annotation_path(shapes_records) == shapes_records / "annotations" / "instances_val2017.json"
    assert annotation_path(shapes_records).is_file()
    described = json.loads((shapes_records / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps({**described, "annotations": "annotations/other.json"}))
    assert annotation_path(tmp_path) == tmp_path / "annotations" / "other.json"


def test_annotations_of_a_folder_without_description(tmp_path):
    assert annotation_path(tmp_path) == tmp_path / "annotations" / "instances_val2017.json"


def test_every_image_of_a_split_is_scored(tiny_recipe, shapes_records):
    cfg = tiny_recipe(
        data_dir=str(shapes_records), num_classes=None, batch_size=3, min_score=0.0, num_parallel_workers=1
    )
    evaluation = Evaluation(cfg, create_detector(cfg), create_anchors(cfg), create_dataset(cfg, "val"))
    scored, metrics, table = evaluation()
    image_ids = [image["id"] for image in json.loads(annotation_path(shapes_records).read_text())["images"]]
    assert len(image_ids) == 4  # in batches of 3 and 1
    assert {result["image_id"] for result in scored.results} == set(image_ids)
    known = set(scored.truth.getCatIds())
    assert {result["category_id"] for result in scored.results} <= known and len(known) == cfg.num_classes - 1
    corners = np.array([result["bbox"] for result in scored.results]) @ np.array(
        [[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]]
    )
    assert corners.min() >= -1e-3 and corners.max() <= 96 + 1e-3 and corners.max() > 64  # pixels of 96x96 images
    assert 0 <= metrics["AP"] < 0.5 and not math.isnan(metrics["AR100"]) and "Average Recall" in table
    again = evaluation()[0]
    assert again is not scored and len(again.results) == len(scored.results)  # nothing is left from the call before


def test_an_image_is_scored_once_and_absent_ones_are_told(truth, tmp_path, monkeypatch, capsys):
    (tmp_path / "annotations").mkdir()
    truth.rename(tmp_path / "annotations" / "instances_val2017.json")
    cat, dog = detections(("cat", 0.9, OBJECTS[0][2])), detections(("dog", 0.8, OBJECTS[1][2]))
    monkeypatch.setattr(evaluator_module, "create_inference_net", lambda *_: None)
    monkeypatch.setattr(evaluator_module, "create_selector", lambda *_: None)
    monkeypatch.setattr(evaluator_module, "detect", lambda *_: iter([(11, cat), (11, dog), (13, detections())]))
    evaluation = Evaluation(SimpleNamespace(data_dir=str(tmp_path), classes=CLASSES), None, None, None)
    scored, _, _ = evaluation()
    assert [result["category_id"] for result in scored.results] == [90]
    assert "instances_val2017.json: 1 of its images are not in the shards" in capsys.readouterr().err


def test_evaluation_needs_names_of_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluator_module, "create_inference_net", lambda *_: None)
    monkeypatch.setattr(evaluator_module, "create_selector", lambda *_: None)
    with pytest.raises(UserError, match="got no dataset.json and no class names"):
        Evaluation(SimpleNamespace(data_dir=str(tmp_path), classes=None), None, None, None)
