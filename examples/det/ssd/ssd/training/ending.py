"""The end of a training that was asked to end: all devices leave after the same step, and none waits for another."""

from __future__ import annotations

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops
from mindspore.train import Callback


class _Sum(nn.Cell):
    """Sum over all devices."""

    def __init__(self):
        super().__init__()
        self.all_reduce = ops.AllReduce()

    def construct(self, wish: Tensor) -> Tensor:
        return self.all_reduce(wish)


class SynchronizedStop(Callback):
    """True, as a condition, at the end of the step after which all devices end. Comes before callbacks that go by it.

    interrupt: true when this process was asked to end; world_size: number of devices; interval: steps after which they ask
    one another
    """

    def __init__(self, interrupt, world_size: int, interval: int):
        super().__init__()
        self.interrupt = interrupt
        self.interval = interval
        self.sum = _Sum() if world_size > 1 else None
        self.is_ending = False

    def __bool__(self) -> bool:
        return self.is_ending

    def on_train_step_end(self, run_context):
        params = run_context.original_args()
        if self.sum is None:
            self.is_ending = bool(self.interrupt)
        elif params.cur_step_num % self.interval == 0 or params.cur_step_num % params.batch_num == 0:
            wishes = self.sum(Tensor(np.array([bool(self.interrupt)], np.float32)))
            self.is_ending = bool(wishes.asnumpy()[0] > 0)
