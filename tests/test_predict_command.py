"""predict.py as a user runs it: a folder with damaged files, a video, Ctrl-C, and mistakes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssd.config.loading import CONFIGS, load_config
from ssd.data.images import decode_image

pytestmark = pytest.mark.slow

ROOT = CONFIGS.parent
RECIPE = "tests/tiny.yaml"


@pytest.fixture(scope="module")
def checkpoint(save_random_detector, shapes_records, tmp_path_factory):
    cfg = load_config(ROOT / RECIPE, {"device_target": "CPU", "data_dir": str(shapes_records)})
    return save_random_detector(cfg, tmp_path_factory.mktemp("checkpoint") / "ssd-1.ckpt", scale=0.5)


@pytest.fixture(scope="module")
def common_arguments(checkpoint, shapes_records):
    """Arguments that all command lines here start with."""
    return ["--config", RECIPE, "--data_dir", str(shapes_records), "--ckpt_path", str(checkpoint), "--batch_size", "4"]


@pytest.fixture
def photos(shapes_coco, tmp_path):
    """The 4 validation images of the shapes data set in two folders, and two damaged files."""
    folder = tmp_path / "photos"
    for number, path in enumerate(sorted((shapes_coco / "val2017").iterdir())):
        target = folder / ("more" if number > 1 else "") / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (folder / "a.jpg").write_bytes(b"no image")
    (folder / "truncated.jpg").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return folder


def read_detections(folder):
    return json.loads((folder / "detections.json").read_text())


def test_a_folder_gives_the_detections_of_evaluation(common_arguments, photos, run_script, tmp_path, shapes_coco):
    output = tmp_path / "predictions"
    # eval.py reads min_score, and predict.py display_score.
    arguments = [*common_arguments, "--min_score", "0.5", "--display_score", "0.5"]
    inputs = ["--input", photos, "--output", output]
    result = run_script("predict.py", *arguments, *inputs, "--save_txt", "--save-crops", "--line_width", "1")
    assert result.returncode == 1
    assert f"{photos}/a.jpg: " in result.stderr and f"{photos}/truncated.jpg: " in result.stderr
    assert "2 of 6 files" in result.stderr and "Traceback" not in result.stderr
    rows = read_detections(output)
    assert "4 images" in result.stdout and f"{len(rows):,} detections" in result.stdout and str(output) in result.stdout

    evaluated = run_script("eval.py", *arguments, "--output_dir", tmp_path / "evaluated")
    assert evaluated.returncode == 0, evaluated.stderr
    expected = json.loads((tmp_path / "evaluated" / "predictions.json").read_text())
    ground_truth = json.loads((shapes_coco / "annotations" / "instances_val2017.json").read_text())
    name_of = {image["id"]: image["file_name"] for image in ground_truth["images"]}
    categories = {category["id"]: category["name"] for category in ground_truth["categories"]}
    assert len(rows) == len(expected) > 8
    for name in name_of.values():
        found = [row for row in rows if row["file_name"].split("/")[-1] == name]
        wanted = [row for row in expected if name_of[row["image_id"]] == name]
        assert [row["category_id"] for row in found] == [row["category_id"] for row in wanted]
        assert [row["category_name"] for row in found] == [categories[row["category_id"]] for row in wanted]
        np.testing.assert_allclose([row["score"] for row in found], [row["score"] for row in wanted], atol=1e-5)
        np.testing.assert_allclose([row["bbox"] for row in found], [row["bbox"] for row in wanted], atol=1e-2)

    for path in [path for path in photos.rglob("*.*") if path.name not in ("a.jpg", "truncated.jpg")]:
        drawn = decode_image((output / path.relative_to(photos)).read_bytes())
        assert drawn.shape == (96, 96, 3) and (drawn != decode_image(path.read_bytes())).mean() > 0.02
    assert len([path for path in output.rglob("[!.]*") if path.is_file()]) == 5 + 4 + len(rows)
    for path in (output / "labels").rglob("*.txt"):
        name, labels = path.relative_to(output / "labels").with_suffix(""), np.loadtxt(path, ndmin=2)
        found = [row for row in rows if Path(row["file_name"]).with_suffix("") == name]
        assert [list(categories.values())[int(label)] for label in labels[:, 0]] == [
            row["category_name"] for row in found
        ]
        boxes = np.array([row["bbox"] for row in found]) / 96
        np.testing.assert_allclose(labels[:, 3:], np.c_[boxes[:, 2:], [row["score"] for row in found]], atol=1e-5)


def test_a_higher_display_score_only_removes_detections(common_arguments, photos, run_script, tmp_path, monkeypatch):
    """It reuses the compiled graph. A batch of one image needs another graph than a batch of two."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # other tests fill the shared cache

    def predict(score, source=photos / "more"):
        """Return the detections and the number of graphs in the cache."""
        arguments = [*common_arguments, "--input", source, "--output", tmp_path / str(score)]
        result = run_script("predict.py", *arguments, "--display_score", score)
        assert (result.returncode, result.stderr) == (0, "")
        num_graphs = len(list((tmp_path / "cache" / "ssd-mindcv" / "compile").glob("*.zip")))
        return read_detections(tmp_path / str(score)), num_graphs

    everything, num_graphs = predict(0)
    scores = np.sort([row["score"] for row in everything])
    start = 80 + np.diff(scores[80:120]).argmax()  # a gap wider than rounding errors
    middle = float(scores[start : start + 2].mean())
    expected = [row for row in everything if row["score"] >= middle]
    found, num_graphs_later = predict(middle)
    assert num_graphs_later == num_graphs == 1
    assert len(everything) == 200 and len(found) == len(expected) == 199 - start  # 2 images of at most 100
    for row, other in zip(found, expected):
        assert row["score"] == pytest.approx(other.pop("score"), abs=1e-5) and row.pop("score") >= middle
        assert row.pop("bbox") == pytest.approx(other.pop("bbox"), abs=0.01)
        assert row == other

    _, num_graphs = predict(1, source=next((photos / "more").iterdir()))
    assert num_graphs == 2


