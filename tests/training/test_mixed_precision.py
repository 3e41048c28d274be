"""Training under mixed precision on CPU: losses and running statistics start near those of float32, and losses fall."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from ssd.models.detector import create_detector, to_mixed_precision
from ssd.models.losses import create_loss
from ssd.models.target_assigner import create_assigner
from ssd.training.detector_with_loss import DetectorWithLoss
from ssd.training.train_step import OUTPUTS, create_train_step

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    boxes = np.tile(np.array([[0.1, 0.1, 0.6, 0.6], [0.5, 0.4, 0.9, 0.9]], np.float32), (2, 1, 1))
    return [Tensor(image), Tensor(boxes), Tensor(np.array([[1, 2], [3, 1]], np.int32))]


def create(cfg):
    """Return a detector in the precision of a recipe. Its weights are the same for all recipes."""
    detector = create_detector(cfg)
    rng = np.random.default_rng(0)
    for parameter in detector.trainable_params():
        fan_in = max(np.prod(parameter.shape[1:]), 1)
        weight = rng.normal(0, fan_in**-0.5, parameter.shape)
        values = {"weight": weight, "gamma": np.ones(parameter.shape)}  # biases are 0
        value = values.get(parameter.name.rpartition(".")[2], np.zeros(parameter.shape))
        parameter.set_data(Tensor(value.astype(np.float32)))
    return to_mixed_precision(detector, cfg.amp_level)


def statistics(detector):
    """Return {name: array} of the running statistics of BatchNorm."""
    names = ("moving_mean", "moving_variance")
    return {item.name: item.asnumpy().copy() for item in detector.get_parameters() if item.name.endswith(names)}


@pytest.fixture(scope="module")
def float32_results(tiny_recipe, batch):
    """Loss, box loss and class loss before training, and the running statistics after the first batch."""
    cfg = tiny_recipe(amp_level="O0")
    detector = create(cfg)
    net = DetectorWithLoss(detector, create_assigner(cfg, detector.anchors), create_loss(cfg, detector.anchors))
    ms.set_context(mode=ms.PYNATIVE_MODE)  # computes the same, without compiling
    try:
        return [float(value.asnumpy()) for value in net.set_train()(*batch)], statistics(detector)
    finally:
        ms.set_context(mode=ms.GRAPH_MODE)


@pytest.mark.parametrize("amp_level", ["O2", "O3"])
def test_results_start_near_those_of_float32_and_losses_fall(amp_level, float32_results, batch, tiny_recipe):
    cfg = tiny_recipe(amp_level=amp_level)
    detector = create(cfg)
    initial = statistics(detector)
    step = create_train_step(cfg, detector, np.full(9, 0.01, np.float32)).set_train()
    outputs, found = [step(*batch).asnumpy()], statistics(detector)
    outputs = np.stack([*outputs, *(step(*batch).asnumpy() for _ in range(3))])
    assert np.isfinite(outputs).all() and not outputs[:, OUTPUTS.index("skipped")].any()
    losses, expected = float32_results
    np.testing.assert_allclose(outputs[0, :3], losses, rtol=0.1)
    assert found.keys() == expected.keys() and len(found) > 4
    for name, value in found.items():
        assert not np.array_equal(value, initial[name]), name
        np.testing.assert_allclose(value, expected[name], rtol=0.02, atol=0.02, err_msg=name)
    assert outputs[-1, 0] < 0.9 * outputs[0, 0]
