"""The metrics that eval.py prints and the files it writes."""

import contextlib
import csv
import dataclasses
import io
import json
import re
from pathlib import Path

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ssd.errors import UserError
from ssd.evaluation.coco_metrics import CocoEvaluator
from ssd.evaluation.evaluator import EvaluationResult
from ssd.evaluation.results import format_metrics, write_results
from ssd.evaluation.voc_metrics import compute_voc_metrics
from ssd.inference.network import InferenceTimes
from toy_annotations import CLASSES, add_exact_detections, make_detections

CHECKPOINT = Path("ckpt/best.ckpt")


def make_result(evaluator, times=None):
    return EvaluationResult(
        evaluator=evaluator,
        coco_metrics=evaluator.summarize(),
        image_ids=[11, 12, 13],
        times=times or InferenceTimes(),
    )


@pytest.fixture
def result(annotation_path):
    """Three of four objects are detected exactly, one inaccurately, and there is one false positive."""
    evaluator = add_exact_detections(CocoEvaluator(annotation_path, CLASSES), left_out=[1])
    evaluator.add(11, make_detections(("dog", 0.95, (58, 5, 40, 41)), ("cat", 0.5, (70, 70, 10, 10))))
    times = InferenceTimes(
        num_images=3,
        first_batch_images=2,
        data_seconds=0.5,
        first_batch_seconds=4,
        network_seconds=0.25,
        postprocessing_seconds=0.25,
    )
    return make_result(evaluator, times)


@pytest.fixture
def voc_result(result):
    """`result` with Pascal VOC's metrics."""
    evaluator = result.evaluator
    category_ids = dict(zip(CLASSES[1:], evaluator.category_ids[1:]))
    voc_metrics = compute_voc_metrics(evaluator.ground_truth, evaluator.results, category_ids)
    return dataclasses.replace(result, voc_metrics=voc_metrics)


@pytest.fixture
def recipe(load_recipe, shapes_records, tmp_path):
    """A recipe with shards whose image ids include those of `annotation_path`, for the pictures of the report."""
    folder = str(tmp_path / "new" / "output")
    return load_recipe("ssd_mobilenetv2", data_dir=str(shapes_records), num_classes=None, output_dir=folder)


def test_pycocotools_reproduces_the_metrics_from_the_written_file(result, recipe, annotation_path):
    write_results(recipe, result, CHECKPOINT)
    folder, metrics = Path(recipe.output_dir), result.coco_metrics.metrics
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO(str(annotation_path))
        predictions = ground_truth.loadRes(str(folder / "predictions.json"))
        coco_eval = COCOeval(ground_truth, predictions, "bbox")
        coco_eval.evaluate()
        coco_eval.accumulate()
        coco_eval.summarize()
    assert 0.5 < metrics["AP"] < 1
    assert coco_eval.stats.tolist() == list(metrics.values())  # exactly
    written = json.loads((folder / "metrics.json").read_text())
    assert written["mAP"] == metrics["AP"] and {name: written[name] for name in metrics} == metrics
    assert (written["checkpoint"], written["images"], written["nms"]) == ("ckpt/best.ckpt", 3, "hard")
    assert written["images_per_second"] == {"data": 6, "network": 4, "postprocessing": 12}
    assert "data:image/jpeg;base64," in (folder / "report.html").read_text()


def names_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_other_results_are_archived_and_equal_results_are_replaced(result, recipe):
    folder, names = Path(recipe.output_dir), ["metrics.json", "per_class.csv", "predictions.json", "report.html"]
    write_results(recipe, result, CHECKPOINT)
    write_results(recipe, dataclasses.replace(result, times=InferenceTimes(num_images=3)), CHECKPOINT)
    assert names_in(folder) == names  # only the throughput differed
    (folder / "notes.txt").write_text("my own")
    previous = {name: (folder / name).read_bytes() for name in names}
    result.evaluator.results[0]["score"] *= 0.999
    write_results(recipe, result, CHECKPOINT)
    assert names_in(folder) == sorted([*names, "notes.txt", *(f"earlier-1/{name}" for name in names)])
    assert {name: (folder / "earlier-1" / name).read_bytes() for name in names} == previous
    write_results(recipe, result, Path("ckpt/other.ckpt"))
    assert len(names_in(folder / "earlier-2")) == 4


def test_a_failure_leaves_the_previous_results(result, recipe, monkeypatch):
    write_results(recipe, result, CHECKPOINT)
    folder = Path(recipe.output_dir)
    previous = {name: (folder / name).read_bytes() for name in names_in(folder)}

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ssd.evaluation.report.page.write_html_report", fail)
    result.evaluator.results[0]["score"] *= 0.999
    with pytest.raises(UserError, match="^output_dir: .*no space left"):
        write_results(recipe, result, CHECKPOINT)
    assert {name: (folder / name).read_bytes() for name in names_in(folder)} == previous


