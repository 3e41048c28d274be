"""A loss that is not finite ends a training, which says when and of which images."""

import pytest

from fakes import context, outputs
from ssd.errors import UserError
from ssd.training.bad_loss import StopOnNonFiniteLoss


def first_refusal(first_bad, interval, every_steps=None):
    """The step after which a training of epochs of 10 steps ends, and what it says, whose loss is bad from one on."""
    callback = StopOnNonFiniteLoss(interval, every_steps, lambda step: [100 * step, 100 * step + 1], rank=3)
    for step in range(1, 31):
        told = outputs(steps_since_non_finite=max(step - first_bad + 1, 0))
        try:
            callback.on_train_step_end(context(cur_step_num=step, batch_num=10, net_outputs=told))
        except UserError as error:
            return step, str(error)


@pytest.mark.parametrize(
    "first_bad, interval, every_steps, looked",
    [(13, 1, None, 13), (13, 4, None, 16), (13, 50, None, 20), (10, 50, None, 10), (13, 50, 7, 14)],
)
def test_when_is_told_even_if_it_was_not_looked_at(first_bad, interval, every_steps, looked):
    step, words = first_refusal(first_bad, interval, every_steps)
    epoch, in_epoch = (2, 3) if first_bad == 13 else (1, 10)
    assert step == looked
    assert (
        f"in epoch {epoch}, step {in_epoch} of 10, on rank 3 for images {100 * first_bad}, {100 * first_bad + 1},"
        in words
    )


def test_finite_losses_go_on():
    assert first_refusal(99, 1) is None
