"""The command line of export.py: contradictions are refused before slow work starts."""

import argparse

import pytest

from ssd.deployment import sessions
from ssd.deployment.export_request import ExportOptions, ExportRequest
from ssd.errors import UserError

DEFAULTS = {"format": ["onnx"], "batch_size": None, "nms": False, "raw_input": False, "soc": None, "quantize": None}


def request(cfg, **arguments):
    return ExportRequest.from_arguments(cfg, argparse.Namespace(**{**DEFAULTS, **arguments}))


def test_options(tiny_recipe):
    found = request(tiny_recipe(), format=["om", "onnx", "om"], soc="310P3", batch_size=2, nms=True, raw_input=True)
    assert found == ExportRequest(("om", "onnx"), ExportOptions(2, nms=True, raw_input=True), soc="Ascend310P3")
    assert request(tiny_recipe(), format=["om"], soc="Ascend910B4").soc == "Ascend910B4"


@pytest.mark.parametrize(
    "option, arguments, keys",
    [
        ("--batch_size: got 0", {"batch_size": 0}, {}),
        ("--nms: ", {"format": ["mindir"], "nms": True}, {}),
        ("--nms: ", {"nms": True}, {"nms": "soft"}),
        ("--quantize: ", {"format": ["mindir"], "quantize": "int8"}, {}),
        ("--format: .*AIR", {"format": ["onnx", "air"]}, {}),
        ("--soc: ", {"format": ["om"]}, {}),
        ("--soc: 'x86'", {"format": ["om"], "soc": "x86"}, {}),
        ("--soc: ", {"soc": "310P3"}, {}),
    ],
)
def test_contradictions_are_refused(option, arguments, keys, tiny_recipe):
    with pytest.raises(UserError, match=option):
        request(tiny_recipe(**keys), **arguments)


def test_a_missing_extra_is_named(tiny_recipe, monkeypatch):
    def fail(name):
        raise ImportError(name)

    monkeypatch.setattr(sessions.importlib, "import_module", fail)
    with pytest.raises(UserError, match=r"onnx: .*\[deploy\]"):
        request(tiny_recipe())
    assert request(tiny_recipe(), format=["mindir"]).formats == ("mindir",)
