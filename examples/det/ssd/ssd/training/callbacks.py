"""Training callbacks for the step counter, non-finite losses, BatchNorm statistics, step records and the compile cache.

MindSpore calls callbacks in the order of their list. `ssd.training.trainer.train` explains the order.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import mindspore as ms
import mindspore.nn as nn
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, ops
from mindspore.train import Callback

from ..errors import UserError
from .logger import TrainingLogger
from .records import StepRecord
from .train_step import OUTPUTS, assign


class RestoreStep(Callback):
    """Set MindSpore's step counter at the start of a resumed run.

    step: number of steps done before this run was resumed
    """

    def __init__(self, step: int):
        super().__init__()
        self.step = step

    def on_train_begin(self, run_context):
        run_context.original_args().cur_step_num = self.step


class StopOnNonFiniteLoss(Callback):
    """Raise UserError if a loss is infinite or NaN, and report the step and the image ids.

    Overflowing gradients are a different case: their update is skipped, and training continues. A lower loss scale
    cannot repair a loss that is not finite. The failed step has not changed the weights.

    The loss is checked only at two intervals and at the end of each epoch, because each check waits for the device.

    log_interval: number of steps between checks
    checkpoint_every_steps: number of steps between saves within an epoch, at which the loss is checked too; None
        disables these checks
    image_ids_of_step: function that returns the ids of this device's images in a step; steps are counted from 1
    rank: rank of this device
    """

    def __init__(
        self,
        *,
        log_interval: int,
        checkpoint_every_steps: int | None,
        image_ids_of_step: Callable[[int], list[int]],
        rank: int,
    ):
        super().__init__()
        self.intervals = log_interval, checkpoint_every_steps or log_interval
        self.image_ids_of_step = image_ids_of_step
        self.rank = rank

    def on_train_step_end(self, run_context):
        params = run_context.original_args()
        step, steps_per_epoch = params.cur_step_num, params.batch_num
        if all(step % interval for interval in self.intervals) and step % steps_per_epoch:
            return
        steps_since = int(params.net_outputs.asnumpy()[OUTPUTS.index("steps_since_non_finite")])
        if steps_since:
            step -= steps_since - 1
            epoch, step_in_epoch = (step - 1) // steps_per_epoch + 1, (step - 1) % steps_per_epoch + 1
            images = ", ".join(map(str, self.image_ids_of_step(step)))
            raise UserError(
                f"training: the loss is not finite in epoch {epoch}, step {step_in_epoch} of {steps_per_epoch}, on "
                f"rank {self.rank}, for the image ids {images}. Check the annotations of these images, or lower --lr "
                "and continue from a checkpoint with --resume FILE."
            )


class _AverageParameters(nn.Cell):
    """Replace parameters by their mean over all devices."""

    def __init__(self, parameters: Sequence[Parameter], world_size: int):
        super().__init__(auto_prefix=False)
        self.parameters = ParameterTuple(parameters)
        self.mean = nn.DistributedGradReducer(parameters, mean=True, degree=world_size)
        self.hyper_map = ops.HyperMap()

    def construct(self) -> tuple[Tensor, ...]:
        return self.hyper_map(assign, self.parameters, self.mean(self.parameters))


class SyncBatchNormStatistics(Callback):
    """Average the running statistics of BatchNorm over all devices after each step.

    Each device updates the statistics from its own images. The average makes the evaluated and saved detector the same
    on all devices. Training itself does not use the statistics.

    step: training step whose BatchNorm statistics are averaged
    world_size: number of devices
    """

    def __init__(self, step: nn.Cell, world_size: int):
        super().__init__()
        suffixes = ("moving_mean", "moving_variance")
        statistics = [value for name, value in step.parameters_dict().items() if name.endswith(suffixes)]
        self.average = _AverageParameters(statistics, world_size) if statistics else None

    def on_train_step_end(self, run_context):
        if self.average:
            self.average()


class SaveCompileCache(Callback):
    """Save the compile cache after the first step and after each epoch.

    Graphs are saved as soon as possible, because a training run may be killed at any time.

    save: function that saves the graphs compiled so far
    """

    def __init__(self, save: Callable[[], None]):
        super().__init__()
        self.save = save
        self.has_run = False

    def on_train_step_end(self, run_context):
        if not self.has_run:
            self.has_run = True
            self.save()

    def on_train_epoch_end(self, run_context):
        self.save()  # an evaluation after the epoch has compiled another graph


class RecordSteps(Callback):
    """Log a StepRecord every `interval` steps and at the end of each epoch.

    logger: logger that receives the records
    schedule: (U,) float32, learning rate of each update
    images_per_step: number of images in a step on all devices together
    interval: number of steps between records
    device_target: "CPU" or "Ascend"
    first_step: number of steps done before this run was resumed
    skipped_updates: number of updates skipped before this run was resumed
    clock: function that returns the time in seconds since an arbitrary start
    """

    def __init__(
        self,
        logger: TrainingLogger,
        *,
        schedule: np.ndarray,
        images_per_step: int,
        interval: int,
        device_target: str,
        first_step: int = 0,
        skipped_updates: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ):
        super().__init__()
        self.clock = clock
        self.logger = logger
        self.schedule = schedule
        self.images_per_step = images_per_step
        self.interval = interval
        self.device_target = device_target
        self.first_step = self.last_step = first_step
        self.skipped_updates = skipped_updates

    def on_train_epoch_begin(self, run_context):
        # Exclude the time between epochs, for example of an evaluation, from the training time.
        self.last_time = self.idle_since = self.clock()
        self.seconds_waited = 0.0

    def on_train_step_begin(self, run_context):
        self.seconds_waited += self.clock() - self.idle_since

    def on_train_step_end(self, run_context):
        params = run_context.original_args()
        step = params.cur_step_num  # counts from 1; with data sinking, MindSpore calls this method once an epoch
        step_in_epoch = (step - 1) % params.batch_num + 1
        if step_in_epoch % self.interval == 0 or step_in_epoch == params.batch_num:
            self.logger.on_step(self._create_record(params))
        elif step == self.first_step + 1:  # exclude the first step, which compiles
            self.last_step, self.last_time, self.seconds_waited = step, self.clock(), 0.0
        self.logger.advance(params.cur_epoch_num, step)
        self.idle_since = self.clock()

    def _create_record(self, params) -> StepRecord:
        """Create the record of a finished step.

        params: MindSpore's callback parameters at the end of the step
        """
        outputs = dict(zip(OUTPUTS, params.net_outputs.asnumpy().tolist()))  # reading waits for the device
        step, skipped_updates = params.cur_step_num, int(outputs["skipped"])
        update = min(int(outputs["updates"]), len(self.schedule) - 1)  # the last batches may not complete an update
        now = self.clock()
        seconds = max(now - self.last_time, 1e-9)
        record = StepRecord(
            epoch=params.cur_epoch_num,
            step=step,
            loss=outputs["loss"],
            box_loss=outputs["box_loss"],
            class_loss=outputs["cls_loss"],
            learning_rate=float(self.schedule[update]),
            gradient_norm=outputs["grad_norm"] or None,  # 0 in a step that only accumulates gradients
            loss_scale=outputs["loss_scale"],
            skipped_steps=skipped_updates - self.skipped_updates,
            images_per_second=(step - self.last_step) * self.images_per_step / seconds,
            data_wait=None if params.dataset_sink_mode else self.seconds_waited / seconds,
            memory_mib=memory_in_use(self.device_target),
        )
        self.last_step, self.last_time, self.seconds_waited = step, now, 0.0
        self.skipped_updates = skipped_updates
        return record


def memory_in_use(device_target: str) -> float | None:
    """Return the memory in use in MiB, or None if the memory is unknown.

    On CPU the value is the resident memory of this process. On other devices the value is the peak memory that
    MindSpore allocated on the device.
    """
    try:
        if device_target != "CPU":
            return ms.runtime.max_memory_allocated() / 2**20 or None
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, RuntimeError, AttributeError):  # /proc, the device or the function is missing
        return None
