"""What tests of losses share."""

import mindspore.nn as nn
from mindspore import ops


class Gradients(nn.Cell):
    """Gradients of a loss by all its inputs. A cell, because `ms.grad` keeps what it differentiates alive."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss
        self.gradient = ops.GradOperation(get_all=True)

    def construct(self, *inputs):
        return self.gradient(self.loss)(*inputs)
