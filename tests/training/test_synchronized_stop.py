"""Devices agree on the step after which they stop."""

import numpy as np
import pytest
from mindspore import Tensor

from fakes import context
from ssd.training.checkpointing import SynchronizedStop


def last_step(interrupted_at, world_size, interval, others_interrupted_at=0, steps_per_epoch=10):
    """Return the step after which this device stops, of 20; None if it does not.

    interrupted_at, others_interrupted_at: step from which on this device, or another, is asked to stop; 0 for never
    """
    interrupt = []
    stop = SynchronizedStop(interrupt, world_size=world_size, interval=interval)
    if world_size > 1:

        def sum_over_devices(value):
            return Tensor(value.asnumpy() + np.float32(0 < others_interrupted_at <= step))

        stop.sum_over_devices = sum_over_devices
    for step in range(1, 21):
        if step == interrupted_at:
            interrupt.append(True)
        stop.on_train_step_end(context(cur_step_num=step, batch_num=steps_per_epoch))
        if stop:
            return step
    return None


@pytest.mark.parametrize(
    "interrupted_at, world_size, interval, others_interrupted_at, expected",
    [
        (3, 1, 10, 0, 3),  # a single device asks no other
        (3, 2, 1, 0, 3),
        (0, 2, 1, 5, 5),  # another device was asked
        (3, 2, 4, 0, 4),
        (9, 2, 4, 0, 10),  # the end of an epoch
        (0, 2, 1, 0, None),
    ],
)
def test_devices_stop_after_the_step_at_which_they_asked(
    interrupted_at, world_size, interval, others_interrupted_at, expected
):
    found = last_step(interrupted_at, world_size, interval, others_interrupted_at=others_interrupted_at)
    assert found == expected
