"""train.py with the functions of stand_ins.py that the environment variable STAND_INS names, separated by spaces."""

import os
import runpy
import sys
from pathlib import Path

import ssd  # noqa: F401  first, because ssd sets environment variables that MindSpore reads at import

# isort: split
from fault_injection import stand_ins

TRAIN = Path(__file__).resolve().parents[2] / "examples" / "det" / "ssd" / "train.py"

if __name__ == "__main__":
    for name in os.environ["STAND_INS"].split():
        getattr(stand_ins, name)()
    sys.argv[0] = str(TRAIN)
    runpy.run_path(str(TRAIN), run_name="__main__")
