"""Parameters that are not finite are neither saved nor loaded, and the message names the first of them."""

import mindspore as ms
import mindspore.nn as nn
import numpy as np
import pytest

from checkpoint_files import write
from ssd.checkpoints.reading import read_checkpoint
from ssd.checkpoints.saving import save_checkpoint
from ssd.errors import UserError


class Net(nn.Cell):
    def __init__(self, **values):
        super().__init__()
        self.values = ms.ParameterTuple([ms.Parameter(ms.Tensor(value), name) for name, value in values.items()])


GOOD = np.ones(3, np.float32)
BAD = np.array([1, np.nan, 3], np.float32)


@pytest.mark.parametrize("value", [BAD, np.float32([np.inf]), np.float16([-np.inf]), np.float64([[np.nan]])])
def test_a_value_that_is_not_finite_is_not_saved(value, tmp_path):
    path = tmp_path / "ssd-1.ckpt"
    save_checkpoint(Net(weight=GOOD), path)
    before = path.read_bytes()
    with pytest.raises(UserError, match=rf"^{path}: moving_variance: "):
        save_checkpoint(Net(weight=GOOD, moving_variance=value), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["ssd-1.ckpt"]


def test_the_number_of_other_parameters_is_told(tmp_path):
    with pytest.raises(UserError, match="a.ckpt: a: .* 2 other parameters"):
        save_checkpoint(Net(a=BAD, b=BAD, c=GOOD, d=BAD), tmp_path / "a.ckpt")


def test_a_value_that_is_not_finite_is_not_loaded(tmp_path):
    path = write(tmp_path / "a.ckpt", {"weight": GOOD, "moving_variance": BAD})
    with pytest.raises(UserError, match=rf"^{path}: moving_variance: "):
        read_checkpoint(path)


def test_sums_of_gradients_may_overflow(tmp_path):
    """A step that overflows in the middle of an accumulated batch can be saved and resumed. Integers are finite."""
    net = Net(**{"accumulated.weight": BAD, "weight": GOOD, "global_step": np.int32([7])})
    save_checkpoint(net, tmp_path / "last.ckpt")
    np.testing.assert_array_equal(read_checkpoint(tmp_path / "last.ckpt")["accumulated.weight"].asnumpy(), BAD)
