"""Which weights learn and which decay, typed by hand and in the shipped detectors."""

import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

from ssd.training.optimizer import create_optimizer, freeze, group_by_decay

NAMES = ["conv.weight", "norm.gamma", "norm.beta", "head.weight", "head.bias"]


def parameters(names=NAMES):
    return [Parameter(np.ones(1, np.float32), name=name) for name in names]


def groups_of(names, decay_bias):
    groups = group_by_decay(parameters(names), 0.5, decay_bias)
    return {group["weight_decay"]: [parameter.name for parameter in group["params"]] for group in groups}


def test_batch_norms_never_decay_and_biases_as_the_recipe_says():
    norms = ["norm.gamma", "norm.beta"]
    assert groups_of(NAMES, True) == {0.5: ["conv.weight", "head.weight", "head.bias"], 0.0: norms}
    assert groups_of(NAMES, False) == {0.5: ["conv.weight", "head.weight"], 0.0: [*norms, "head.bias"]}


def test_no_group_is_empty():
    assert groups_of(["conv.weight"], True) == {0.5: ["conv.weight"]}
    assert groups_of(["norm.gamma"], True) == {0.0: ["norm.gamma"]}


@pytest.mark.parametrize("decay_bias, bias", [(True, 1 - 0.25 * 0.5), (False, 1)])
def test_without_gradients_only_decay_is_left(decay_bias, bias, tiny_recipe):
    params = parameters()
    cfg = tiny_recipe(weight_decay=0.5, decay_bias=decay_bias)
    optimizer = create_optimizer(cfg, params, np.array([0.25], np.float32))
    assert [parameter.name for parameter in optimizer.parameters] == NAMES
    optimizer(tuple(Tensor(np.zeros(1, np.float32)) for _ in NAMES))
    assert [float(parameter.asnumpy()[0]) for parameter in params] == [0.875, 1, 1, 0.875, bias]


def norms_of(cell):
    return [part for _, part in cell.cells_and_names() if isinstance(part, nn.BatchNorm2d)]


@pytest.mark.parametrize("what", [None, "backbone_batch_norm", "backbone"])
def test_what_is_frozen_does_not_learn_and_the_rest_does(what, tiny_detector):
    everything = {parameter.name for parameter in tiny_detector.trainable_params()}
    backbone = {name for name in everything if name.startswith("backbone.")}
    norms = {name for name in backbone if name.endswith(("gamma", "beta"))}
    assert norms and backbone - norms and everything - backbone
    freeze(tiny_detector, what)
    left = {parameter.name for parameter in tiny_detector.trainable_params()}
    assert everything - left == {None: set(), "backbone_batch_norm": norms, "backbone": backbone}[what]
    frozen = {norm.use_batch_statistics for norm in norms_of(tiny_detector.backbone)}
    assert frozen == {None if what is None else False}
    assert {norm.use_batch_statistics for norm in norms_of(tiny_detector.head)} == {None}
