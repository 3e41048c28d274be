"""predict.py as a user runs it: a folder with broken files, a video, Ctrl-C, and mistakes."""

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from mindspore import Tensor

from ssd.checkpoints.loading import save_checkpoint
from ssd.config.loading import CONFIGS
from ssd.data.images import decode_image
from ssd.models.detector import create_detector

ROOT = CONFIGS.parent
RECIPE = "examples/det/ssd/ssd_shapes.yaml"


@pytest.fixture(scope="module")
def checkpoint(load_recipe, shapes_records, tmp_path_factory):
    """Weights that detect something in every image, of scores far apart."""
    detector = create_detector(load_recipe("ssd_shapes", data_dir=str(shapes_records)))
    rng = np.random.default_rng(0)
    for name, parameter in detector.parameters_dict().items():
        if name.startswith("head.") and name.endswith(".3.weight"):
            parameter.set_data(Tensor(rng.normal(0, 0.5, parameter.shape).astype(np.float32)))
    path = tmp_path_factory.mktemp("checkpoint") / "ssd-1.ckpt"
    save_checkpoint(detector, path)
    return path


@pytest.fixture(scope="module")
def where(checkpoint, shapes_records):
    """The words that every command line here starts with."""
    return ["--config", RECIPE, "--data_dir", str(shapes_records), "--ckpt_path", str(checkpoint), "--batch_size", "4"]


@pytest.fixture
def photos(shapes_coco, tmp_path):
    """The drawn shapes' 4 validation images in two folders, and two files that are no images."""
    folder = tmp_path / "photos"
    for number, path in enumerate(sorted((shapes_coco / "val2017").iterdir())):
        target = folder / ("more" if number > 1 else "") / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (folder / "a.jpg").write_bytes(b"no image")
    (folder / "cut.jpg").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return folder


def read_list(folder):
    return json.loads((folder / "detections.json").read_text())


def test_a_folder_gives_what_evaluation_finds(where, photos, run_script, tmp_path, shapes_coco):
    output = tmp_path / "predictions"
    words = [*where, "--min_score", "0.5", "--display_score", "0.5"]  # which eval.py and predict.py each take one of
    result = run_script("predict.py", *words, "--input", photos, "--output", output)
    assert result.returncode == 1
    told = result.stderr.splitlines()
    assert len(told) == 3 and told[2] == "2 of 6 files could not be read"
    assert told[0].startswith(f"{photos}/a.jpg: got") and told[1].startswith(f"{photos}/cut.jpg: got")
    rows = read_list(output)
    assert result.stdout.startswith(f"4 images, {len(rows)} detections of at least 0.5 in ")
    assert result.stdout.endswith(f" images/s: {output}\n")

    evaluated = run_script("eval.py", *words, "--output_dir", tmp_path / "evaluated")
    assert evaluated.returncode == 0, evaluated.stderr
    expected = json.loads((tmp_path / "evaluated" / "predictions.json").read_text())
    truth = json.loads((shapes_coco / "annotations" / "instances_val2017.json").read_text())
    name_of = {image["id"]: image["file_name"] for image in truth["images"]}
    categories = {category["id"]: category["name"] for category in truth["categories"]}
    assert len(rows) == len(expected) > 8
    for name in name_of.values():
        found = [row for row in rows if row["file_name"].split("/")[-1] == name]
        of_image = [row for row in expected if name_of[row["image_id"]] == name]
        assert [row["category_id"] for row in found] == [row["category_id"] for row in of_image]
        assert [row["category_name"] for row in found] == [categories[row["category_id"]] for row in of_image]
        np.testing.assert_allclose([row["score"] for row in found], [row["score"] for row in of_image], atol=1e-5)
        np.testing.assert_allclose([row["bbox"] for row in found], [row["bbox"] for row in of_image], atol=1e-2)

    for path in [path for path in photos.rglob("*.*") if path.name not in ("a.jpg", "cut.jpg")]:
        picture = decode_image((output / path.relative_to(photos)).read_bytes())
        assert picture.shape == (96, 96, 3) and (picture != decode_image(path.read_bytes())).mean() > 0.02
    assert len([path for path in output.rglob("*") if path.is_file()]) == 5


def test_a_higher_score_leaves_out_and_adds_nothing(where, photos, run_script, tmp_path):
    def predict(score):
        words = ["--input", photos / "more", "--output", tmp_path / str(score), "--display_score", score]
        result = run_script("predict.py", *where, *words)
        assert (result.returncode, result.stderr) == (0, "")
        return read_list(tmp_path / str(score))

    everything = predict(0)
    scores = np.sort([row["score"] for row in everything])
    start = 80 + np.diff(scores[80:120]).argmax()  # where no rounding, which differs from run to run, takes one across
    middle = float(scores[start : start + 2].mean())
    high, expected = predict(middle), [row for row in everything if row["score"] >= middle]
    assert len(everything) == 200 and len(high) == len(expected) == 199 - start  # 2 images of at most 100
    for row, other in zip(high, expected):
        assert row["score"] == pytest.approx(other.pop("score"), abs=1e-5) and row.pop("score") >= middle
        assert row.pop("bbox") == pytest.approx(other.pop("bbox"), abs=0.01)
        assert row == other


