"""export.py and predict.py --model as a user runs them."""

import json

import pytest

from ssd.config.loading import CONFIGS, load_config

pytestmark = pytest.mark.slow

RECIPE = "tests/tiny.yaml"


def test_a_model_is_exported_and_predicts(save_random_detector, shapes_records, shapes_coco, run_script, tmp_path):
    cfg = load_config(CONFIGS.parent / RECIPE, {"device_target": "CPU", "data_dir": str(shapes_records)})
    checkpoint = save_random_detector(cfg, tmp_path / "ssd-1.ckpt", scale=0.5)
    arguments = ["--config", RECIPE, "--data_dir", shapes_records, "--ckpt_path", checkpoint, "--output", tmp_path]
    result = run_script("export.py", *arguments, "--format", "onnx", "--nms", "--display_score", "0.2")
    assert result.returncode == 0, result.stderr
    assert "tiny_onnx: " in result.stdout and result.stdout.count("\n") == 2
    assert "Traceback" not in result.stderr and "WARNING" not in result.stderr

    photo = next((shapes_coco / "val2017").iterdir())
    inputs = ["--input", photo, "--output", tmp_path / "predictions", "--display_score", "0.1"]
    result = run_script("predict.py", "--model", tmp_path / "tiny_onnx", *inputs)
    assert result.returncode == 0 and "1 image" in result.stderr + result.stdout
    assert json.loads((tmp_path / "predictions" / "detections.json").read_text())

    result = run_script("predict.py", "--model", tmp_path, *inputs)
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "metadata.yaml" in result.stderr
