"""What eval.py prints and writes."""

import contextlib
import csv
import io
import json
from pathlib import Path

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pets import CLASSES, add_all_but, detections
from ssd.errors import UserError
from ssd.evaluation.coco_metrics import CocoEvaluator
from ssd.evaluation.evaluator import EvaluationResult
from ssd.evaluation.results import check_output, format_scores, write_results
from ssd.evaluation.voc_metrics import compute_voc_metrics
from ssd.inference.network import Stopwatch

CHECKPOINT = Path("ckpt/best.ckpt")


@pytest.fixture
def evaluated(truth):
    """Three of four objects found, one of them badly, and two mistakes."""
    evaluator = add_all_but(CocoEvaluator(truth, CLASSES), left_out=[1])
    evaluator.add(11, detections(("dog", 0.95, (58, 5, 40, 41)), ("cat", 0.5, (70, 70, 10, 10))))
    watch = Stopwatch(images=3, first_images=2, data=0.5, first_network=4, network=0.25, postprocessing=0.25)
    return EvaluationResult(evaluator, evaluator.summarize(), [11, 12, 13], watch)


def with_voc(evaluated):
    evaluator = evaluated.evaluator
    voc = compute_voc_metrics(evaluator.truth, evaluator.results, dict(zip(CLASSES[1:], evaluator.category_ids[1:])))
    return EvaluationResult(evaluator, evaluated.scores, evaluated.image_ids, evaluated.stopwatch, voc)


@pytest.fixture
def recipe(load_recipe, shapes_records, tmp_path):
    """With shards that have images of the ids of `truth`, for the pictures of the report."""
    folder = str(tmp_path / "new" / "output")
    return load_recipe("ssd_mobilenetv2", data_dir=str(shapes_records), num_classes=None, output_dir=folder)


def test_written_results_score_the_same_elsewhere(evaluated, recipe, truth):
    write_results(recipe, evaluated, CHECKPOINT)
    folder, metrics = Path(recipe.output_dir), evaluated.scores.metrics
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO(str(truth))
        predictions = ground_truth.loadRes(str(folder / "predictions.json"))
        other = COCOeval(ground_truth, predictions, "bbox")
        other.evaluate()
        other.accumulate()
        other.summarize()
    assert 0.5 < metrics["AP"] < 1
    assert other.stats.tolist() == list(metrics.values())  # to the last digit
    written = json.loads((folder / "metrics.json").read_text())
    assert written["mAP"] == metrics["AP"] and {name: written[name] for name in metrics} == metrics
    assert (written["checkpoint"], written["images"], written["nms"]) == ("ckpt/best.ckpt", 3, "hard")
    assert "data:image/jpeg;base64," in (folder / "report.html").read_text()
    assert written["images_per_second"] == {"data": 6, "network": 4, "postprocessing": 12}


def test_classes_are_written_as_a_table(evaluated, recipe):
    write_results(recipe, evaluated, CHECKPOINT)
    with open(Path(recipe.output_dir) / "per_class.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["cat", "dog", "bird"]
    assert (rows[0]["objects"], rows[0]["detections"]) == ("2", "3")
    assert [float(row["AP"]) for row in rows] == [scores.AP for scores in evaluated.scores.per_class]


def test_results_may_be_none(truth, recipe):
    evaluator = CocoEvaluator(truth, CLASSES)
    write_results(recipe, EvaluationResult(evaluator, evaluator.summarize(), [11, 12, 13], Stopwatch()), CHECKPOINT)
    assert json.loads((Path(recipe.output_dir) / "predictions.json").read_text()) == []


def test_report_ends_with_the_map(evaluated):
    lines = format_scores(evaluated).splitlines()
    assert lines[0].startswith(" Average Precision  (AP) @[ IoU=0.50:0.95")
    assert lines[13].split() == ["class", "objects", "detections", "AP", "AP50", "AP75", "AR100"]
    bird = evaluated.scores.per_class[2]
    assert lines[16].split() == ["bird", "1", "1", f"{bird.AP:.3f}", f"{bird.AP50:.3f}", f"{bird.AP75:.3f}", "1.000"]
    assert lines[-2].startswith("3 images in 5.0 s, 4.0 s of them the first batch")
    assert lines[-2].endswith("images/s: data 6.0, network 4.0, postprocessing 12")
    assert lines[-1] == f"mAP: {evaluated.scores.metrics['AP']:.4f}"


def test_a_device_tells_its_share_of_the_images(evaluated):
    evaluated.image_ids.extend([14, 15])
    assert "\n3 images of the 5, this device's, in 5.0 s, " in format_scores(evaluated)


def test_a_folder_that_cannot_be_written_to_is_told_before_and_after(evaluated, recipe, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "output"):
        with pytest.raises(UserError, match=f"output_dir: got {folder}, but {tmp_path}/file is no folder, expected"):
            check_output(folder)
        with pytest.raises(UserError, match=f"output_dir: got {folder}, where {folder} cannot be written"):
            write_results(recipe.model_copy(update={"output_dir": str(folder)}), evaluated, CHECKPOINT)
    (tmp_path / "taken" / "metrics.json").mkdir(parents=True)
    with pytest.raises(UserError, match="metrics.json cannot be written .is a directory., expected"):
        write_results(recipe.model_copy(update={"output_dir": str(tmp_path / "taken")}), evaluated, CHECKPOINT)
    for folder in (tmp_path, tmp_path / "not" / "yet", Path("not/yet")):
        check_output(folder)
        assert not folder.exists() or folder == tmp_path


def test_figures_that_are_not_there_are_a_dash(truth):
    classes = CLASSES[:2]
    evaluator = CocoEvaluator(truth, classes)
    evaluator.truth.dataset["annotations"] = []
    evaluator.truth.createIndex()
    report = format_scores(EvaluationResult(evaluator, evaluator.summarize(), [11, 12, 13], Stopwatch()))
    assert "cat          0           0      -      -      -      -" in report.splitlines()


def test_voc_is_printed_and_is_the_map(evaluated, recipe):
    voc = with_voc(evaluated)
    lines = format_scores(voc).splitlines()
    assert lines[-1] == f"mAP: {voc.voc.AP:.4f}" != f"mAP: {evaluated.scores.metrics['AP']:.4f}"
    mean = next(line for line in lines if line.startswith("mean"))
    assert mean.split() == ["mean", f"{voc.voc.AP:.3f}", f"{voc.voc.AP11:.3f}"]
    write_results(recipe, voc, CHECKPOINT)
    written = json.loads((Path(recipe.output_dir) / "metrics.json").read_text())
    assert written["mAP"] == written["VOC_AP"] == voc.voc.AP and written["VOC_AP11"] == voc.voc.AP11
    assert written["AP"] == evaluated.scores.metrics["AP"]


def test_voc_figures_of_classes_are_in_their_table(evaluated, recipe, tmp_path):
    voc = with_voc(evaluated)
    write_results(recipe.model_copy(update={"output_dir": str(tmp_path)}), voc, tmp_path / "best.ckpt")
    with open(tmp_path / "per_class.csv", newline="") as file:
        rows = {row["name"]: (float(row["VOC_AP"]), float(row["VOC_AP11"])) for row in csv.DictReader(file)}
    assert rows == voc.voc.per_class
