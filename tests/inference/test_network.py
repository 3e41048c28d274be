"""One batch through the inference network: padding, and outputs that are not finite."""

import numpy as np
import pytest
from mindspore import Tensor

from ssd.errors import UserError
from ssd.inference.network import run_batch


def fake_net(score):
    """Return a network whose candidate scores are this number times the image's first pixel."""

    def run(images):
        pixels = images.asnumpy()[:, 0, 0, :1].astype(np.float32)
        return (
            Tensor(np.zeros((len(pixels), 1, 4), np.float32)),
            Tensor(score * pixels),
            Tensor(pixels.astype(np.int32)),
        )

    return run


def images(*values):
    return np.array(values, np.uint8).reshape(-1, 1, 1, 1) * np.ones((1, 2, 2, 3), np.uint8)


def test_a_padded_batch_returns_the_given_images():
    boxes_yxyx, scores, labels = run_batch(fake_net(0.5), images(2, 4), batch_size=5)
    assert boxes_yxyx.shape == (2, 1, 4)
    assert scores.tolist() == [[1], [2]] and labels.tolist() == [[2], [4]]


@pytest.mark.parametrize("score", [np.nan, np.inf])
def test_outputs_that_are_not_finite_are_an_error(score):
    with pytest.raises(UserError, match="^network: .*--amp_level"):
        run_batch(fake_net(score), images(2), batch_size=1)


def test_padding_may_give_any_output():
    def run(batch):
        values = np.where(batch.asnumpy()[:, 0, 0, :1] > 0, 1, np.nan).astype(np.float32)
        return [Tensor(values)]

    assert run_batch(run, images(2), batch_size=3)[0].tolist() == [[1]]
