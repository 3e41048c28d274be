"""Create the inputs of the commands: drawn images, shards, a checkpoint, an exported model and a video."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from make_shapes import make_shapes
from ssd.errors import UserError

from .client import SSD

TINY = Path(__file__).with_name("tiny.yaml")


def create_inputs(folder: Path) -> None:
    """Create all inputs in `folder`, unless they are there. Takes a minute."""
    if (folder / "model").is_dir():
        return
    shutil.rmtree(folder, ignore_errors=True)
    make_shapes(folder / "coco", train=9, val=4, size=64, seed=0)
    make_shapes(folder / "coco2", train=9, val=3, size=64, seed=1)
    _run("create_data.py", ["coco", "--data_path", folder / "coco", "--out_path", folder / "records"])
    where = ["--config", TINY, "--device_target", "CPU", "--data_dir", folder / "records"]
    keys = ["--ckpt_save_dir", folder / "ckpt", "--epoch_size", 1, "--eval_while_train", "false"]
    _run("train.py", [*where, *keys])
    shutil.copyfile(folder / "ckpt" / "last.ckpt", folder / "model.ckpt")
    exported = ["--format", "onnx", "--output", folder / "exported", "--max_detections", 2]  # files for each detection
    _run("export.py", [*where, "--ckpt_path", folder / "model.ckpt", *exported])
    _write_video(folder / "film.mp4")
    (folder / "exported" / "tiny_onnx").rename(folder / "model")  # last, as it says that all inputs are there


def _run(script: str, arguments: Sequence[object]) -> None:
    command: Sequence[str] = [sys.executable, str(SSD / script), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise UserError(f"{script}: {(result.stderr.strip().splitlines() or ['no output'])[-1]}")


def _write_video(path: Path) -> None:
    """Write 6 frames of 64x48 pixels."""
    writer = cv2.VideoWriter(str(path), fourcc=cv2.VideoWriter.fourcc(*"mp4v"), fps=10, frameSize=(64, 48))
    for value in range(0, 240, 40):
        writer.write(np.full((48, 64, 3), value, np.uint8))
    writer.release()
