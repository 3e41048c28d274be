"""Exchange tensors between the ranks of a distributed run."""

from __future__ import annotations

import mindspore.nn as nn
from mindspore import Tensor, ops


class AllGather(nn.Cell):
    """Gather a tensor of the same shape and type from all ranks. All ranks must call the cell at the same time."""

    def __init__(self):
        super().__init__()
        self.all_gather = ops.AllGather()

    def construct(self, rows: Tensor) -> Tensor:
        """Gather the rows of all ranks.

        rows: (N, ...), rows of this rank
        Returns (R x N, ...), the rows of all R ranks in the order of the ranks.
        """
        return self.all_gather(rows)
