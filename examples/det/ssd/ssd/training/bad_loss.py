"""A loss that is not finite ends a training: from there on it would learn nothing."""

from __future__ import annotations

from collections.abc import Callable

from mindspore.train import Callback

from ..errors import UserError
from .train_step import OUTPUTS


class StopOnNonFiniteLoss(Callback):
    """Raise UserError if a loss was infinite or no number, and say when, and of which images.

    Gradients that overflow because of the loss scale are another matter: their update is left out, and training goes
    on. Here it is the loss itself, which no scale mends; the step did not change the weights. Looks every `interval`
    steps, not to wait for the device at each of them, before each save and at the end of each epoch; comes before
    those. image_ids: gives those of this device in a step, counted from 1; rank: of this device
    """

    def __init__(self, interval: int, every_steps: int | None, image_ids: Callable[[int], list[int]], rank: int):
        super().__init__()
        self.intervals = interval, every_steps or interval
        self.image_ids = image_ids
        self.rank = rank

    def on_train_step_end(self, run_context):
        params = run_context.original_args()
        step, steps = params.cur_step_num, params.batch_num
        if all(step % interval for interval in self.intervals) and step % steps:
            return
        steps_since_non_finite = int(params.net_outputs.asnumpy()[OUTPUTS.index("steps_since_non_finite")])
        if steps_since_non_finite:
            step -= steps_since_non_finite - 1
            images = ", ".join(map(str, self.image_ids(step)))
            raise UserError(
                f"training: got a loss that is not finite in epoch {(step - 1) // steps + 1}, "
                f"step {(step - 1) % steps + 1} "
                f"of {steps}, on rank {self.rank} for images {images}, expected a number; look at these images, or "
                "lower --lr and train on from a checkpoint with --resume FILE"
            )
