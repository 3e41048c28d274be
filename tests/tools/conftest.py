"""Fixtures that run convert_weights.py in this process, and make a machine for the doctor."""

import sys
from pathlib import Path

import pytest
from doctor_machines import healthy_910b
from safetensors.numpy import save_file

import convert_weights

RECIPES = Path(__file__).resolve().parents[2] / "examples" / "det" / "ssd"


@pytest.fixture
def run_convert_weights(monkeypatch, capsys):
    """run_convert_weights("ssd_resnet50", "--input", path, …) returns (exit code, stdout, stderr)."""

    def run(recipe, *arguments):
        common = ["--config", RECIPES / f"{recipe}.yaml", "--data_dir", "/nowhere", "--device_target", "CPU"]
        monkeypatch.setattr(sys, "argv", ["convert_weights.py", *map(str, [*common, *arguments])])
        code = 0
        try:
            convert_weights.main()
        except SystemExit as exit_error:
            code = exit_error.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def convert_with(run_convert_weights, tmp_path):
    """convert_with(recipe, arrays, "--key", value, …) converts from in.safetensors to out.ckpt."""

    def run(recipe, arrays, *arguments):
        save_file(arrays, tmp_path / "in.safetensors")
        paths = ["--input", tmp_path / "in.safetensors", "--output", tmp_path / "out.ckpt"]
        return run_convert_weights(recipe, *paths, *arguments)

    return run


@pytest.fixture
def machine(tmp_path):
    """A healthy Ascend 910B host, whose root folder tests may change."""
    return healthy_910b(tmp_path / "root")
