"""Command `ssd`, which runs the scripts of this repository under short names."""

from __future__ import annotations

import difflib
import os
import sys
from pathlib import Path

from . import __version__
from .startup import prepare_process

ROOT = Path(__file__).resolve().parents[4]
SCRIPTS = {
    "doctor": "tools/doctor.py",
    "create-data": "examples/det/ssd/create_data.py",
    "anchors": "tools/anchors.py",
    "train": "examples/det/ssd/train.py",
    "eval": "examples/det/ssd/eval.py",
    "predict": "examples/det/ssd/predict.py",
    "export": "examples/det/ssd/export.py",
    "serve": "examples/det/ssd/serve.py",
    "convert-weights": "tools/convert_weights.py",
    "rank-table": "tools/rank_table.py",
}
HELP = """usage: ssd COMMAND [options]

Train and run SSD object detectors with MindCV backbones in MindSpore. Commands, in the order of use:

  ssd doctor        Check whether this machine can train, and say what to do.
      ssd doctor --config examples/det/ssd/ssd_mobilenetv2.yaml --data_dir data/coco

  ssd create-data   Convert annotated images (COCO, Pascal VOC or YOLO) to MindRecord shards.
      ssd create-data coco --data_path cocodataset --out_path data/coco

  ssd anchors       Optional: fit the default boxes (anchors) of a recipe to your data.
      ssd anchors --config examples/det/ssd/ssd_mobilenetv2.yaml --data_dir data/coco

  ssd train         Train a detector.
      ssd train --config examples/det/ssd/ssd_mobilenetv2.yaml --data_dir data/coco

  ssd eval          Evaluate the trained detector on the validation images and write report.html.
      ssd eval --config examples/det/ssd/ssd_mobilenetv2.yaml --data_dir data/coco

  ssd predict       Detect objects in images or a video, and draw the detected boxes.
      ssd predict --config examples/det/ssd/ssd_mobilenetv2.yaml --data_dir data/coco --input photo.jpg

  ssd export        Export the detector as an ONNX or MINDIR model that runs without the training code.
      ssd export --config examples/det/ssd/ssd_mobilenetv2.yaml --format onnx

  ssd serve         Serve an exported ONNX model over HTTP, with a page to drop photographs on.
      ssd serve --model output/ssd_mobilenetv2_onnx

Further commands:

  ssd convert-weights   Convert PyTorch weights to a MindSpore checkpoint.
  ssd rank-table        Write or check the rank table of an Ascend server.

`ssd COMMAND --help` lists the options of a command. To train on several devices, use msrun or ascend8p.sh as described
in examples/det/ssd/docs/distributed.md.
"""


def main() -> None:
    """Replace this process with the script of the given command, or print HELP if no command is given."""
    prepare_process()
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP, end="")
        return
    command, *options = arguments
    if command == "--version":
        print(f"ssd-mindcv {__version__}")
        return
    if command not in SCRIPTS:
        (nearest,) = difflib.get_close_matches(command, SCRIPTS, n=1, cutoff=0)
        sys.exit(f"error: COMMAND: {command!r} is not a command of ssd. Did you mean `ssd {nearest}`?")
    script = ROOT / SCRIPTS[command]
    if not script.is_file():
        sys.exit(f"error: {script}: not found. Install ssd from a checkout of the repository with `pip install -e .`.")
    # Use exec instead of a child process, so that signals and exit codes are those of the script, under msrun too.
    os.execv(sys.executable, [sys.executable, str(script), *options])


if __name__ == "__main__":
    main()
