"""A loss that is not finite stops the training, which reports the step and its images."""

import pytest

from fakes import step_end, step_outputs
from ssd.errors import UserError
from ssd.training.callbacks import StopOnNonFiniteLoss


def first_error(first_non_finite, log_interval, checkpoint_every_steps=None, *, sink_size=1, stops_at=0):
    """Train epochs of 10 steps whose loss is not finite from one step on -> (step that stops, message), or None

    stops_at: step at which the run stops
    """
    stop = []
    callback = StopOnNonFiniteLoss(
        log_interval=log_interval,
        checkpoint_every_steps=checkpoint_every_steps,
        stop=stop,
        image_ids_of_step=lambda step: [100 * step, 100 * step + 1],
        rank=3,
    )
    for step in range(sink_size, 31, sink_size):
        stop += [True] * (step == stops_at)
        outputs = step_outputs(steps_since_non_finite=max(step - first_non_finite + 1, 0))
        try:
            callback.on_step_end(step_end(step, previous=step - sink_size, outputs=outputs))
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


@pytest.mark.parametrize("sink_size, log_interval, expected", [(2, 1, 14), (5, 2, 15), (5, 8, 20), (10, 50, 20)])
def test_groups_of_steps_are_checked_after_each_interval(sink_size, log_interval, expected):
    step, message = first_error(13, log_interval, sink_size=sink_size)
    assert step == expected and "step 3 of 10" in message


def test_the_loss_is_checked_before_a_stopping_run_saves():
    step, message = first_error(13, 50, stops_at=17)
    assert step == 17 and "step 3 of 10" in message