def test_a_video_comes_back_drawn(where, run_script, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 29.97, (96, 64))
    rng = np.random.default_rng(0)
    for _ in range(11):
        writer.write(cv2.resize(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8), (96, 64)))
    writer.release()
    result = run_script("predict.py", *where, "--input", tmp_path / "clip.avi", "--output_dir", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    output = tmp_path / "predictions"  # below output_dir where no --output is given
    rows = read_list(output)
    assert result.stdout.startswith(f"11 frames, {len(rows)} detections of at least 0.5 in ")
    assert {row["frame"] for row in rows} <= set(range(11)) and len({row["frame"] for row in rows}) > 5
    capture = cv2.VideoCapture(str(output / "clip.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(29.97, abs=0.001)
    shapes = []
    while (read := capture.read())[0]:
        shapes.append(read[1].shape)
    assert shapes == [(64, 96, 3)] * 11


def test_ctrl_c_leaves_a_whole_video_and_its_list(where, without_progress, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "long.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25, (96, 64))
    for number in range(6000):
        writer.write(np.full((64, 96, 3), number % 256, np.uint8))
    writer.release()
    output = tmp_path / "output"
    words = [*where, "--input", str(tmp_path / "long.avi"), "--output", str(output)]
    process = subprocess.Popen(
        [sys.executable, "examples/det/ssd/predict.py", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        waited = time.monotonic() + 120
        while not (output / "long.mp4").exists() and process.poll() is None and time.monotonic() < waited:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)  # after the first batch, when MindSpore has its own handler
        _, told = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    told = without_progress(told).splitlines()
    assert told[0] == "ending; Ctrl-C again ends at once" and told[-1] == "interrupted"
    count = cv2.VideoCapture(str(output / "long.mp4")).get(cv2.CAP_PROP_FRAME_COUNT)
    assert 0 < count < 6000 and count % 4 == 0
    assert {row["frame"] for row in read_list(output)} <= set(range(int(count)))


MISTAKES = {
    "nothing there": (["--input", "absent.jpg"], "--input: got absent.jpg, which does not exist"),
    "an empty folder": (["--input", "{tmp}/empty"], "a folder without images"),
    "a pattern without match": (["--input", "{tmp}/*.jpg"], "which matches no image"),
    "no camera": (["--input", "99"], "got camera 99, which OpenCV cannot open"),
    "a video that is none": (["--input", "{tmp}/clip.mp4"], "which OpenCV cannot open"),
    "an input written over": (["--input", "{photos}", "--output", "{photos}"], "would replace an input"),
    "an unknown key": (["--input", "{photos}", "--ouput", "a"], "did you mean '--output'?"),
    "no checkpoint": (["--input", "{photos}", "--ckpt_path", "absent.ckpt"], "absent.ckpt: got no such file"),
    "other classes": (
        ["--input", "{photos}", "--data_dir", "/nowhere", "--output", "{tmp}/out"],
        "set --data_dir to their data, or --classes to their names",
    ),
    "an output that is a file": (["--input", "{photos}", "--output", "{tmp}/clip.mp4"], "clip.mp4: file exists"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_in_one_line(mistake, where, photos, run_script, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    words, told = MISTAKES[mistake]
    words = [word.format(tmp=tmp_path, photos=photos) for word in words]
    before = sorted(tmp_path.rglob("*"))
    result = run_script("predict.py", *where, *words)
    assert result.returncode == 2 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: ") and told in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_second_start_finds_its_graph(where, photos, run_script, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # others put graphs into the shared one meanwhile
    archives = tmp_path / "cache" / "ssd-mindcv" / "compile"
    one = [*where, "--seed", "77", "--input", *sorted((photos / "more").iterdir())[:1], "--output", tmp_path / "output"]
    kept = []
    for words in (one, [*one, "--display_score", "0.9"], [*where, "--seed", "77", "--input", photos / "more"]):
        result = run_script("predict.py", *words, "--output_dir", tmp_path / "other")
        assert (result.returncode, result.stderr) == (0, "")
        kept.append(len(list(archives.glob("*.zip"))))
    assert kept[1] == kept[0]  # another score to draw is the same graph
    assert kept[2] == kept[0] + 1  # two images in a batch are another
