"""Events of a training run: MindSpore's callbacks, with and without data sinking, as ends of steps and epochs.

With data sinking, MindSpore runs `sink_size` steps on the device between two calls of its callbacks, and counts each
group of sink_size steps as an epoch. Its cur_epoch_num and batch_num then do not refer to the dataset. Its cur_step_num
counts steps in both modes, so all other numbers are derived from cur_step_num.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from mindspore import Tensor
from mindspore.train import Callback


@dataclasses.dataclass(frozen=True)
class StepEnd:
    """End of a step, or with data sinking of the last step of a group of sink_size steps. Steps are counted from 1.

    step: number of the step in all epochs
    previous: number of the step of the previous event; 0 at the start of a run that was not resumed
    steps_per_epoch: number of steps in an epoch
    outputs: (8,) float32, outputs of the step, train_step.OUTPUTS; None if the run was resumed at this step
    request_stop: function that ends the training after this event; it works at the end of an epoch
    """

    step: int
    previous: int
    steps_per_epoch: int
    outputs: Tensor = None
    request_stop: Callable[[], None] = lambda: None

    @property
    def epoch(self) -> int:
        """Epoch of the step, counted from 1."""
        return (self.step - 1) // self.steps_per_epoch + 1

    @property
    def step_in_epoch(self) -> int:
        """Number of the step in its epoch, counted from 1."""
        return (self.step - 1) % self.steps_per_epoch + 1

    @property
    def ends_epoch(self) -> bool:
        return self.step % self.steps_per_epoch == 0

    def passes(self, interval: int | None) -> bool:
        """Return True if a multiple of `interval` lies after the previous event and not after this one.

        interval: number of steps; None returns False
        """
        return interval is not None and self.step // interval > self.previous // interval


class TrainingCallback:
    """Base class of our callbacks. Each method is called in the order of the list of callbacks."""

    def on_epoch_begin(self) -> None:
        """Called before the first step of an epoch, and before the first step of a resumed run."""

    def on_step_begin(self) -> None:
        """Called before a step, or with data sinking before a group of sink_size steps."""

    def on_step_end(self, event: StepEnd) -> None:
        """Called after a step, or with data sinking after a group of sink_size steps."""

    def on_epoch_end(self, event: StepEnd) -> None:
        """Called after the last step of an epoch, when `on_step_end` of all callbacks has been called."""


class TrainingEvents(Callback):
    """Callback for MindSpore's Model that calls our callbacks.

    callbacks: callbacks in the order of their calls
    first_step: number of steps done before this run was resumed
    steps_per_epoch: number of steps in an epoch
    """

    def __init__(self, callbacks: Sequence[TrainingCallback], *, first_step: int, steps_per_epoch: int):
        super().__init__()
        self.callbacks = callbacks
        self.first_step = self.step = first_step
        self.steps_per_epoch = steps_per_epoch

    def on_train_begin(self, run_context):
        run_context.original_args().cur_step_num = self.first_step  # MindSpore starts at 0 in a resumed run too

    def on_train_epoch_begin(self, run_context):
        if self.step == self.first_step or self.step % self.steps_per_epoch == 0:
            for callback in self.callbacks:
                callback.on_epoch_begin()

    def on_train_step_begin(self, run_context):
        for callback in self.callbacks:
            callback.on_step_begin()

    def on_train_step_end(self, run_context):
        event = self._create_event(run_context)
        for callback in self.callbacks:
            callback.on_step_end(event)
        self.step = event.step

    def on_train_epoch_end(self, run_context):
        event = self._create_event(run_context)
        if event.ends_epoch:
            for callback in self.callbacks:
                callback.on_epoch_end(event)

    def _create_event(self, run_context) -> StepEnd:
        params = run_context.original_args()
        return StepEnd(
            step=params.cur_step_num,
            previous=self.step,
            steps_per_epoch=self.steps_per_epoch,
            outputs=params.net_outputs,
            request_stop=run_context.request_stop,
        )


def usable_sink_size(sink_size: int, *, steps_per_epoch: int, first_step: int) -> int:
    """Return the largest sink size whose groups of steps start at the resumed step and end at the ends of epochs.

    sink_size: maximum, at least 1
    steps_per_epoch: number of steps in an epoch
    first_step: number of steps done before this run was resumed, or 0
    Returns a divisor of both numbers of steps. MindSpore would resume at a multiple of its sink size only.
    """
    common = math.gcd(steps_per_epoch, first_step)
    return max(size for size in range(1, min(sink_size, common) + 1) if common % size == 0)
