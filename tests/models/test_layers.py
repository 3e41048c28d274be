"""Layers: BatchNorm with a single value per channel."""

from collections.abc import Sequence

import mindspore.nn as nn
import numpy as np
import pytest
from mindspore import Tensor, amp, ops

from ssd.models.layers import BatchNorm2d, protect_running_statistics


def norm_layer() -> nn.Cell:
    """Return a network of one MindSpore BatchNorm layer with 2 channels, whose running statistics have known values."""
    net = nn.SequentialCell(nn.BatchNorm2d(2, momentum=0.9))
    net[0].moving_mean.set_data(Tensor([1.0, 2.0]))
    net[0].moving_variance.set_data(Tensor([4.0, 9.0]))
    protect_running_statistics(net)
    return net.set_train()


def statistics(net: Sequence[nn.Cell]) -> list[list[float]]:
    return [net[0].moving_mean.asnumpy().tolist(), net[0].moving_variance.asnumpy().tolist()]


def test_a_single_value_does_not_change_the_statistics():
    net = norm_layer()
    out = net(Tensor(np.array([5.0, 8.0], np.float32).reshape(1, 2, 1, 1)))
    assert statistics(net) == [[1, 2], [4, 9]]
    np.testing.assert_allclose(out.asnumpy().ravel(), [2, 2], rtol=1e-4)  # (5 - 1) / sqrt(4) and (8 - 2) / sqrt(9)


@pytest.mark.parametrize(
    "values", [[[[[0]], [[0]]], [[[2]], [[4]]]], [[[[0, 2]], [[0, 4]]]], [[[[0], [2]], [[0], [4]]]]]
)
def test_two_values_change_the_statistics(values):
    net = norm_layer()
    net(Tensor(np.array(values, np.float32)))
    # The means are 1 and 2; the unbiased variances are 2 and 8: 0.9 * 4 + 0.1 * 2, and 0.9 * 9 + 0.1 * 8.
    np.testing.assert_allclose(statistics(net), [[1, 2], [3.8, 8.9]], rtol=1e-5)


def test_layers_in_training_with_several_values_equal_those_of_mindspore():
    x = Tensor(np.random.default_rng(0).normal(size=(3, 2, 4, 5)).astype(np.float32))
    ours, theirs = norm_layer(), nn.SequentialCell(nn.BatchNorm2d(2, momentum=0.9)).set_train()
    for mine, other in zip(ours.get_parameters(), theirs.get_parameters()):
        other.set_data(mine.value())
    np.testing.assert_array_equal(ours(x).asnumpy(), theirs(x).asnumpy())
    assert statistics(ours) == statistics(theirs)


@pytest.mark.parametrize("amp_level", ["O2", "O3"])
def test_mixed_precision_updates_the_statistics_like_mindspore(amp_level):
    """MindSpore casts parameters that a layer collects before it passes them on, and would update the copies."""
    x = Tensor(np.random.default_rng(0).normal(3, 2, size=(3, 2, 4, 5)).astype(np.float16))
    nets = norm_layer(), nn.SequentialCell(nn.BatchNorm2d(2, momentum=0.9)).set_train()
    for mine, other in zip(*(net.get_parameters() for net in nets)):
        other.set_data(mine.value())
    layers = [[net[0]] for net in nets]  # auto_mixed_precision wraps layers that stay float32
    ours, theirs = (amp.auto_mixed_precision(net, amp_level) for net in nets)
    np.testing.assert_array_equal(ours(x).asnumpy(), theirs(x).asnumpy())
    assert statistics(layers[0]) == statistics(layers[1]) != [[1, 2], [4, 9]]


def test_parameters_keep_their_names():
    net = nn.SequentialCell(nn.BatchNorm2d(2), nn.ReLU())
    names = list(net.parameters_dict())
    protect_running_statistics(net)
    assert type(net[0]) is BatchNorm2d
    assert list(net.parameters_dict()) == names


def test_the_gradient_of_a_single_value_is_finite():
    net = norm_layer()
    gradients = ops.grad(net, grad_position=None, weights=net.trainable_params())(
        Tensor(np.array([5.0, 8.0], np.float32).reshape(1, 2, 1, 1))
    )
    assert all(np.isfinite(gradient.asnumpy()).all() for gradient in gradients)
