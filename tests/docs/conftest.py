"""Errors of exported models, for test_troubleshooting.py."""

import argparse
import sys

import pytest

from printed_error import error_of
from ssd.deployment.detector import Detector
from ssd.deployment.export_request import ExportRequest
from ssd.deployment.recipe_check import refuse_contradictions
from tiny_onnx import write_model


@pytest.fixture
def deployment_errors(tmp_path, monkeypatch, tiny_recipe):
    model = write_model(tmp_path / "model")
    metadata = Detector(model).metadata
    changed = write_model(tmp_path / "changed")
    (changed / "model.onnx").write_bytes((changed / "model.onnx").read_bytes() + b"\0")
    other = write_model(tmp_path / "other", output_names=("dets", "scores", "labels"))
    newer = write_model(tmp_path / "newer", opset=99)
    errors = [
        error_of(Detector, tmp_path),
        error_of(Detector, changed),
        error_of(Detector, other),
        error_of(Detector, newer),
        error_of(refuse_contradictions, tiny_recipe(nms_threshold=0.5), metadata, model),
    ]
    arguments = argparse.Namespace(format=["air"], batch_size=None, nms=False, raw_input=False, quantize=None, soc=None)
    errors.append(error_of(ExportRequest.from_arguments, tiny_recipe(device_target="CPU"), arguments))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    return [*errors, error_of(Detector, model)]
