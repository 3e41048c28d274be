"""A loss that is not finite stops the training, which reports the step and its images."""

import pytest

from fakes import context, step_outputs
from ssd.errors import UserError
from ssd.training.callbacks import StopOnNonFiniteLoss


def first_error(first_non_finite, log_interval, checkpoint_every_steps=None):
    """Train epochs of 10 steps whose loss is not finite from one step on -> (step that stops, message), or None"""
    callback = StopOnNonFiniteLoss(
        log_interval=log_interval,
        checkpoint_every_steps=checkpoint_every_steps,
        image_ids_of_step=lambda step: [100 * step, 100 * step + 1],
        rank=3,
    )
    for step in range(1, 31):
        outputs = step_outputs(steps_since_non_finite=max(step - first_non_finite + 1, 0))
        try:
            callback.on_train_step_end(context(cur_step_num=step, batch_num=10, net_outputs=outputs))
        except UserError as error:
            return step, str(error)
    return None


@pytest.mark.parametrize(
    "first_non_finite, log_interval, checkpoint_every_steps, expected",
    [(13, 1, None, 13), (13, 4, None, 16), (13, 50, None, 20), (10, 50, None, 10), (13, 50, 7, 14)],
)
def test_the_step_is_reported_even_if_it_was_not_checked(
    first_non_finite, log_interval, checkpoint_every_steps, expected
):
    step, message = first_error(first_non_finite, log_interval, checkpoint_every_steps)
    epoch, step_in_epoch = (2, 3) if first_non_finite == 13 else (1, 10)
    assert step == expected
    for part in (f"epoch {epoch}", f"step {step_in_epoch} of 10", "rank 3"):
        assert part in message
    assert f"{100 * first_non_finite}, {100 * first_non_finite + 1}" in message


def test_finite_losses_do_not_stop_the_training():
    assert first_error(99, log_interval=1) is None
