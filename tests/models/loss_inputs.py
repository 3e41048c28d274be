"""Inputs and gradients of losses, shared by the tests of losses."""

from typing import NamedTuple

import mindspore.nn as nn
import numpy as np
from mindspore import ops


class LossInputs(NamedTuple):
    """Inputs of a detection loss in the order of its arguments.

    box_offsets, target_offsets: (B, A, 4) float32
    cls_logits: (B, A, K) float32
    target_labels: (B, A) int32, 0 = background
    """

    box_offsets: np.ndarray
    cls_logits: np.ndarray
    target_offsets: np.ndarray
    target_labels: np.ndarray


class Gradients(nn.Cell):
    """Gradients of a loss with respect to all its inputs. A cell, because `ms.grad` keeps the loss alive."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss
        self.gradient = ops.GradOperation(get_all=True)

    def construct(self, *inputs):
        return self.gradient(self.loss)(*inputs)