def test_a_video_is_drawn(common_arguments, run_script, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), fps=29.97, frameSize=(96, 64))
    rng = np.random.default_rng(0)
    for _ in range(11):
        writer.write(cv2.resize(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8), (96, 64)))
    writer.release()
    arguments = [*common_arguments, "--input", tmp_path / "clip.avi", "--output_dir", tmp_path]
    result = run_script("predict.py", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    output = tmp_path / "predictions"  # the default of --output
    rows = json.loads((output / "clip.json").read_text())
    assert (
        "11 frames" in result.stdout and f"{len(rows):,} detections" in result.stdout and str(output) in result.stdout
    )
    assert {row["frame"] for row in rows} <= set(range(11)) and len({row["frame"] for row in rows}) > 5
    assert all(row["time"] == pytest.approx(row["frame"] / 29.97, abs=1e-3) for row in rows)
    capture = cv2.VideoCapture(str(output / "clip.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(29.97, abs=0.001)
    shapes = []
    while (read := capture.read())[0]:
        shapes.append(read[1].shape)
    assert shapes == [(64, 96, 3)] * 11


def test_ctrl_c_leaves_a_complete_video_and_detections_json(common_arguments, without_progress, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "long.avi"), cv2.VideoWriter.fourcc(*"MJPG"), fps=25, frameSize=(96, 64))
    for number in range(6000):
        writer.write(np.full((64, 96, 3), number % 256, np.uint8))
    writer.release()
    output = tmp_path / "output"
    arguments = [*common_arguments, "--input", str(tmp_path / "long.avi"), "--output", str(output)]
    process = subprocess.Popen(
        [sys.executable, "examples/det/ssd/predict.py", *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 120
        while (
            not list(output.glob(".unfinished-*/long.mp4")) and process.poll() is None and time.monotonic() < deadline
        ):
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)  # after the first batch, when MindSpore has its own handler
        _, stderr = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    lines = without_progress(stderr).splitlines()
    assert "Ctrl-C" in lines[0] and "interrupted" in lines[-1]
    count = cv2.VideoCapture(str(output / "long.mp4")).get(cv2.CAP_PROP_FRAME_COUNT)
    assert 0 < count < 6000 and count % 4 == 0
    assert {row["frame"] for row in json.loads((output / "long.json").read_text())} <= set(range(int(count)))


MISTAKES = {  # arguments; what the error line has to name
    "missing file": (["--input", "absent.jpg"], ["--input", "absent.jpg"]),
    "empty folder": (["--input", "{tmp}/empty"], ["--input", "{tmp}/empty"]),
    "pattern without match": (["--input", "{tmp}/*.jpg"], ["--input", "{tmp}/*.jpg"]),
    "missing camera": (["--input", "99"], ["--input", "camera 99"]),
    "tracking of images": (["--input", "{photos}", "--track"], ["--track"]),
    "stride of 0": (["--input", "{photos}", "--vid_stride", "0"], ["--vid_stride", "0"]),
    "damaged video": (["--input", "{tmp}/clip.mp4"], ["{tmp}/clip.mp4"]),
    "overwritten input": (["--input", "{photos}", "--output", "{photos}"], ["--output", "{photos}"]),
    "unknown key": (["--input", "{photos}", "--ouput", "a"], ["--ouput", "--output"]),
    "missing checkpoint": (["--input", "{photos}", "--ckpt_path", "absent.ckpt"], ["absent.ckpt"]),
    "other classes": (
        ["--input", "{photos}", "--data_dir", "/nowhere", "--output", "{tmp}/out"],
        ["--data_dir", "--classes"],
    ),
    "output is a file": (["--input", "{photos}", "--output", "{tmp}/clip.mp4"], ["--output", "{tmp}/clip.mp4"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_in_one_line(mistake, common_arguments, photos, run_script, call_script, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    arguments, named = ([text.format(tmp=tmp_path, photos=photos) for text in texts] for texts in MISTAKES[mistake])
    before = sorted(tmp_path.rglob("*"))
    # One of them is made in a new process.
    result = (run_script if mistake == "missing checkpoint" else call_script)(
        "predict.py", *common_arguments, *arguments
    )
    assert result.returncode == 2 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: ")
    assert [text for text in named if text not in result.stderr] == []
    assert sorted(tmp_path.rglob("*")) == before
