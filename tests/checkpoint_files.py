"""Write checkpoint files for tests, and compare what is loaded from them."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from ssd.errors import UserError


def write(path, values):
    """A checkpoint file of {name: array}."""
    ms.save_checkpoint([{"name": name, "data": Tensor(value)} for name, value in values.items()], str(path))
    return path


def training_state(values):
    """Return the training state that the example and this project store beside a network. values: {name: array}"""
    moments = {f"moments.{name}": np.zeros_like(value) for name, value in values.items() if "moving" not in name}
    others = {"momentum": np.float32(0.9), "learning_rate": np.linspace(0, 1, 720, dtype=np.float32)}
    steps = {"global_step": np.array([720], np.int32), "scale_sense": np.float32(1024), "updates": np.float32(0)}
    steps |= {"skipped_updates": np.int32(0), "steps_since_bad_loss": np.int32(0), "accumulated_batches": np.int32(1)}
    moments |= {f"accumulated.{name}": np.zeros_like(value) for name, value in values.items() if "moving" not in name}
    dynamic = {"current_iterator_step": np.int32(1), "last_overflow_iterator_step": np.int32(0)}
    return {**moments, **others, **steps, **dynamic}


def expect_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def expect_refusal(load, net, path, values_of, *parts):
    """Loading must fail with a one-line message that contains these parts, and leave the net unchanged."""
    before = values_of(net)
    with pytest.raises(UserError) as error:
        load(net, path)
    message = str(error.value)
    assert "\n" not in message
    for part in (str(path), *parts):
        assert part in message
    expect_equal(values_of(net), before)
