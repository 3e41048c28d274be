"""Tests of tools/soak.py: the comparison of two training runs, and the steps that it reads from them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mindspore import Parameter, save_checkpoint

import soak

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def write_checkpoints(folder, weight, step=4):
    folder.mkdir(parents=True)
    parameters = [{"name": "weight", "data": Parameter(np.float32([weight]))}]
    for name in ("last.ckpt", "best.ckpt"):
        metadata = {"training_state": f'{{"step": {step}}}'}
        save_checkpoint(parameters, str(folder / name), append_dict=metadata)


def test_trainings_are_compared_to_the_last_bit(tmp_path):
    write_checkpoints(tmp_path / "uninterrupted", 1)
    write_checkpoints(tmp_path / "killed", 1)
    assert soak.compare_trainings(tmp_path) == [] and soak.saved_step(tmp_path / "killed") == 4
    write_checkpoints(tmp_path / "other" / "uninterrupted", 1)
    write_checkpoints(tmp_path / "other" / "killed", np.nextafter(np.float32(1), np.float32(2)))
    last, best = soak.compare_trainings(tmp_path / "other")
    assert "last.ckpt" in last and "1 of 2" in last and "'weight'" in last and "best.ckpt" in best


def test_last_logged_step_ignores_a_truncated_row(tmp_path):
    assert soak.last_logged_step(tmp_path) == soak.saved_step(tmp_path) == 0
    (tmp_path / "metrics.csv").write_text("epoch,step,loss\n1,3,0.5\n1,4,0.5\n1,")
    assert soak.last_logged_step(tmp_path) == 4


def test_help_states_the_duration():
    result = subprocess.run([sys.executable, ROOT / "tools" / "soak.py", "--help"], capture_output=True, text=True)
    assert result.returncode == 0 and "15 minutes" in result.stdout
