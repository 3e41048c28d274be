"""Tests of tools/benchmark.py: every case runs on a tiny dataset and prints JSON, and the arithmetic is correct."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmark import main
from benchmarks import Case, data, median_ratio, nms
from benchmarks.convert import measure_convert, repeat_images
from benchmarks.network import measure_eval, measure_infer
from benchmarks.step import parse_kernel_times
from benchmarks.time_step import WARM_UP_STEPS
from ssd.errors import UserError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
RECIPE = "examples/det/ssd/ssd_shapes.yaml"
TINY = "tests/tiny.yaml"


def benchmark(*arguments):
    command = [sys.executable, "tools/benchmark.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


def test_median_ratio_is_the_median_of_the_ratios_of_runs():
    case, reference = Case("a", "s", [1.0, 8.0, 3.0]), Case("b", "s", [2.0, 2.0, 1.0])
    assert median_ratio(case, reference) == 3.0  # of 0.5, 4 and 3; the ratio of medians is 1.5
    assert median_ratio(Case("a", "s", [1.0, 3.0]), Case("b", "s", [1.0, 1.0])) == 2.0


def test_kernel_times_are_averaged_over_the_last_steps():
    def line(kind, milliseconds):
        return f"onednn_verbose,v1,primitive,exec,cpu,{kind},jit,forward_training,src_f32::blocked,,,mb8,{milliseconds}"

    steps, all_steps = 2, 2 + WARM_UP_STEPS + 1
    lines = ["onednn_verbose,v1,info,cpu,isa:AVX2", "anything else"]
    for step in range(all_steps):
        slow = 100 if step < WARM_UP_STEPS + 1 else 1
        lines += [line("convolution", 2 * slow), line("convolution", 3 * slow), line("batch_normalization", 0.5 * slow)]
    assert parse_kernel_times("\n".join(lines), steps) == {"convolution": 5.0, "batch_normalization": 0.5}
    assert parse_kernel_times("nothing of oneDNN", steps) == {}


def test_loader_cases(load_recipe, shapes_records, monkeypatch):
    monkeypatch.setattr(data, "MIN_SECONDS", 0.05)
    cfg = load_recipe("ssd_shapes", data_dir=str(shapes_records), image_size=[96, 96], batch_size=2)
    cases = data.measure_data(cfg, repeats=2)
    assert [case.name for case in cases] == ["decode only", "train loader", "val loader"]
    for case in cases:
        assert len(case.runs) == 2 and min(case.runs) > 0 and case.unit == "images/s"
        assert case.settings["batch_size"] == 2 and case.extra["of_decode_only"] > 0
        assert len(case.extra["rss_mib"]) == 2 and min(case.extra["rss_mib"]) > 50


def test_repeated_images_are_a_coco_dataset_with_unique_ids(shapes_coco, tmp_path):
    repeat_images(shapes_coco, tmp_path / "coco", {"train2017": 25, "val2017": 2})
    content = json.loads((tmp_path / "coco" / "annotations" / "instances_train2017.json").read_text())
    original = json.loads((shapes_coco / "annotations" / "instances_train2017.json").read_text())
    assert [image["id"] for image in content["images"]] == list(range(1, 26))
    assert len({annotation["id"] for annotation in content["annotations"]}) == len(content["annotations"])
    first = [annotation["bbox"] for annotation in original["annotations"] if annotation["image_id"] == 1]
    for image_id in (1, 11, 21):  # copies of the first of ten images
        assert [a["bbox"] for a in content["annotations"] if a["image_id"] == image_id] == first
    files = sorted((tmp_path / "coco" / "train2017").iterdir())
    assert len(files) == 25 and files[0].read_bytes() == files[10].read_bytes() != files[1].read_bytes()


def test_repeated_images_may_be_named_as_on_another_machine(shapes_coco, tmp_path):
    folder = shutil.copytree(shapes_coco, tmp_path / "set")
    path = folder / "annotations" / "instances_train2017.json"
    path.write_text(path.read_text().replace('"file_name": "', '"file_name": "/home/anna/'))
    repeat_images(folder, tmp_path / "coco", {"train2017": 3})
    assert len(list((tmp_path / "coco" / "train2017").iterdir())) == 3
    next((folder / "train2017").iterdir()).unlink()
    with pytest.raises(UserError, match="instances_train2017.json"):
        repeat_images(folder, tmp_path / "other", {"train2017": 3})


def test_conversion_cases(shapes_coco):
    copying, converting = measure_convert(shapes_coco, num_images=12, repeats=1)
    assert (copying.name, converting.name) == ("copy", "conversion") and copying.settings["images"] == 20
    assert converting.extra["time_of_copy"] == pytest.approx(copying.runs[0] / converting.runs[0], abs=1e-3)


def test_inference_cases(tiny_recipe):
    cases = measure_infer(tiny_recipe(batch_size=2), repeats=1, steps=2)
    assert [(case.name, case.settings["batch_size"]) for case in cases] == [
        ("network", 1),
        ("network and NMS", 1),
        ("network", 2),
        ("network and NMS", 2),
    ]
    for network, network_and_nms in (cases[:2], cases[2:]):
        assert 0 < network.runs[0] < network_and_nms.runs[0]


def test_all_hard_nms_cases_give_the_same_detections():
    cases = nms.measure_nms(repeats=1)
    assert [case.name for case in cases] == ["loop over classes", "hard NMS", "soft NMS"] * 2
    assert min(case.runs[0] for case in cases) > 0
    for num_clusters in (nms.NUM_ANCHORS, 40):
        boxes, scores = nms.random_predictions(num_clusters)
        num_dense = ((scores >= nms.MIN_SCORE).sum(axis=1) == nms.BOXES_PER_CLASS).sum()
        assert num_dense == nms.NUM_IMAGES * nms.NUM_DENSE_CLASSES
        hard_nms = nms.MulticlassNMS(nms.MIN_SCORE, nms.IOU_THRESHOLD, nms.MAX_DETECTIONS)
        found = hard_nms(*nms.top_candidates(boxes, scores), np.tile(nms.IMAGE_SIZE, (nms.NUM_IMAGES, 1)))
        for image, detections in enumerate(found):
            expected = nms.nms_by_class(boxes[image], scores[image])
            assert len(expected) > 20
            assert detections.labels.tolist() == [label for label, _, _ in expected]
            np.testing.assert_allclose(detections.boxes_yxyx, [box for _, _, box in expected], rtol=1e-5)


def test_evaluation_case(tiny_recipe, shapes_records):
    cfg = tiny_recipe(data_dir=str(shapes_records), num_classes=None, batch_size=2)
    (case,) = measure_eval(cfg, repeats=2)
    assert len(case.runs) == 2 and min(case.runs) > 0 and case.settings["images"] == 4


def test_step_prints_each_case_with_its_settings_versions_and_machine():
    arguments = ["step", "--config", TINY, "--device_target", "CPU", "--repeats", 1, "--steps", 1]
    arguments += ["--image_size", "[64, 64]", "--batch_size", 2]
    result = benchmark(*arguments)
    assert result.returncode == 0, result.stderr
    cases = {line["case"]: line for line in map(json.loads, result.stdout.splitlines())}
    assert list(cases) == [
        "training step",
        "training step, kernels timed",
        "kernels",
        "compilation, first start",
        "compilation, second start",
    ]
    for line in cases.values():
        assert line["spread"][0] <= line["median"] <= line["spread"][1] and line["runs"]
        assert line["settings"] == {
            "config": TINY, "device_target": "CPU", "image_size": [64, 64], "batch_size": 2, "steps": 1
        }  # fmt: skip
        assert line["versions"]["mindspore"] and line["machine"]["cores"] >= 1
    profiled_step, kernels = cases["training step, kernels timed"], cases["kernels"]
    assert {"convolution", "batch_normalization"} <= set(kernels["by_kind"])
    assert 0 < kernels["median"] < profiled_step["median"]
    first, second = cases["compilation, first start"], cases["compilation, second start"]
    # These durations are differences, which may even be negative on a busy machine.
    assert second["of_first"] == pytest.approx(second["median"] / first["median"], rel=0.05, abs=0.01)


@pytest.mark.parametrize(
    "arguments, part",
    [
        (["data"], "--config"),
        (["convert"], "--data_path"),
        (["nms", "--config", RECIPE, "--lr", "1"], "nms"),
        (["step", "--config", RECIPE, "--repeats", "0"], "--repeats: 0"),
        (["data", "--config", RECIPE, "--bacth_size", "8"], "'batch_size'"),
        (["data", "--config", RECIPE, "--data_dir", "absent"], "absent/train/coco0"),
        (["convert", "--data_path", "absent"], "absent"),
    ],
)
def test_user_errors_are_one_line(arguments, part, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and part in err