def test_metrics_of_classes_are_written_as_a_table(result, recipe):
    write_results(recipe, result, CHECKPOINT)
    with open(Path(recipe.output_dir) / "per_class.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["name", "objects", "detections", "AP", "AP50", "AP75", "AR100"]
    assert [row["name"] for row in rows] == ["cat", "dog", "bird"]
    assert (rows[0]["objects"], rows[0]["detections"]) == ("2", "3")
    assert [float(row["AP"]) for row in rows] == [metrics.AP for metrics in result.coco_metrics.per_class]


def test_results_may_be_empty(annotation_path, recipe):
    write_results(recipe, make_result(CocoEvaluator(annotation_path, CLASSES)), CHECKPOINT)
    assert json.loads((Path(recipe.output_dir) / "predictions.json").read_text()) == []


def find_row(text, name):
    """Return the cells of the last line that starts with `name`."""
    return [line.split() for line in text.splitlines() if line.split()[:1] == [name]][-1]


def test_the_map_is_the_last_line(result):
    text = format_metrics(result)
    assert text.startswith(result.coco_metrics.table)
    assert find_row(text, "class") == ["class", "objects", "detections", "AP", "AP50", "AP75", "AR100"]
    bird = result.coco_metrics.per_class[2]
    assert find_row(text, "bird") == [
        "bird",
        "1",
        "1",
        f"{bird.AP:.3f}",
        f"{bird.AP50:.3f}",
        f"{bird.AP75:.3f}",
        "1.000",
    ]
    lines = text.splitlines()
    assert lines[-2].startswith("3 images ") and "5.0 s" in lines[-2] and "4.0 s" in lines[-2]
    assert "data 6.0" in lines[-2] and "network 4.0" in lines[-2] and "postprocessing 12" in lines[-2]
    assert lines[-1] == f"mAP: {result.coco_metrics.metrics['AP']:.4f}"


def test_the_throughput_is_that_of_one_device(result):
    result.image_ids.extend([14, 15])
    assert "\n3 of 5 images " in format_metrics(result)


def test_output_dir_must_be_writable(result, recipe, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "output"):
        with pytest.raises(UserError, match=rf"^output_dir: .*{re.escape(str(folder))}"):
            write_results(recipe.model_copy(update={"output_dir": str(folder)}), result, CHECKPOINT)
    (tmp_path / "taken" / "metrics.json").mkdir(parents=True)
    with pytest.raises(UserError, match=r"^output_dir: .*taken/metrics\.json"):
        write_results(recipe.model_copy(update={"output_dir": str(tmp_path / "taken")}), result, CHECKPOINT)


def test_metrics_of_a_class_without_objects_are_dashes(annotation_path):
    evaluator = CocoEvaluator(annotation_path, CLASSES[:2])
    evaluator.ground_truth.dataset["annotations"] = []
    evaluator.ground_truth.createIndex()
    assert find_row(format_metrics(make_result(evaluator)), "cat") == ["cat", "0", "0", "-", "-", "-", "-"]


def test_the_map_is_that_of_pascal_voc_if_the_recipe_asks_for_it(voc_result, recipe):
    voc_metrics, coco_metrics = voc_result.voc_metrics, voc_result.coco_metrics.metrics
    text = format_metrics(voc_result)
    assert text.splitlines()[-1] == f"mAP: {voc_metrics.AP:.4f}" != f"mAP: {coco_metrics['AP']:.4f}"
    assert find_row(text, "mean") == ["mean", f"{voc_metrics.AP:.3f}", f"{voc_metrics.AP11:.3f}"]
    write_results(recipe, voc_result, CHECKPOINT)
    written = json.loads((Path(recipe.output_dir) / "metrics.json").read_text())
    assert written["mAP"] == written["VOC_AP"] == voc_metrics.AP and written["VOC_AP11"] == voc_metrics.AP11
    assert written["AP"] == coco_metrics["AP"]


def test_pascal_voc_metrics_of_classes_are_written(voc_result, recipe, tmp_path):
    write_results(recipe.model_copy(update={"output_dir": str(tmp_path)}), voc_result, tmp_path / "best.ckpt")
    with open(tmp_path / "per_class.csv", newline="") as file:
        rows = {row["name"]: (float(row["VOC_AP"]), float(row["VOC_AP11"])) for row in csv.DictReader(file)}
    assert rows == voc_result.voc_metrics.per_class
