"""What happens around the steps of training besides saving and evaluating: counts, records, kept graphs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore.train import Callback

from .logger import StepRecord, TrainingLogger
from .train_step import OUTPUTS


class RecordSteps(Callback):
    """A record for the log every `interval` steps and at the end of each epoch. Comes after other callbacks, whose
    time would pass for that of the loader.

    schedule: learning rate of every update; images_per_step: on all devices together; first_step, skipped: steps that
    were made, and updates that were left out, when a training goes on
    """

    def __init__(
        self,
        log: TrainingLogger,
        schedule: np.ndarray,
        images_per_step: int,
        interval: int,
        device_target: str,
        first_step: int = 0,
        skipped: int = 0,
    ):
        super().__init__()
        self.log = log
        self.schedule = schedule
        self.images_per_step = images_per_step
        self.interval = interval
        self.device_target = device_target
        self.first_step = self.last_step = first_step
        self.skipped = skipped

    def on_train_epoch_begin(self, run_context):
        # What passes between epochs, an evaluation for example, is not training.
        self.last_time = self.idle_since = time.monotonic()
        self.waited = 0.0

    def on_train_step_begin(self, run_context):
        self.waited += time.monotonic() - self.idle_since

    def on_train_step_end(self, run_context):
        params = run_context.original_args()
        step = params.cur_step_num  # counts from 1; with sunk data this is called once an epoch
        in_epoch = (step - 1) % params.batch_num + 1
        if in_epoch % self.interval == 0 or in_epoch == params.batch_num:
            self.log.on_step(self._record(params))
        elif step == self.first_step + 1:  # it compiled, and would make the first figures of speed meaningless
            self.last_step, self.last_time, self.waited = step, time.monotonic(), 0.0
        self.log.advance(params.cur_epoch_num, step)
        self.idle_since = time.monotonic()

    def _record(self, params) -> StepRecord:
        """params: MindSpore's, at the end of a step"""
        outputs = dict(zip(OUTPUTS, params.net_outputs.asnumpy().tolist()))  # waits for the device
        step, skipped = params.cur_step_num, int(outputs["skipped"])
        update = min(int(outputs["updates"]), len(self.schedule) - 1)  # the last batches may not suffice for one
        now = time.monotonic()
        seconds = max(now - self.last_time, 1e-9)
        record = StepRecord(
            epoch=params.cur_epoch_num,
            step=step,
            loss=outputs["loss"],
            box_loss=outputs["box_loss"],
            class_loss=outputs["cls_loss"],
            learning_rate=float(self.schedule[update]),
            gradient_norm=outputs["grad_norm"] or None,  # 0 where batches are accumulated
            loss_scale=outputs["loss_scale"],
            skipped_steps=skipped - self.skipped,
            images_per_second=(step - self.last_step) * self.images_per_step / seconds,
            data_wait=None if params.dataset_sink_mode else self.waited / seconds,
            memory_mib=memory_in_use(self.device_target),
        )
        self.last_step, self.skipped, self.last_time, self.waited = step, skipped, now, 0.0
        return record


def memory_in_use(device_target: str) -> float | None:
    """MiB that this process holds on CPU; on another device the most that MindSpore has allocated there; None if not
    known."""
    try:
        if device_target != "CPU":
            return ms.runtime.max_memory_allocated() / 2**20 or None
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, RuntimeError, AttributeError):  # no /proc, no such device, a MindSpore without the function
        return None


class RestoreStep(Callback):
    """Count steps from where a training stopped. Comes before all other callbacks. step: how many were made"""

    def __init__(self, step: int):
        super().__init__()
        self.step = step

    def on_train_begin(self, run_context):
        run_context.original_args().cur_step_num = self.step


class SaveCompileCache(Callback):
    """Keep graphs as soon as they have run: training is more often killed than finished. Comes after evaluations.

    keep: what compile_cache gives
    """

    def __init__(self, keep: Callable[[], None]):
        super().__init__()
        self.keep = keep
        self.has_run = False

    def on_train_step_end(self, run_context):
        if not self.has_run:
            self.has_run = True
            self.keep()

    def on_train_epoch_end(self, run_context):
        self.keep()  # an evaluation compiles a graph of its own
