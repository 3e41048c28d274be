"""Which weights learn and which decay, typed by hand and in the shipped detectors."""

import numpy as np
import pytest
from mindspore import Parameter, nn

from ssd.training import optimizer as optimizer_module
from ssd.training.optimizer import freeze, split_by_decay, warn_of_high_rate

NAMES = ["conv.weight", "norm.gamma", "norm.beta", "head.weight", "head.bias"]


def parameters(names=NAMES):
    return [Parameter(np.ones(1, np.float32), name=name) for name in names]


def names_of(parameters):
    return [parameter.name for parameter in parameters]


def test_batch_norms_never_decay_and_biases_as_the_recipe_says():
    norms = ["norm.gamma", "norm.beta"]
    decayed, others = split_by_decay(parameters(), decay_bias=True)
    assert (names_of(decayed), names_of(others)) == (["conv.weight", "head.weight", "head.bias"], norms)
    decayed, others = split_by_decay(parameters(), decay_bias=False)
    assert (names_of(decayed), names_of(others)) == (["conv.weight", "head.weight"], [*norms, "head.bias"])


def test_a_learning_rate_of_sgd_is_reported_with_adamw(tiny_recipe, monkeypatch):
    warnings = []
    monkeypatch.setattr(optimizer_module.log, "warning", warnings.append)
    high, usual = np.float32([0.001, 0.02]), np.float32([0.01, 0.001])
    warn_of_high_rate(tiny_recipe(), high)
    warn_of_high_rate(tiny_recipe(optimizer="adamw"), usual)
    assert warnings == []
    warn_of_high_rate(tiny_recipe(optimizer="adamw"), high)
    assert len(warnings) == 1 and warnings[0].startswith("lr: ") and "0.02" in warnings[0]


def test_a_list_may_be_empty():
    assert split_by_decay(parameters(["norm.gamma"]), decay_bias=True)[0] == []
    assert split_by_decay(parameters(["conv.weight"]), decay_bias=True)[1] == []


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
