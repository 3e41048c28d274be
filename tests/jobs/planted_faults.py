"""Compile small networks with faults for NPUs, and save their graphs: `planted_faults.py NAME`."""

import sys

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops


class LessThanNumber(nn.Cell):
    def construct(self, x):
        return x < 0


class AddInPlace(nn.Cell):
    def construct(self, x):
        y = ops.relu(x)
        y += x
        return y


class DynamicShape(nn.Cell):
    def construct(self, x):
        return ops.exp(x)


class Float64(nn.Cell):
    def construct(self, x):
        return ops.exp(x.astype("float64"))


class PaddedPooling(nn.Cell):
    def __init__(self):
        super().__init__()
        self.pool = nn.MaxPool2d(3, 2, pad_mode="pad", padding=1)

    def construct(self, x):
        return self.pool(x)


class ReturnedParameter(nn.Cell):
    """A branch that returns a parameter."""

    def __init__(self):
        super().__init__()
        self.total = Parameter(Tensor(0.0), "total")

    def construct(self, x):
        if x.sum() > self.total:
            return ops.assign_add(self.total, x.sum())
        return self.total


NETWORKS = {
    cell.__name__: cell
    for cell in (LessThanNumber, AddInPlace, DynamicShape, Float64, PaddedPooling, ReturnedParameter)
}


def main() -> None:
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_device("CPU")
    for name, network in NETWORKS.items():
        net = network()
        if name == "DynamicShape":
            net.set_inputs(Tensor(shape=(None, 2, 8, 8), dtype=ms.float32))
        try:
            net.compile(Tensor(np.zeros((1, 2, 8, 8), np.float32)))
        except RuntimeError as error:  # the CPU backend lacks some of these primitives
            print(error, file=sys.stderr)


if __name__ == "__main__":
    main()
