"""Callbacks that save checkpoints of a training run, and stop the run after a signal.

All devices stop after the same step. Only rank 0 writes checkpoints.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops

from ..checkpoints.choice import LAST_NAME, find_epoch_checkpoints
from ..checkpoints.records import STATE_KEY
from ..checkpoints.saving import link_checkpoint, save_checkpoint
from ..errors import UserError, os_reason
from .callbacks import Flag
from .events import StepEnd, TrainingCallback
from .resume import TrainingState

log = logging.getLogger(__name__)


class _SumOverDevices(nn.Cell):
    def __init__(self):
        super().__init__()
        self.all_reduce = ops.AllReduce()

    def construct(self, value: Tensor) -> Tensor:
        return self.all_reduce(value)


class SynchronizedStop(TrainingCallback):
    """Let all devices stop after the same step.

    The callback is also a flag: after a signal to any device, it becomes true on all devices in the same step.

    interrupt: flag that is true after this process has received a stop signal
    world_size: number of devices
    interval: number of steps between exchanges of the interrupt flags among the devices
    """

    def __init__(self, interrupt: Flag, world_size: int, *, interval: int):
        self.interrupt = interrupt
        self.interval = interval
        self.sum_over_devices = _SumOverDevices() if world_size > 1 else None
        self.is_stopping = False

    def __bool__(self) -> bool:
        return self.is_stopping

    def on_step_end(self, event: StepEnd) -> None:
        if self.sum_over_devices is None or event.passes(self.interval) or event.ends_epoch:
            self.exchange()

    def exchange(self) -> bool:
        """Return True if any device has received a stop signal. All devices wait here for each other."""
        self.is_stopping = self.count_devices(bool(self.interrupt)) > 0
        return self.is_stopping

    def count_devices(self, flag: bool) -> int:
        """Return the number of devices whose flag is true. All devices wait here for each other."""
        if self.sum_over_devices is None:
            return int(flag)
        return int(self.sum_over_devices(Tensor(np.array([flag], np.float32))).asnumpy()[0])


class CheckpointSaver(TrainingCallback):
    """Save checkpoints with the complete state of a training run.

    After each epoch, the callback writes ssd-EPOCH.ckpt, links last.ckpt to the new file, and removes old epoch
    checkpoints. Within an epoch, the callback writes last.ckpt every `every_steps` steps and when the run stops.

    step: training step whose parameters are saved
    folder: folder of the checkpoints
    keep: number of epoch checkpoints to keep
    every_steps: number of steps between saves within an epoch; None disables these saves
    start: state of the training at the start of this run
    stop: flag that is true if the run stops after the current step
    records: {name: JSON value} to store in each checkpoint
    arrays: {name: array} to store in each checkpoint, which other callbacks may change before each save
    """

    def __init__(
        self,
        step: nn.Cell,
        folder: Path,
        *,
        keep: int,
        every_steps: int | None,
        start: TrainingState,
        stop: Flag,
        records: dict[str, Any] | None = None,
        arrays: Mapping[str, np.ndarray] | None = None,
    ):
        self.step = step
        self.folder = folder
        self.keep = keep
        self.every_steps = every_steps
        self.start = start
        self.stop = stop
        self.records = records or {}
        self.arrays = arrays
        self.saved = find_epoch_checkpoints(folder)

    def on_step_end(self, event: StepEnd) -> None:
        # on_epoch_end saves at the end of an epoch
        if (self.stop or event.passes(self.every_steps)) and not event.ends_epoch:
            self._save(event, LAST_NAME)

    def on_epoch_end(self, event: StepEnd) -> None:
        path = self.folder / f"ssd-{event.epoch}.ckpt"
        self._save(event, path.name)
        try:
            link_checkpoint(path, LAST_NAME)
        except OSError as error:  # for example a full disk, on a file system without hard links
            raise UserError(
                f"{self.folder / LAST_NAME}: the checkpoint cannot be written ({os_reason(error)}). {path} is "
                "complete. Free some space, and continue with --resume."
            ) from None
        self.saved = [other for other in self.saved if other != path] + [path]
        while len(self.saved) > self.keep:
            self._remove(self.saved.pop(0))

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning(f"{path}: cannot be removed ({os_reason(error)}). Remove this old checkpoint yourself.")

    def _save(self, event: StepEnd, name: str) -> None:
        state = dataclasses.replace(self.start, step=event.step)
        records = {STATE_KEY: dataclasses.asdict(state), **self.records}
        save_checkpoint(self.step, self.folder / name, records, arrays=self.arrays)


class StopOnSignal(TrainingCallback):
    """Raise KeyboardInterrupt to end an interrupted run, after the other callbacks have saved the step.

    At the end of an epoch, ssd-EPOCH.ckpt is saved first. --resume then runs the evaluation.

    stop: flag that is true if the run stops after the current step
    """

    def __init__(self, stop: Flag):
        self.stop = stop

    def on_step_end(self, event: StepEnd) -> None:
        if self.stop and not event.ends_epoch:
            raise KeyboardInterrupt

    def on_epoch_end(self, event: StepEnd) -> None:
        if self.stop:
            raise KeyboardInterrupt
