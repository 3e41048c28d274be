"""Devices agree on the step after which they end."""

import numpy as np
import pytest
from mindspore import Tensor

from fakes import context
from ssd.training.ending import SynchronizedStop


def ends_after(interrupts, world_size, interval, others=0, steps=10):
    """The first of 20 steps at whose end this device ends; interrupts: from which step on it is asked to; others: from
    which step on others are, 0 for never."""
    asked = []
    ending = SynchronizedStop(asked, world_size, interval)
    if world_size > 1:

        def total(wish):
            return Tensor(wish.asnumpy() + np.float32(0 < others <= step))

        ending.sum = total
    for step in range(1, 21):
        if step == interrupts:
            asked.append(True)
        ending.on_train_step_end(context(cur_step_num=step, batch_num=steps))
        if ending:
            return step


@pytest.mark.parametrize(
    "interrupts, world_size, interval, others, last",
    [
        (3, 1, 10, 0, 3),  # alone there is nobody to ask
        (3, 2, 1, 0, 3),
        (0, 2, 1, 5, 5),  # another device was asked
        (3, 2, 4, 0, 4),
        (9, 2, 4, 0, 10),  # the end of an epoch
        (0, 2, 1, 0, None),
    ],
)
def test_all_end_after_the_step_at_which_they_asked_one_another(interrupts, world_size, interval, others, last):
    assert ends_after(interrupts, world_size, interval, others) == last
