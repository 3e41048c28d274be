"""Evaluation of a recipe's detector on its validation split."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from ssd.data.dataset import create_dataset
from ssd.errors import UserError
from ssd.evaluation import evaluator as evaluator_module
from ssd.evaluation.evaluator import DetectorEvaluator, create_evaluator, val_annotation_path
from ssd.inference.network import InferenceTimes
from ssd.models.detector import create_detector
from ssd.runtime.device import Runtime
from toy_annotations import CLASSES, OBJECTS, make_detections


def test_annotation_path_is_read_from_dataset_info(shapes_records, tmp_path):
    assert val_annotation_path(shapes_records) == shapes_records / "annotations" / "instances_val2017.json"
    assert val_annotation_path(shapes_records).is_file()
    dataset_info = json.loads((shapes_records / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps({**dataset_info, "annotations": "annotations/other.json"}))
    assert val_annotation_path(tmp_path) == tmp_path / "annotations" / "other.json"


def test_annotation_path_without_dataset_info(tmp_path):
    assert val_annotation_path(tmp_path) == tmp_path / "annotations" / "instances_val2017.json"


def test_all_images_of_a_split_are_evaluated(tiny_recipe, shapes_records):
    cfg = tiny_recipe(
        data_dir=str(shapes_records), num_classes=None, batch_size=3, min_score=0.0, num_parallel_workers=1
    )
    evaluate = DetectorEvaluator(cfg, create_detector(cfg), create_dataset(cfg, "val"))
    result = evaluate()
    detections, metrics = result.evaluator.results, result.coco_metrics.metrics
    image_ids = [image["id"] for image in json.loads(val_annotation_path(shapes_records).read_text())["images"]]
    assert len(image_ids) == 4  # in batches of 3 and 1
    assert {row["image_id"] for row in detections} == set(image_ids)
    category_ids = set(result.evaluator.ground_truth.getCatIds())
    assert len(category_ids) == cfg.num_classes - 1 and {row["category_id"] for row in detections} <= category_ids
    x, y, width, height = np.array([row["bbox"] for row in detections]).T
    corners = np.stack([x, y, x + width, y + height])
    assert corners.min() >= -1e-3 and corners.max() <= 96 + 1e-3 and corners.max() > 64  # pixels of 96x96 images
    assert 0 <= metrics["AP"] < 0.5 and not math.isnan(metrics["AR100"])
    assert "Average Recall" in result.coco_metrics.table
    assert result.mean_ap == metrics["AP"] and result.image_ids == image_ids
    times = result.times
    assert (times.num_images, times.first_batch_images) == (4, 3) and min(times.images_per_second().values()) > 0
    second = evaluate().evaluator
    assert second is not result.evaluator and len(second.results) == len(detections)  # each call starts empty


@pytest.fixture
def fake_detector(monkeypatch):
    """fake_detector(images) makes DetectorEvaluator detect these (image id, Detections)."""

    def fake(images):
        for name in ("create_inference_net", "create_nms"):
            monkeypatch.setattr(evaluator_module, name, lambda *_: None)
        monkeypatch.setattr(evaluator_module, "detect_dataset", lambda *_, **__: iter(images))

    return fake


def test_images_count_once_and_absent_images_are_reported(annotation_path, tmp_path, fake_detector, capsys):
    (tmp_path / "annotations").mkdir()
    annotation_path.rename(tmp_path / "annotations" / "instances_val2017.json")
    cat, dog = make_detections(("cat", 0.9, OBJECTS[0][2])), make_detections(("dog", 0.8, OBJECTS[1][2]))
    fake_detector([(11, cat), (11, dog), (13, make_detections())])
    cfg = SimpleNamespace(data_dir=str(tmp_path), classes=CLASSES, metric="voc")
    result = DetectorEvaluator(cfg, None, None)()
    assert [row["category_id"] for row in result.evaluator.results] == [90]
    assert result.image_ids == [11, 13]
    assert result.mean_ap == result.voc_metrics.AP == pytest.approx(0.5 / 3)  # one of two cats, no dog, no bird
    warning = capsys.readouterr().err
    assert "instances_val2017.json: " in warning and "1 of 3 images" in warning and warning.count("\n") == 1


@pytest.mark.parametrize("metric, key", [("coco", "iscrowd"), ("voc", "iscrowd"), ("voc", "difficult")])
@pytest.mark.parametrize("content", ["no annotations", "ignored annotations"])
def test_annotations_without_objects_are_refused_for_training(
    metric, key, content, annotation_path, tmp_path, fake_detector
):
    fake_detector([])
    (tmp_path / "annotations").mkdir()
    target = tmp_path / "annotations" / "instances_val2017.json"
    annotations = json.loads(annotation_path.read_text())
    cfg = SimpleNamespace(data_dir=str(tmp_path), classes=CLASSES, metric=metric)

    def evaluator() -> DetectorEvaluator:
        target.write_text(json.dumps(annotations))
        return DetectorEvaluator(cfg, None, None)

    evaluator().require_objects()
    if content == "no annotations":
        annotations["annotations"] = []
    for row in annotations["annotations"]:
        row[key] = 1
    with pytest.raises(UserError, match=f"^{target}: .*--eval_while_train"):
        evaluator().require_objects()


def test_class_names_are_required(tmp_path, fake_detector):
    fake_detector([])
    with pytest.raises(UserError, match=r"dataset\.json.*--classes"):
        DetectorEvaluator(SimpleNamespace(data_dir=str(tmp_path), classes=None), None, None)


def test_throughput_excludes_the_first_batch_unless_it_is_the_only_one():
    times = InferenceTimes(
        num_images=10,
        first_batch_images=4,
        data_seconds=2,
        first_batch_seconds=50,
        network_seconds=3,
        postprocessing_seconds=0.5,
    )
    assert times.images_per_second() == {"data": 5, "network": 2, "postprocessing": 20}
    times = InferenceTimes(
        num_images=4,
        first_batch_images=4,
        data_seconds=2,
        first_batch_seconds=2,
        network_seconds=0,
        postprocessing_seconds=0.5,
    )
    assert times.images_per_second() == {"data": 2, "network": 2, "postprocessing": 8}


def test_each_device_evaluates_its_share_with_its_cores(tiny_recipe, shapes_records, tiny_detector, monkeypatch):
    given = {}
    monkeypatch.setattr(evaluator_module, "create_dataset", lambda cfg, split, **values: given.update(values))
    cfg = tiny_recipe(data_dir=str(shapes_records), num_classes=None)
    create_evaluator(cfg, tiny_detector, Runtime(1, world_size=2, num_cores=3.5))
    assert given == {"rank": 1, "world_size": 2, "num_cores": 3.5}
