"""What tests of convert_weights.py share."""

import sys
from pathlib import Path

import pytest

import convert_weights

RECIPES = Path(__file__).resolve().parents[2] / "examples" / "det" / "ssd"


@pytest.fixture
def command(monkeypatch, capsys):
    """command("ssd_resnet50", "--input", path, …) runs the tool here; (exit code, stdout, stderr)"""

    def run(recipe, *words):
        fixed = ["--config", RECIPES / f"{recipe}.yaml", "--data_dir", "/nowhere", "--device_target", "CPU"]
        monkeypatch.setattr(sys, "argv", ["convert_weights.py", *map(str, [*fixed, *words])])
        code = 0
        try:
            convert_weights.main()
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run
