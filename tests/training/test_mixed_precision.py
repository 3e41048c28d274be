"""Training under mixed precision on CPU: the losses stay near those of float32, and the loss itself is float32."""

import numpy as np
import pytest
from mindspore import Tensor

from ssd.models.detector import create_detector, to_mixed_precision
from ssd.training.train_step import OUTPUTS, create_train_step

pytestmark = pytest.mark.slow


def train(cfg, steps=3):
    """Return the outputs of training steps on one batch of noise, (steps, 8), and the change of the first weights."""
    detector = create_detector(cfg)
    rng = np.random.default_rng(0)
    for parameter in detector.trainable_params():  # the same weights at each level
        if parameter.name.endswith("weight"):
            fan_in = max(np.prod(parameter.shape[1:]), 1)
            parameter.set_data(Tensor((rng.normal(0, fan_in**-0.5, parameter.shape)).astype(np.float32)))
    mixed = to_mixed_precision(detector, cfg.amp_level)
    step = create_train_step(cfg, mixed, np.full(9, 0.01, np.float32)).set_train()
    image = rng.integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    boxes = np.tile(np.array([[0.1, 0.1, 0.6, 0.6], [0.5, 0.4, 0.9, 0.9]], np.float32), (2, 1, 1))
    batch = [Tensor(image), Tensor(boxes), Tensor(np.array([[1, 2], [3, 1]], np.int32))]
    before = detector.trainable_params()[0].asnumpy().copy()
    outputs = np.stack([step(*batch).asnumpy() for _ in range(steps)])
    return outputs, detector.trainable_params()[0].asnumpy() - before


@pytest.fixture(scope="module")
def float32(tiny_recipe):
    return train(tiny_recipe(amp_level="O0"))


@pytest.mark.parametrize("amp_level", ["O2", "O3"])
def test_a_few_steps_are_near_those_of_float32(amp_level, float32, tiny_recipe):
    outputs, change = train(tiny_recipe(amp_level=amp_level))
    assert np.isfinite(outputs).all()
    assert outputs[:, OUTPUTS.index("skipped")].tolist() == [0, 0, 0]
    for name in ("loss", "box_loss", "cls_loss", "grad_norm"):
        column = OUTPUTS.index(name)
        np.testing.assert_allclose(outputs[0, column], float32[0][0, column], rtol=0.05, err_msg=name)
    assert outputs[-1, 0] < outputs[0, 0]
    # Weights move in the direction of the float32 training.
    cosine = (change * float32[1]).sum() / np.sqrt((change**2).sum() * (float32[1] ** 2).sum())
    assert cosine > 0.9
