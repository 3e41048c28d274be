"""What the soak says of two trainings, and that it kills and resumes one."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from mindspore import Parameter, save_checkpoint

import soak

ROOT = Path(__file__).resolve().parents[2]


def write(folder, weight, step=4):
    folder.mkdir(parents=True)
    for name in ("last.ckpt", "best.ckpt"):
        words = {"training_state": f'{{"step": {step}}}'}
        save_checkpoint(
            [{"name": "weight", "data": Parameter(np.float32([weight]))}], str(folder / name), append_dict=words
        )


def test_trainings_are_compared_to_the_last_bit(tmp_path):
    write(tmp_path / "whole", 1)
    write(tmp_path / "killed", 1)
    assert soak.compare(tmp_path) == "" and soak.steps_kept(tmp_path / "killed") == 4
    write(tmp_path / "other" / "whole", 1)
    write(tmp_path / "other" / "killed", np.nextafter(np.float32(1), np.float32(2)))
    assert soak.compare(tmp_path / "other").startswith("last.ckpt differs in 1 of 2, 'weight' first; best.ckpt differs")


def test_what_was_recorded_last_counts(tmp_path):
    assert soak.steps_made(tmp_path) == soak.steps_kept(tmp_path) == 0
    (tmp_path / "metrics.csv").write_text("epoch,step,loss\n1,3,0.5\n1,4,0.5\n1,")
    assert soak.steps_made(tmp_path) == 4


def test_help_says_what_it_costs():
    result = subprocess.run([sys.executable, ROOT / "tools" / "soak.py", "--help"], capture_output=True, text=True)
    assert result.returncode == 0 and re.search("quarter of an hour", result.stdout)
