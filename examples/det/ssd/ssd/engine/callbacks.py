"""What happens around the steps of training: records, checkpoints, evaluations. Rank 0 alone writes and speaks."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import Callable

import mindspore as ms
import numpy as np
from mindspore.train import Callback

from .checkpoint import BEST_NAME, LAST_NAME, link_checkpoint, save_checkpoint
from .evaluator import Evaluated
from .train_step import OUTPUTS
from .training_log import EvalRecord, StepRecord, TrainingLog
from .training_state import TrainingState


class RecordSteps(Callback):
    """A record for the log every `interval` steps and at the end of each epoch. Comes after other callbacks, whose
    time would pass for that of the loader.

    schedule: learning rate of every update; images_per_step: on all devices together; first_step, skipped: steps that
    were made, and those of them that were skipped, when a training goes on
    """

    def __init__(
        self,
        log: TrainingLog,
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
        step, updates = params.cur_step_num, int(outputs["updates"])
        skipped = step - 1 - updates + int(outputs["overflow"])
        now = time.monotonic()
        seconds = max(now - self.last_time, 1e-9)
        record = StepRecord(
            epoch=params.cur_epoch_num,
            step=step,
            loss=outputs["loss"],
            box_loss=outputs["box_loss"],
            class_loss=outputs["cls_loss"],
            learning_rate=float(self.schedule[updates]),
            gradient_norm=outputs["grad_norm"],
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


class GoOn(Callback):
    """Count steps from where a training stopped. Comes before all other callbacks. step: how many were made"""

    def __init__(self, step: int):
        super().__init__()
        self.step = step

    def on_train_begin(self, run_context):
        run_context.original_args().cur_step_num = self.step


class CheckpointSaver(Callback):
    """Save all that a training needs to go on: after every epoch as ssd-EPOCH.ckpt, of which the last `keep` stay, and
    then and every `every_steps` steps as last.ckpt; and when the user wishes to end. Comes after the evaluation, whose
    best is part of the state.

    start: the state before the first step; best: gives the best evaluation so far, or None; interrupt: true when the
    user wishes to end; is_ending: whether that was granted by a checkpoint
    """

    def __init__(
        self,
        folder: Path,
        keep: int,
        every_steps: int | None,
        start: TrainingState,
        best: Callable[[], EvalRecord | None],
        interrupt,
    ):
        super().__init__()
        self.folder = folder
        self.keep = keep
        self.every_steps = every_steps
        self.start = start
        self.best = best
        self.interrupt = interrupt
        self.is_ending = False
        self.saved = sorted(folder.glob("ssd-*.ckpt"), key=lambda path: path.stat().st_mtime_ns)

    def on_train_step_end(self, run_context):
        params = run_context.original_args()
        if self.interrupt:
            self._save(params, LAST_NAME)
            self.is_ending = True
        elif (
            self.every_steps and params.cur_step_num % self.every_steps == 0 and params.cur_step_num % params.batch_num
        ):
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
        best = self.best()
        best = {"epoch": best.epoch, "step": best.step, "metrics": best.metrics} if best else None
        state = dataclasses.replace(self.start, step=params.cur_step_num, best=best)
        save_checkpoint(params.train_network, self.folder / name, state.to_json())


class EndWhenAsked(Callback):
    """End the training by KeyboardInterrupt once its state is saved. Comes last, so that the step is recorded, too."""

    def __init__(self, saver: CheckpointSaver):
        super().__init__()
        self.saver = saver

    def on_train_step_end(self, run_context):
        if self.saver.is_ending:
            raise KeyboardInterrupt


class EvalWhileTrain(Callback):
    """Evaluate after epochs start, start + interval, … and the last, and keep the best detector as best.ckpt.

    evaluation: gives what it found when it is called; draw: makes pictures of that, {name: (H, W, 3) uint8 RGB};
    log: None on all devices but the main one, which help to evaluate and write nothing; best: of a training that goes on
    """

    def __init__(
        self,
        evaluation: Callable[[], Evaluated],
        draw: Callable[[Evaluated], dict[str, np.ndarray]],
        log: TrainingLog | None,
        detector,
        folder: Path,
        start: int,
        interval: int,
        epochs: int,
        best: EvalRecord | None = None,
    ):
        super().__init__()
        self.evaluation = evaluation
        self.draw = draw
        self.log = log
        self.detector = detector
        self.path = folder / BEST_NAME
        self.start, self.interval, self.epochs = start, interval, epochs
        self.best = best

    def on_train_epoch_end(self, run_context):
        params = run_context.original_args()
        epoch = params.cur_epoch_num
        if epoch != self.epochs and (epoch < self.start or (epoch - self.start) % self.interval):
            return
        evaluated = self.evaluation()
        metrics = {"mAP": evaluated.mean_ap, **evaluated.scores.metrics}
        is_best = self.best is None or metrics["mAP"] > self.best.metrics["mAP"]
        pictures = self.draw(evaluated) if self.log else {}
        record = EvalRecord(epoch, params.cur_step_num, metrics, is_best, pictures)
        if is_best:
            self.best = record
        if self.log:
            if is_best:
                save_checkpoint(self.detector, self.path)
            self.log.on_evaluation(record)


class KeepGraphs(Callback):
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
