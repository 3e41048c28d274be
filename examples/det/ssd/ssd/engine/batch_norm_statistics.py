"""Running statistics of BatchNorm, which each device takes of its own images, brought together."""

from __future__ import annotations

import mindspore.nn as nn
from mindspore import ParameterTuple, ops
from mindspore.train import Callback


class _Average(nn.Cell):
    """Replace parameters by their mean over all devices."""

    def __init__(self, parameters, world: int):
        super().__init__(auto_prefix=False)
        self.parameters = ParameterTuple(parameters)
        self.sizes = [parameter.size for parameter in parameters]
        self.world = world
        self.all_reduce = ops.AllReduce()

    def construct(self):
        values = ()
        for parameter in self.parameters:
            values += (parameter.reshape(-1),)
        mean = self.all_reduce(ops.concat(values)) / self.world  # one message for all of them
        parts = ops.split(mean, self.sizes)
        for parameter, part in zip(self.parameters, parts):
            ops.assign(parameter, part.reshape(parameter.shape))
        return mean[0]


class ShareStatistics(Callback):
    """After each step give every device the mean statistics of all: the detector that is evaluated and saved is then the
    same on all of them, whichever it is. In training they are not used. Comes before evaluations and saves."""

    def __init__(self, step: nn.Cell, world: int):
        super().__init__()
        names = ("moving_mean", "moving_variance")
        statistics = [p for name, p in step.parameters_dict().items() if name.endswith(names)]
        self.average = _Average(statistics, world) if statistics else None

    def on_train_step_end(self, run_context):
        if self.average:
            self.average()
