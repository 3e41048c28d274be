"""Commands on shards with a damaged image: one line that names the image, exit code 2 and no traceback."""

import re
import shutil
from pathlib import Path

import pytest

from broken_shards import BROKEN_IMAGES, copy_shards, zeroed_body
from ssd.config.loading import load_config

pytestmark = pytest.mark.slow

RECIPE = Path(__file__).with_name("tiny.yaml")
SHORT = {"epoch_size": 2, "batch_size": 2, "warmup_epochs": 0, "steps_per_epoch": 5, "num_parallel_workers": 2}


@pytest.fixture
def run(run_script, tmp_path):
    """run("train.py", folder, key=value, …) runs a command on the shards in a folder."""

    def run(name, folder, **keys):
        keys = {**SHORT, "data_dir": folder, "ckpt_save_dir": tmp_path / "ckpt", "output_dir": tmp_path / "out", **keys}
        return run_script(name, "--config", RECIPE, *(word for key in keys for word in (f"--{key}", keys[key])))

    return run


def expect_error(result, *parts):
    """A command ends with code 2, and its last line is an error with all parts."""
    *_, last = result.stderr.splitlines()
    assert result.returncode == 2 and last.startswith("error: "), result.stderr
    assert all(part in last for part in parts), last
    said = result.stdout + result.stderr
    assert not re.search("traceback|userror|runtimeerror", said, re.IGNORECASE) and said.count("error: ") == 1, said


@pytest.mark.parametrize("kind", ["lossless", "garbage"])
def test_training_names_a_damaged_image(kind, run, shapes_records, tmp_path):
    image_id = copy_shards(shapes_records, tmp_path / "data", "train", image=BROKEN_IMAGES[kind])
    expect_error(run("train.py", tmp_path / "data"), f"image {image_id} ")


def test_evaluation_names_a_damaged_image_and_training_keeps_its_checkpoint(run, shapes_records, tmp_path):
    image_id = copy_shards(shapes_records, tmp_path / "data", "val", image=BROKEN_IMAGES["header"])
    expect_error(run("train.py", tmp_path / "data", eval_while_train="true"), f"image {image_id} ")
    checkpoint = tmp_path / "ckpt" / "ssd-1.ckpt"
    expect_error(run("eval.py", tmp_path / "data", ckpt_path=checkpoint), f"image {image_id} ")


def test_conversion_finds_damaged_pixels_with_decode(run_script, shapes_coco, tmp_path):
    shutil.copytree(shapes_coco, tmp_path / "coco")
    path = sorted((tmp_path / "coco" / "val2017").iterdir())[1]
    path.write_bytes(zeroed_body(path.read_bytes()))
    command = ["create_data.py", "coco", "--data_path", tmp_path / "coco", "--out_path", tmp_path / "out"]
    report = run_script(*command, "--report_only")
    assert report.returncode == 0 and str(path) in report.stdout
    expect_error(run_script(*command, "--decode"), str(path), "--decode")
    assert not list((tmp_path / "out").glob("*"))
    assert run_script(*command).returncode == 0


def test_prediction_skips_damaged_files(run_script, save_random_detector, shapes_coco, shapes_records, tmp_path):
    cfg = load_config(RECIPE, {"device_target": "CPU", "data_dir": str(shapes_records)})
    checkpoint = save_random_detector(cfg, tmp_path / "ssd-1.ckpt")
    photos = sorted((shapes_coco / "val2017").iterdir())
    (tmp_path / "photos").mkdir()
    for photo, kind in zip(photos, [None, "lossless", "garbage", "header"]):
        content = photo.read_bytes()
        (tmp_path / "photos" / photo.name).write_bytes(BROKEN_IMAGES[kind](content) if kind else content)
    options = ["--data_dir", shapes_records, "--ckpt_path", checkpoint, "--batch_size", 2]
    options += ["--input", tmp_path / "photos", "--output", tmp_path / "drawn"]
    result = run_script("predict.py", "--config", RECIPE, *options)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert [path.name for path in (tmp_path / "drawn").glob("*.jpg")] == [photos[0].name]
    assert all(sum(photo.name in line for line in result.stderr.splitlines()) == 1 for photo in photos[1:])
