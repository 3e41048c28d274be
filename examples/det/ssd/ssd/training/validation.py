"""Evaluations between epochs: the best detector is kept, and a training that gets no better can end."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import ContextManager

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops
from mindspore.train import Callback

from ..checkpoints.loading import BEST_NAME, EVALUATION_KEY, read_checkpoint, save_checkpoint
from ..errors import UserError
from ..evaluation.evaluator import EvaluationResult
from .logger import EvalRecord, TrainingLogger


class ValidationCallback(Callback):
    """Evaluate after epochs start, start + interval, … and the last, and keep the best detector as best.ckpt.

    evaluation: gives what it found when it is called; draw: makes pictures of that, {name: (H, W, 3) uint8 RGB};
    log: None on all devices but the main one, which help to evaluate and write nothing; average: while it is entered
    the detector has averaged weights, which are then the ones that count, None if there are none; patience: evaluations
    without a new best after which training ends, None for none; best: of a training that goes on; words: kept
    in best.ckpt, too, by name
    """

    def __init__(
        self,
        evaluation: Callable[[], EvaluationResult],
        draw: Callable[[EvaluationResult], dict[str, np.ndarray]],
        log: TrainingLogger | None,
        detector: nn.Cell,
        folder: Path,
        start: int,
        interval: int,
        epochs: int,
        *,
        average: Callable[[], ContextManager] | None = None,
        patience: int | None = None,
        best: EvalRecord | None = None,
        words: dict[str, str] | None = None,
    ):
        super().__init__()
        self.evaluation = evaluation
        self.draw = draw
        self.log = log
        self.detector = detector
        self.path = folder / BEST_NAME
        self.start, self.interval, self.epochs = start, interval, epochs
        self.average = average
        self.patience = patience
        self.best = best
        self.words = words or {}
        self.ended_at: int | None = None  # the epoch, if training ended for want of patience

    def on_train_epoch_end(self, run_context):
        params = run_context.original_args()
        epoch, step = params.cur_epoch_num, params.cur_step_num
        if not self._is_due(epoch):
            return
        raw = {"mAP_raw": self.evaluation().mean_ap} if self.average else {}
        with self.average() if self.average else contextlib.nullcontext():
            self._evaluate(epoch, step, raw)
        since_best = sum(self._is_due(other) for other in range(self.best.epoch + 1, epoch + 1))
        if self.patience and since_best >= self.patience and epoch < self.epochs:
            self.ended_at = epoch
            run_context.request_stop()

    def _is_due(self, epoch: int) -> bool:
        return epoch == self.epochs or (epoch >= self.start and (epoch - self.start) % self.interval == 0)

    def _evaluate(self, epoch: int, step: int, more: dict[str, float]) -> None:
        evaluated = self.evaluation()
        metrics = {"mAP": evaluated.mean_ap, **more, **evaluated.scores.metrics}
        is_best = self.best is None or metrics["mAP"] > self.best.metrics["mAP"]
        record = EvalRecord(epoch, step, metrics, is_best, self.draw(evaluated) if self.log else {})
        if is_best:
            self.best = record
        if self.log:
            if is_best:
                found = json.dumps({"epoch": epoch, "step": step, "metrics": metrics})
                save_checkpoint(self.detector, self.path, {EVALUATION_KEY: found, **self.words})
            self.log.on_evaluation(record)


def read_best(folder: Path, until: int | None = None) -> EvalRecord | None:
    """What best.ckpt in a folder was saved for; None if there is no such file, or nothing is known of it, or it is of a
    step after `until`."""
    try:
        found = read_checkpoint(folder / BEST_NAME).get(EVALUATION_KEY)
    except UserError:
        return None
    best = EvalRecord(**json.loads(found), is_best=True, pictures={}) if found else None
    return None if best and until is not None and best.step > until else best


@contextlib.contextmanager
def ema_weights(detector: nn.Cell, step: nn.Cell):
    """`with ema_weights(detector, step):` the detector has the averages that its training step keeps."""
    averages = {average.name.removeprefix("ema."): average for average in step.ema_weight}
    parameters = detector.get_parameters()
    raw = [(parameter, parameter.asnumpy().copy()) for parameter in parameters]
    try:
        for parameter, _ in raw:  # `assign`, because compiled graphs do not see what `set_data` does
            ops.assign(parameter, averages[parameter.name])
        yield
    finally:
        for parameter, value in raw:
            ops.assign(parameter, Tensor(value))
