"""train.py, except that a data thread gets no memory for its third batch."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

from ssd.data import dataset
from ssd.data.batches import TrainBatchTransform

TRAIN = Path(__file__).resolve().parents[2] / "examples" / "det" / "ssd" / "train.py"


class DyingTransform(TrainBatchTransform):
    """Transform that fails at its third call."""

    calls = 0

    def __call__(self, img_ids: Any, images: Any, annotations: Any, batch_info: Any) -> Any:
        self.calls += 1
        if self.calls == 3:
            raise MemoryError("Unable to allocate 1.00 GiB for an array")
        return super().__call__(img_ids, images, annotations, batch_info)


if __name__ == "__main__":
    dataset.TrainBatchTransform = DyingTransform  # type: ignore[misc]
    sys.argv[0] = str(TRAIN)
    runpy.run_path(str(TRAIN), run_name="__main__")
