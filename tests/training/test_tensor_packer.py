"""Packing gradients to vectors: order, round trip, groups, and the norm of several vectors."""

import numpy as np
import pytest
from mindspore import Parameter, ParameterTuple, Tensor, nn

from ssd.training.tensor_packer import MAX_TENSORS, TensorPacker, global_norm


def parameters_of(shapes):
    return ParameterTuple([Parameter(np.zeros(shape, np.float32), name=f"p{i}") for i, shape in enumerate(shapes)])


class RoundTrip(nn.Cell):
    def __init__(self, parameters, first_group=0):
        super().__init__()
        self.parameters = parameters
        self.pack = TensorPacker(parameters, first_group)

    def construct(self, *tensors):
        vectors = self.pack(tensors)
        return vectors, self.pack.unpack(vectors, self.parameters)


def test_tensors_come_in_order_and_back_in_their_shapes():
    shapes = [(2, 3), (1,), (4, 1, 1, 2)]
    tensors = [np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 100 * i for i, shape in enumerate(shapes)]
    (vector,), back = RoundTrip(parameters_of(shapes))(*map(Tensor, tensors))
    assert vector.asnumpy().tolist() == [0, 1, 2, 3, 4, 5, 100, *range(200, 208)]
    for tensor, other in zip(tensors, back, strict=True):
        np.testing.assert_array_equal(other.asnumpy(), tensor)


@pytest.mark.parametrize(
    "count, first_group, lengths, num_first",
    [(3, 2, [2, 1], 1), (3, 3, [3], 1), (64, 0, [63, 1], 0), (130, 64, [63, 1, 63, 3], 2)],
)
def test_no_vector_has_more_tensors_than_kernels_take(count, first_group, lengths, num_first):
    net = RoundTrip(parameters_of([(1,)] * count), first_group)
    vectors, back = net(*[Tensor(np.array([i], np.float32)) for i in range(count)])
    assert [len(vector) for vector in vectors] == lengths and max(lengths) <= MAX_TENSORS
    assert net.pack.num_first_vectors == num_first
    assert [float(tensor.asnumpy()[0]) for tensor in back] == list(range(count))


class Norm(nn.Cell):
    def construct(self, *vectors):
        return global_norm(vectors)


def test_the_norm_is_that_of_all_vectors_as_one():
    rng = np.random.default_rng(0)
    vectors = [(rng.normal(0, 3, size) * 10.0**i).astype(np.float32) for i, size in enumerate((5, 6, 1))]
    expected = np.linalg.norm(np.concatenate(vectors).astype(np.float64))
    assert float(Norm()(*map(Tensor, vectors)).asnumpy()) == pytest.approx(expected, rel=1e-6)
    assert float(Norm()(Tensor(np.array([3, -4], np.float32))).asnumpy()) == 5


def test_half_precision_is_packed_as_float32():
    gradient = np.full(4, 300, np.float16)  # the squares of its values are beyond float16
    (vector,), _ = RoundTrip(parameters_of([(4,)]))(Tensor(gradient))
    assert vector.asnumpy().dtype == np.float32 and float(Norm()(vector).asnumpy()) == 600
