"""Hard negative mining without sorting, for the multibox loss."""

from __future__ import annotations

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops

MAX_FLOAT = 3e38  # near the maximum of float32


class LargestValues(nn.Cell):
    """Select the k largest values of each row, with another k for each row, without sorting.

    Sorting thousands of values is slow on an NPU, and the gradient of a gather by sorted indices runs on its control
    CPU. Therefore, the cell searches for the k-th largest value. Each round compares all values with 15 thresholds, and
    continues in one of the 16 intervals. After 8 rounds, an interval is 2^-32 of the largest value wide, which is less
    than the precision of float32 for this value.
    """

    NUM_INTERVALS, NUM_ROUNDS = 16, 8

    def __init__(self):
        super().__init__()
        fractions = np.arange(1, self.NUM_INTERVALS, dtype=np.float32) / self.NUM_INTERVALS
        self.fractions = Tensor(fractions.reshape(1, -1))

    def construct(self, values: Tensor, k: Tensor) -> Tensor:
        """Select the largest values.

        values: (B, A) float32, not negative
        k: (B,) float32, number of values to select in each row
        Returns (B, A) float32: 1 for selected values and 0 for others. Values in the same interval as the k-th largest
        value share the remaining weight equally. For example, if one of two equal values is selected, each gets 1/2.
        """
        k = k.expand_dims(1)  # (B, 1)
        # The k-th largest value is at least `low` and less than `high`; both have the shape (B, 1).
        low = ops.zeros_like(k)
        high = ops.amax(values, axis=1, keepdims=True) * 1.0001 + 1e-30
        for _ in range(self.NUM_ROUNDS):
            thresholds = low + (high - low) * self.fractions  # (B, 15)
            is_above = (values.expand_dims(1) >= thresholds.expand_dims(2)).astype("float32")  # (B, 15, A)
            is_passed = (is_above.sum(axis=2) >= k).astype("float32")  # (B, 15)
            low = ops.maximum(low, ops.amax(thresholds * is_passed, axis=1, keepdims=True))
            high = ops.minimum(high, ops.amin(thresholds + MAX_FLOAT * is_passed, axis=1, keepdims=True))
        is_larger = (values >= high).astype("float32")
        is_equal = (values >= low).astype("float32") - is_larger
        share = (k - is_larger.sum(axis=1, keepdims=True)) / ops.maximum(is_equal.sum(axis=1, keepdims=True), 1.0)
        return is_larger + is_equal * ops.clamp(share, 0.0, 1.0)
