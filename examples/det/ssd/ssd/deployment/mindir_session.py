"""Run a MINDIR model with MindSpore."""

from __future__ import annotations

from pathlib import Path

import mindspore as ms
import mindspore.nn as nn
import numpy as np
from mindspore import Tensor

from ..errors import UserError


class MindirSession:
    """MINDIR model in MindSpore, on the device that MindSpore uses.

    Raises UserError if MindSpore cannot load the file.
    """

    def __init__(self, path: Path):
        try:
            self.net = nn.GraphCell(ms.load(str(path)))
        except Exception as error:  # MindSpore raises errors of several classes for damaged files
            reason = str(error).partition("\n")[0].rstrip(".")
            raise UserError(f"{path}: MindSpore cannot load the model ({reason}). Export the model again.") from None

    def run(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compute the outputs of a batch. See Session."""
        boxes, scores, labels = (output.asnumpy() for output in self.net(Tensor(image)))
        return boxes, scores, labels
