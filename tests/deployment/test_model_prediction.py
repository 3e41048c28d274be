"""predict.py --model: the same files as with a checkpoint, and keys that a model has fixed."""

import json

import pytest

from ssd.config.command_line import parse_options
from ssd.deployment.detector import Detector
from ssd.deployment.model_prediction import ModelSettings, predict_with_model
from ssd.errors import UserError
from ssd.inference.prediction import Failures
from ssd.inference.result_options import ResultOptions
from ssd.inference.sources import find_inputs


def run(folder, images, output, results=None, **settings):
    return predict_with_model(
        folder,
        find_inputs([str(path) for path in images], output),
        output,
        settings=ModelSettings(**settings),
        results=results or ResultOptions(),
        provider="cpu",
    )


def test_files_and_detections(exported, images, tmp_path):
    assert run(exported.folder, images, tmp_path / "out", display_score=0.2) == Failures(0, 0)
    rows = json.loads((tmp_path / "out" / "detections.json").read_text())
    expected = [score for found in Detector(exported.folder, min_score=0.2)(images) for score in found.scores.tolist()]
    assert sorted(row["score"] for row in rows) == pytest.approx(sorted(expected)) and len(rows) > 4
    assert {path.name for path in images} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_nms_across_classes_needs_candidates(export_tiny, images, tmp_path):
    with pytest.raises(UserError, match="--agnostic_nms: "):
        run(export_tiny("onnx", nms=True).folder, images, tmp_path, results=ResultOptions(agnostic_nms=True))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--nms_threshold", "0.5"], "--nms_threshold: "),
        (["--config", "a.yaml"], "--config: "),
        (["--display_scor", "0.5"], "display_score"),
        (["--display_score", "2"], "display_score"),
    ],
)
def test_keys_of_a_model(arguments, message):
    assert parse_options("", {}, ModelSettings, argv=["--display_score", "0.5"])[0].display_score == 0.5
    with pytest.raises(UserError, match=message):
        parse_options("", {}, ModelSettings, argv=arguments)
