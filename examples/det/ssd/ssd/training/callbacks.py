"""Callbacks of a training besides validation and saving: step counter, guards, records, compile cache.

MindSpore calls the callbacks of a training in the order of its list, which ssd.training.trainer explains.
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
    """Continue counting steps from a checkpoint. step: steps done before"""

    def __init__(self, step: int):
        super().__init__()
        self.step = step

    def on_train_begin(self, run_context):
        run_context.original_args().cur_step_num = self.step


class StopOnNonFiniteLoss(Callback):
    """Raise UserError if a loss was infinite or NaN, naming the step and its images.

    Gradients that overflow because of the loss scale are different: their update is skipped, and training continues.
    Here the loss itself is not finite, which no loss scale repairs; that step did not change the weights.

    log_interval, checkpoint_every_steps: the loss is checked at these steps and at the end of each epoch, because each
        check waits for the device
    image_ids_of_step: returns the ids of this device's images in a step, counted from 1
    rank: of this device
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
                f"rank {self.rank}, for the images {images}. Check these images, or lower --lr and continue from a "
                "checkpoint with --resume FILE."
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

    Each device updates them from its own images. Averaged, the detector that is evaluated and saved is the same on all
    devices. Training itself does not read them.
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
    """Save compiled graphs as soon as they have run, because trainings are more often killed than completed.

    save: from compile_cache
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
        self.save()  # an evaluation compiles a graph of its own


class RecordSteps(Callback):
    """Log a StepRecord every `interval` steps and at the end of each epoch.

    schedule: learning rate of each update; images_per_step: on all devices together
    first_step, skipped_updates: steps done and updates skipped before a resumed training
    clock: returns seconds from any start
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
        # Time between epochs, for example of an evaluation, does not count as training.
        self.last_time = self.idle_since = self.clock()
        self.seconds_waited = 0.0

    def on_train_step_begin(self, run_context):
        self.seconds_waited += self.clock() - self.idle_since

    def on_train_step_end(self, run_context):
        params = run_context.original_args()
        step = params.cur_step_num  # counts from 1; with sunk data this is called once an epoch
        step_in_epoch = (step - 1) % params.batch_num + 1
        if step_in_epoch % self.interval == 0 or step_in_epoch == params.batch_num:
            self.logger.on_step(self._create_record(params))
        elif step == self.first_step + 1:  # this step compiled, which would distort the first speed measurement
            self.last_step, self.last_time, self.seconds_waited = step, self.clock(), 0.0
        self.logger.advance(params.cur_epoch_num, step)
        self.idle_since = self.clock()

    def _create_record(self, params) -> StepRecord:
        """params: MindSpore's, at the end of a step"""
        outputs = dict(zip(OUTPUTS, params.net_outputs.asnumpy().tolist()))  # waits for the device
        step, skipped_updates = params.cur_step_num, int(outputs["skipped"])
        update = min(int(outputs["updates"]), len(self.schedule) - 1)  # the last batches may be too few for an update
        now = self.clock()
        seconds = max(now - self.last_time, 1e-9)
        record = StepRecord(
            epoch=params.cur_epoch_num,
            step=step,
            loss=outputs["loss"],
            box_loss=outputs["box_loss"],
            class_loss=outputs["cls_loss"],
            learning_rate=float(self.schedule[update]),
            gradient_norm=outputs["grad_norm"] or None,  # 0 in a step that only accumulates
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
    """Return MiB: on CPU the resident memory of this process, else the peak that MindSpore allocated on the device.

    None if it is unknown.
    """
    try:
        if device_target != "CPU":
            return ms.runtime.max_memory_allocated() / 2**20 or None
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, RuntimeError, AttributeError):  # no /proc, no such device, a MindSpore without the function
        return None
