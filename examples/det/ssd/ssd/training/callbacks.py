"""Training callbacks for non-finite losses, broken images, BatchNorm statistics, step records and the compile cache.

Callbacks are called in the order of their list. `ssd.training.trainer` explains the order.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import mindspore as ms
import mindspore.nn as nn
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, ops

from ..data.broken_images import BrokenImages
from ..errors import UserError, count_noun
from .events import StepEnd, TrainingCallback
from .logger import TrainingLogger
from .records import StepRecord
from .train_step import OUTPUTS, assign

MAX_LISTED = 10  # image ids in a warning

log = logging.getLogger(__name__)


class Flag(Protocol):
    """Object that is true or false, and may change from one to the other."""

    def __bool__(self) -> bool: ...


class StopOnNonFiniteLoss(TrainingCallback):
    """Raise UserError if a loss is infinite or NaN, and report the step and the image ids.

    Overflowing gradients are a different case: their update is skipped, and training continues. A lower loss scale
    cannot repair a loss that is not finite. The failed step has not changed the weights.

    The loss is checked only at two intervals, at the end of each epoch and when the run stops, because each check waits
    for the device.

    log_interval: number of steps between checks
    checkpoint_every_steps: number of steps between saves within an epoch, at which the loss is checked too; None
        disables these checks
    stop: flag that is true if the run stops after the current step
    image_ids_of_step: function that returns the ids of this device's images in a step; steps are counted from 1
    rank: rank of this device
    """

    def __init__(
        self,
        *,
        log_interval: int,
        checkpoint_every_steps: int | None,
        stop: Flag,
        image_ids_of_step: Callable[[int], list[int]],
        rank: int,
    ):
        self.intervals = log_interval, checkpoint_every_steps
        self.stop = stop
        self.image_ids_of_step = image_ids_of_step
        self.rank = rank

    def on_step_end(self, event: StepEnd) -> None:
        if not (self.stop or event.ends_epoch or any(event.passes(interval) for interval in self.intervals)):
            return
        steps_since = int(event.outputs.asnumpy()[OUTPUTS.index("steps_since_non_finite")])
        if steps_since:
            failed = dataclasses.replace(event, step=event.step - steps_since + 1)
            images = ", ".join(map(str, self.image_ids_of_step(failed.step)))
            raise UserError(
                f"training: the loss is not finite in epoch {failed.epoch}, step {failed.step_in_epoch} of "
                f"{failed.steps_per_epoch}, on rank {self.rank}, for the image ids {images}. Check the annotations of "
                "these images, or lower --lr and continue from a checkpoint with --resume FILE."
            )


class ReportBrokenImages(TrainingCallback):
    """Log a warning at the end of each epoch in which training images could not be decoded.

    broken_images: images that this device could not decode
    shards: folder of the training shards
    """

    def __init__(self, broken_images: BrokenImages, shards: Path):
        self.broken_images = broken_images
        self.shards = shards

    def on_epoch_end(self, event: StepEnd) -> None:
        errors = self.broken_images.take(event.epoch - 1)
        if errors:
            images = count_noun(len(errors), "training image")
            ids = ", ".join(map(str, list(errors)[:MAX_LISTED])) + (", …" if len(errors) > MAX_LISTED else "")
            log.warning(
                f"{self.shards}: epoch {event.epoch}: {images} could not be decoded (ids {ids}), and others of their "
                f"batches took their place. The first: {next(iter(errors.values()))}"
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


class SyncBatchNormStatistics(TrainingCallback):
    """Average the running statistics of BatchNorm, and their EMA, over all devices before they are used.

    Each device updates the statistics from its own images. The average makes the evaluated and saved detector the same
    on all devices. Training itself does not use the statistics. Their updates are linear, so a late average equals the
    average after each step up to rounding.

    step: training step whose BatchNorm statistics are averaged
    world_size: number of devices
    every_steps: number of steps between averages within an epoch; None averages only at the end of an epoch and when
        the run stops
    stop: flag that is true on all devices if the run stops after the current step
    """

    def __init__(self, step: nn.Cell, world_size: int, *, every_steps: int | None, stop: Flag):
        suffixes = ("moving_mean", "moving_variance")  # parameters_dict contains the EMA too
        statistics = [value for name, value in step.parameters_dict().items() if name.endswith(suffixes)]
        self.average = _AverageParameters(statistics, world_size) if statistics else None
        self.every_steps = every_steps
        self.stop = stop

    def on_step_end(self, event: StepEnd) -> None:
        if self.average and (self.stop or event.ends_epoch or event.passes(self.every_steps)):
            self.average()


class SaveCompileCache(TrainingCallback):
    """Save the compile cache after the first step and after each epoch.

    Graphs are saved as soon as possible, because a training run may be killed at any time.

    save: function that saves the graphs compiled so far
    """

    def __init__(self, save: Callable[[], None]):
        self.save = save
        self.has_run = False

    def on_step_end(self, event: StepEnd) -> None:
        if not self.has_run:
            self.has_run = True
            self.save()

    def on_epoch_end(self, event: StepEnd) -> None:
        self.save()  # an evaluation after the epoch has compiled another graph


class RecordSteps(TrainingCallback):
    """Log a StepRecord every `interval` steps of an epoch and at the end of each epoch, and report the first step.

    The outputs of the steps stay on the device until the next record, because reading them makes the host wait.

    logger: logger that receives the records
    schedule: (U,) float32, learning rate of each update
    images_per_step: number of images in a step on all devices together
    interval: number of steps between records
    device_target: "CPU" or "Ascend"
    sinks_data: True if the device reads batches without the host, so that the time of loading is unknown
    first_step: number of steps done before this run was resumed
    skipped_updates: number of updates skipped before this run was resumed
    started: time of the clock at which the training started; None for now
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
        sinks_data: bool = False,
        first_step: int = 0,
        skipped_updates: int = 0,
        started: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.clock = clock
        self.logger = logger
        self.schedule = schedule
        self.images_per_step = images_per_step
        self.interval = interval
        self.device_target = device_target
        self.sinks_data = sinks_data
        self.first_step = self.last_step = first_step
        self.skipped_updates = skipped_updates
        self.outputs: list[Tensor] = []  # (8,) float32 each, of the steps since the previous record
        self.started = clock() if started is None else started
        self.is_first_call = True

    def on_epoch_begin(self) -> None:
        # Exclude the time between epochs, for example of an evaluation, from the training time.
        self.last_time = self.idle_since = self.clock()
        self.seconds_waited = 0.0

    def on_step_begin(self) -> None:
        self.call_start = self.clock()
        self.seconds_waited += self.call_start - self.idle_since

    def on_step_end(self, event: StepEnd) -> None:
        self.outputs.append(event.outputs)
        is_first_call, self.is_first_call = self.is_first_call, False
        if is_first_call:
            self._report_first_call(event)
        steps = event.step - event.previous  # more than one with data sinking
        passes_interval = event.step_in_epoch // self.interval > (event.step_in_epoch - steps) // self.interval
        if passes_interval or event.ends_epoch:
            self.logger.on_step(self._create_record(event))
        elif is_first_call:  # exclude the first call, which compiles
            self.last_step, self.last_time, self.seconds_waited = event.step, self.clock(), 0.0
        self.logger.advance(event.epoch, event.step)
        self.idle_since = self.clock()

    def _report_first_call(self, event: StepEnd) -> None:
        event.outputs.asnumpy()  # wait for the device
        now = self.clock()
        steps, seconds = event.step - event.previous, now - self.started
        self.logger.on_first_step(steps=steps, seconds=seconds, call_seconds=now - self.call_start)

    def _create_record(self, event: StepEnd) -> StepRecord:
        values = np.stack([outputs.asnumpy() for outputs in self.outputs])  # reading waits for the device
        self.outputs.clear()
        outputs = dict(zip(OUTPUTS, values[-1].tolist()))
        means = dict(zip(OUTPUTS, values.mean(axis=0, dtype=np.float64).tolist()))
        skipped_updates = int(outputs["skipped"])
        update = min(int(outputs["updates"]), len(self.schedule) - 1)  # the last batches may not complete an update
        now = self.clock()
        seconds = max(now - self.last_time, 1e-9)
        record = StepRecord(
            epoch=event.epoch,
            step=event.step,
            loss=means["loss"],
            box_loss=means["box_loss"],
            class_loss=means["cls_loss"],
            learning_rate=float(self.schedule[update]),
            gradient_norm=outputs["grad_norm"] or None,  # 0 in a step that only accumulates gradients
            loss_scale=outputs["loss_scale"],
            skipped_steps=skipped_updates - self.skipped_updates,
            images_per_second=(event.step - self.last_step) * self.images_per_step / seconds,
            data_wait=None if self.sinks_data else self.seconds_waited / seconds,
            memory_mib=memory_in_use(self.device_target),
        )
        self.last_step, self.last_time, self.seconds_waited = event.step, now, 0.0
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
