"""Devices agree on the step after which they stop."""

import numpy as np
import pytest
from mindspore import Tensor

from fakes import step_end
from ssd.training.checkpointing import SynchronizedStop


def last_step(interrupted_at, world_size, interval, others_interrupted_at=0, sink_size=1):
    """Return the step after which this device stops, of 2 epochs of 10; None if it does not.

    interrupted_at, others_interrupted_at: step from which on this device, or another, is asked to stop; 0 for never
    sink_size: number of steps between two calls
    """
    interrupt = []
    stop = SynchronizedStop(interrupt, world_size, interval=interval)
    if world_size > 1:

        def sum_over_devices(value):
            return Tensor(value.asnumpy() + np.float32(0 < others_interrupted_at <= step))

        stop.sum_over_devices = sum_over_devices
    for step in range(sink_size, 21, sink_size):
        if 0 < interrupted_at <= step:
            interrupt.append(True)
        stop.on_step_end(step_end(step, previous=step - sink_size))
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


@pytest.mark.parametrize(
    "interrupted_at, world_size, interval, sink_size, expected",
    [(3, 1, 10, 5, 5), (3, 2, 4, 5, 5), (3, 2, 7, 5, 10), (12, 2, 6, 2, 12), (13, 2, 6, 2, 18), (3, 2, 50, 2, 10)],
)
def test_devices_stop_after_a_group_of_steps(interrupted_at, world_size, interval, sink_size, expected):
    assert last_step(interrupted_at, world_size, interval, sink_size=sink_size) == expected


def test_a_single_device_counts_itself():
    stop = SynchronizedStop([], 1, interval=1)
    assert [stop.count_devices(flag) for flag in (True, False)] == [1, 0]
