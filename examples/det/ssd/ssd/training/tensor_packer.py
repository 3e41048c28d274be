"""Pack many tensors into a few vectors, to process all gradients of a training step with a few kernels.

A step has hundreds of gradients, and an NPU needs more time to launch a kernel than to process a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import mindspore.nn as nn
import numpy as np
from mindspore import Parameter, Tensor, ops
from mindspore.ops.auto_generate.gen_ops_prim import SplitWithSize

# Maximum number of tensors in a vector. Older versions of MindSpore split larger Concat and Split calls for Ascend at
# 63 tensors (split_fission.h and concat_fission.h in its sources). MindSpore 2.10 does not split them.
MAX_TENSORS = 63

_flatten = ops.MultitypeFuncGraph("flatten")
_reshape_like = ops.MultitypeFuncGraph("reshape_like")


@_flatten.register("Tensor")
def _flatten_tensor(tensor):
    return ops.cast(tensor, ms.float32).reshape(-1)


@_reshape_like.register("Tensor", "Tensor")
def _reshape_tensor(vector, parameter):
    return vector.reshape(parameter.shape)


class TensorPacker(nn.Cell):
    """Concatenate tensors with the shapes of parameters to float32 vectors, and split such vectors again.

    parameters: parameters that give the number, order and shapes of the tensors
    first_group: number of parameters at the beginning that share no vector with the other parameters
    The attribute `num_first_vectors` is the number of vectors that contain the tensors of the first group.
    """

    def __init__(self, parameters: Sequence[Parameter], first_group: int = 0):
        super().__init__()
        groups = ((0, first_group), (first_group, len(parameters)))
        ranges = [
            [(start, min(start + MAX_TENSORS, end)) for start in range(begin, end, MAX_TENSORS)]
            for begin, end in groups
        ]
        self.num_first_vectors = len(ranges[0])
        self.ranges = tuple(ranges[0] + ranges[1])
        sizes = [int(np.prod(parameter.shape)) for parameter in parameters]
        self.sizes = tuple(tuple(sizes[start:end]) for start, end in self.ranges)
        # ops.split would launch a kernel for each tensor, and mint.split becomes a primitive that GE does not know.
        self.split = SplitWithSize()
        self.hyper_map = ops.HyperMap()

    def construct(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Concatenate tensors with the shapes of the parameters.

        Returns one-dimensional float32 vectors.
        """
        flat = self.hyper_map(_flatten, tensors)
        vectors: tuple[Tensor, ...] = ()
        for start, end in self.ranges:
            vectors += (ops.concat(flat[start:end]),)
        return vectors

    def unpack(self, vectors: tuple[Tensor, ...], parameters: tuple[Parameter, ...]) -> tuple[Tensor, ...]:
        """Split vectors that `construct` returned.

        parameters: parameters of the constructor
        Returns float32 tensors with the shapes of the parameters.
        """
        parts: tuple[Tensor, ...] = ()
        for index, sizes in enumerate(self.sizes):
            parts += self.split(vectors[index], sizes, 0)
        return self.hyper_map(_reshape_like, parts, parameters)


def multiply(vectors: tuple[Tensor, ...], factor: Tensor) -> tuple[Tensor, ...]:
    """Multiply vectors by a scalar, inside a graph."""
    products: tuple[Tensor, ...] = ()
    for vector in vectors:
        products += (vector * factor,)
    return products


def global_norm(vectors: tuple[Tensor, ...]) -> Tensor:
    """Compute the L2 norm of several vectors as if they were one vector, inside a graph.

    Returns a scalar float32.
    """
    squares: tuple[Tensor, ...] = ()
    for vector in vectors:
        squares += (vector.square().sum(),)
    return ops.addn(squares).sqrt()
