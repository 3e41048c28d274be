"""The fixture that runs convert_weights.py in this process."""

import sys
from pathlib import Path

import pytest

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
