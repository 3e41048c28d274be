"""Callbacks that save checkpoints of a training run, and stop the run after a signal.

All devices stop after the same step. Only rank 0 writes checkpoints.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Protocol

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops
from mindspore.train import Callback

from ..checkpoints.loading import LAST_NAME, link_checkpoint, save_checkpoint
from .resume import STATE_KEY, TrainingState


class _Flag(Protocol):
    def __bool__(self) -> bool: ...


class _SumOverDevices(nn.Cell):
    def __init__(self):
        super().__init__()
        self.all_reduce = ops.AllReduce()

    def construct(self, value: Tensor) -> Tensor:
        return self.all_reduce(value)


class SynchronizedStop(Callback):
    """Let all devices stop after the same step.

    The callback is also a flag: after a signal to any device, it becomes true on all devices in the same step.

    interrupt: flag that is true after this process has received a stop signal
    world_size: number of devices
    interval: number of steps between exchanges of the interrupt flags among the devices
    """

    def __init__(self, interrupt: _Flag, *, world_size: int, interval: int):
        super().__init__()
        self.interrupt = interrupt
        self.interval = interval
        self.sum_over_devices = _SumOverDevices() if world_size > 1 else None
        self.is_stopping = False

    def __bool__(self) -> bool:
        return self.is_stopping

    def on_train_step_end(self, run_context):
        params = run_context.original_args()
        if self.sum_over_devices is None:
            self.is_stopping = bool(self.interrupt)
        elif params.cur_step_num % self.interval == 0 or params.cur_step_num % params.batch_num == 0:
            count = self.sum_over_devices(Tensor(np.array([bool(self.interrupt)], np.float32)))
            self.is_stopping = bool(count.asnumpy()[0] > 0)


class CheckpointSaver(Callback):
    """Save checkpoints with the complete state of a training run.

    After each epoch, the callback writes ssd-EPOCH.ckpt, links last.ckpt to the new file, and removes old epoch
    checkpoints. Within an epoch, the callback writes last.ckpt every `every_steps` steps and when the run stops.

    folder: folder of the checkpoints
    keep: number of epoch checkpoints to keep
    every_steps: number of steps between saves within an epoch; None disables these saves
    start: state of the training at the start of this run
    stop: flag that is true if the run stops after the current step
    records: {name: JSON value} to store in each checkpoint
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int,
        every_steps: int | None,
        start: TrainingState,
        stop: _Flag,
        records: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.folder = folder
        self.keep = keep
        self.every_steps = every_steps
        self.start = start
        self.stop = stop
        self.records = records or {}
        self.saved = sorted(folder.glob("ssd-*.ckpt"), key=lambda path: path.stat().st_mtime_ns)

    def on_train_step_end(self, run_context):
        params = run_context.original_args()
        step = params.cur_step_num
        is_within_epoch = step % params.batch_num != 0  # on_train_epoch_end saves at the end of an epoch
        is_due = self.every_steps is not None and step % self.every_steps == 0 and is_within_epoch
        if self.stop or is_due:
            self._save(params, LAST_NAME)

    def on_train_epoch_end(self, run_context):
        params = run_context.original_args()
        path = self.folder / f"ssd-{params.cur_epoch_num}.ckpt"
        self._save(params, path.name)
        link_checkpoint(path, LAST_NAME)
        self.saved = [other for other in self.saved if other != path] + [path]
        while len(self.saved) > self.keep:
            self.saved.pop(0).unlink(missing_ok=True)

    def _save(self, params, name: str) -> None:
        state = dataclasses.replace(self.start, step=params.cur_step_num)
        records = {STATE_KEY: dataclasses.asdict(state), **self.records}
        save_checkpoint(params.train_network, self.folder / name, records)


class StopOnSignal(Callback):
    """Raise KeyboardInterrupt to end an interrupted run, after the other callbacks have saved the step.

    stop: flag that is true if the run stops after the current step
    """

    def __init__(self, stop: _Flag):
        super().__init__()
        self.stop = stop

    def on_train_step_end(self, run_context):
        if self.stop:
            raise KeyboardInterrupt
