"""What happens around the steps of training: the log, the checkpoints, the evaluations. Rank 0 alone has them,
but for KeepGraphs."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Callable

import numpy as np
from mindspore.train import Callback

from ..progress import Progress
from .checkpoint import save_checkpoint
from .evaluator import Evaluation


class TrainLog(Callback):
    """A line with loss, learning rate and images/s every `interval` steps and after each epoch; a bar on a terminal.

    schedule: learning rate of every step; images_per_step: on all devices together
    """

    def __init__(self, schedule: np.ndarray, epochs: int, images_per_step: int, interval: int):
        super().__init__()
        self.schedule = schedule
        self.epochs = epochs
        self.images_per_step = images_per_step
        self.interval = interval
        self.step_of_last_line = 0
        self.bar = None

    def on_train_begin(self, run_context):
        self.bar = Progress(len(self.schedule), "training", "steps", enabled=sys.stderr.isatty())
        self.time_of_last_line = time.monotonic()

    def on_train_epoch_begin(self, run_context):
        # What passes between epochs, an evaluation for example, is not training.
        self.time_of_last_line = time.monotonic()

    def on_train_step_end(self, run_context):
        params = run_context.original_args()
        step = params.cur_step_num  # counts from 1; with sunk data this is called once an epoch
        self.bar.update(step - self.bar.done)
        in_epoch = (step - 1) % params.batch_num + 1
        if in_epoch % self.interval and in_epoch != params.batch_num:
            return
        loss = float(params.net_outputs.asnumpy())  # waits for the device
        now = time.monotonic()
        rate = (step - self.step_of_last_line) * self.images_per_step / max(now - self.time_of_last_line, 1e-9)
        self.step_of_last_line, self.time_of_last_line = step, now
        self.bar.bar.write(
            f"epoch {params.cur_epoch_num}/{self.epochs} step {in_epoch}/{params.batch_num} loss {loss:.4f} "
            f"lr {self.schedule[step - 1]:.6f} {rate:.1f} images/s",
            file=sys.stdout,
        )
        sys.stdout.flush()

    def on_train_end(self, run_context):
        self.bar.bar.close()


class CheckpointSaver(Callback):
    """Save network and optimiser after every epoch as ssd-EPOCH.ckpt, and keep the last `keep` of this run."""

    def __init__(self, folder: Path, keep: int):
        super().__init__()
        self.folder = folder
        self.keep = keep
        self.saved: list[Path] = []

    def on_train_epoch_end(self, run_context):
        params = run_context.original_args()
        path = self.folder / f"ssd-{params.cur_epoch_num}.ckpt"
        save_checkpoint(params.train_network, path)
        self.saved.append(path)
        while len(self.saved) > self.keep:
            self.saved.pop(0).unlink(missing_ok=True)


class EvalWhileTrain(Callback):
    """Evaluate after epochs start, start + interval, … and the last, and keep the best detector as best.ckpt."""

    def __init__(self, evaluation: Evaluation, detector, folder: Path, start: int, interval: int, epochs: int):
        super().__init__()
        self.evaluation = evaluation
        self.detector = detector
        self.path = folder / "best.ckpt"
        self.start, self.interval, self.epochs = start, interval, epochs
        self.best: float | None = None

    def on_train_epoch_end(self, run_context):
        epoch = run_context.original_args().cur_epoch_num
        if epoch != self.epochs and (epoch < self.start or (epoch - self.start) % self.interval):
            return
        metrics = self.evaluation().scores.metrics
        is_best = self.best is None or metrics["AP"] > self.best
        if is_best:
            self.best = metrics["AP"]
            save_checkpoint(self.detector, self.path)
        print(
            f"epoch {epoch}/{self.epochs} mAP {metrics['AP']:.4f} AP50 {metrics['AP50']:.4f}"
            f"{' (best)' if is_best else ''}",
            flush=True,
        )


class KeepGraphs(Callback):
    """Keep graphs as soon as they have run: training is more often killed than finished. Comes after other callbacks.

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


def set_aside_earlier(folder: Path) -> Path | None:
    """Move the checkpoints of an earlier run to folder/earlier-N, so that this run neither loses nor picks them.

    -> the folder they went to, None if there were none
    """
    earlier = [*folder.glob("ssd-*.ckpt"), *folder.glob("best.ckpt")]  # not what else a user keeps there
    if not earlier:
        return None
    number = 1
    while (folder / f"earlier-{number}").exists():
        number += 1
    target = folder / f"earlier-{number}"
    target.mkdir()
    for path in earlier:
        path.rename(target / path.name)
    return target
