"""Evaluation of a recipe's detector on its data."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from pets import CLASSES, OBJECTS, detections
from ssd.data.dataset import create_dataset
from ssd.errors import UserError
from ssd.evaluation import evaluator as evaluator_module
from ssd.evaluation.evaluator import DetectorEvaluator, annotation_path
from ssd.inference.network import Stopwatch
from ssd.models.detector import create_detector


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
    evaluation = DetectorEvaluator(cfg, create_detector(cfg), create_dataset(cfg, "val"))
    evaluated = evaluation()
    scored, metrics = evaluated.evaluator, evaluated.scores.metrics
    image_ids = [image["id"] for image in json.loads(annotation_path(shapes_records).read_text())["images"]]
    assert len(image_ids) == 4  # in batches of 3 and 1
    assert {result["image_id"] for result in scored.results} == set(image_ids)
    known = set(scored.truth.getCatIds())
    assert {result["category_id"] for result in scored.results} <= known and len(known) == cfg.num_classes - 1
    corners = np.array([result["bbox"] for result in scored.results]) @ np.array(
        [[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]]
    )
    assert corners.min() >= -1e-3 and corners.max() <= 96 + 1e-3 and corners.max() > 64  # pixels of 96x96 images
    assert 0 <= metrics["AP"] < 0.5 and not math.isnan(metrics["AR100"]) and "Average Recall" in evaluated.scores.table
    assert evaluated.mean_ap == metrics["AP"] and evaluated.image_ids == image_ids
    watch = evaluated.stopwatch
    assert (watch.images, watch.first_images) == (4, 3) and min(watch.rates().values()) > 0
    again = evaluation().evaluator
    assert again is not scored and len(again.results) == len(scored.results)  # nothing is left from the call before


def test_an_image_is_scored_once_and_absent_ones_are_told(truth, tmp_path, monkeypatch, capsys):
    (tmp_path / "annotations").mkdir()
    truth.rename(tmp_path / "annotations" / "instances_val2017.json")
    cat, dog = detections(("cat", 0.9, OBJECTS[0][2])), detections(("dog", 0.8, OBJECTS[1][2]))
    monkeypatch.setattr(evaluator_module, "create_inference_net", lambda *_: None)
    monkeypatch.setattr(evaluator_module, "create_selector", lambda *_: None)
    monkeypatch.setattr(evaluator_module, "detect", lambda *_: iter([(11, cat), (11, dog), (13, detections())]))
    evaluation = DetectorEvaluator(SimpleNamespace(data_dir=str(tmp_path), classes=CLASSES, metric="voc"), None, None)
    evaluated = evaluation()
    assert [result["category_id"] for result in evaluated.evaluator.results] == [90]
    assert evaluated.image_ids == [11, 13]
    assert evaluated.mean_ap == evaluated.voc.AP == pytest.approx(0.5 / 3)  # one of two cats, no dog, no bird
    assert "instances_val2017.json: 1 of its images are not in the shards" in capsys.readouterr().err


def test_evaluation_needs_names_of_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluator_module, "create_inference_net", lambda *_: None)
    monkeypatch.setattr(evaluator_module, "create_selector", lambda *_: None)
    with pytest.raises(UserError, match="got no dataset.json and no class names"):
        DetectorEvaluator(SimpleNamespace(data_dir=str(tmp_path), classes=None), None, None)


def test_rates_leave_the_first_batch_out_where_there_is_another():
    watch = Stopwatch(images=10, first_images=4, data=2, first_network=50, network=3, postprocessing=0.5)
    assert watch.rates() == {"data": 5, "network": 2, "postprocessing": 20}
    watch = Stopwatch(images=4, first_images=4, data=2, first_network=2, network=0, postprocessing=0.5)
    assert watch.rates() == {"data": 2, "network": 2, "postprocessing": 8}
