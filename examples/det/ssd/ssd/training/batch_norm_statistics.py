"""Running statistics of BatchNorm, which each device takes of its own images, brought together."""

from __future__ import annotations

import mindspore.nn as nn
from mindspore import ParameterTuple, ops
from mindspore.train import Callback

_assign = ops.MultitypeFuncGraph("assign")


@_assign.register("Tensor", "Tensor")
def _assign_tensor(parameter, value):
    return ops.assign(parameter, value)


class _Average(nn.Cell):
    """Replace parameters by their mean over all devices."""

    def __init__(self, parameters, world_size: int):
        super().__init__(auto_prefix=False)
        self.parameters = ParameterTuple(parameters)
        self.mean = nn.DistributedGradReducer(parameters, mean=True, degree=world_size)
        self.hyper_map = ops.HyperMap()

    def construct(self):
        return self.hyper_map(_assign, self.parameters, self.mean(self.parameters))


class SyncBatchNormStatistics(Callback):
    """After each step give every device the mean statistics of all: the detector evaluated and saved is then the
    same on all of them, whichever it is. In training they are not used. Comes before evaluations and saves."""

    def __init__(self, step: nn.Cell, world_size: int):
        super().__init__()
        names = ("moving_mean", "moving_variance")
        statistics = [p for name, p in step.parameters_dict().items() if name.endswith(names)]
        self.average = _Average(statistics, world_size) if statistics else None

    def on_train_step_end(self, run_context):
        if self.average:
            self.average()
