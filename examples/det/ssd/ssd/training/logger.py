"""What is recorded of a training, and the places it goes to: the terminal, metrics.csv and TensorBoard."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..evaluation.coco_metrics import METRICS

METRICS_NAME, EVENTS_NAME = "metrics.csv", "tensorboard"  # in ckpt_save_dir


@dataclasses.dataclass(frozen=True)
class StepRecord:
    """One step of training, and what passed since the record before. The fields are columns of metrics.csv.

    epoch, step: from 1; steps count through all epochs
    loss: box_loss + class_loss, of this device's batch
    learning_rate, loss_scale: those of this step
    gradient_norm: L2 norm of all gradients as one vector, of all devices, before clipping; not finite if they
        overflowed; None in a step that only accumulates
    skipped_steps: updates left out since the record before, because gradients overflowed
    images_per_second: on all devices together
    data_wait: share of the time, 0..1, in which the host waited for the loader; None with sunk data, which the device
        fetches by itself
    memory_mib: MiB that the process holds on CPU, the most that was allocated on another device; None if not known
    """

    epoch: int
    step: int
    loss: float
    box_loss: float
    class_loss: float
    learning_rate: float
    gradient_norm: float | None
    loss_scale: float
    skipped_steps: int
    images_per_second: float
    data_wait: float | None
    memory_mib: float | None


@dataclasses.dataclass(frozen=True)
class EvalRecord:
    """An evaluation after an epoch. step: the last of that epoch; metrics: {mAP, and names of METRICS: 0..1, or -1},
    and mAP_raw where averaged weights were evaluated: that of the others; is_best: whether no evaluation before had as
    good a mAP; pictures: {name: (H, W, 3) uint8 RGB}
    """

    epoch: int
    step: int
    metrics: dict[str, float]
    is_best: bool
    pictures: dict[str, np.ndarray]


class TrainingLogger:
    """Hands records on to sinks, objects with the methods `advance`, `on_step`, `on_evaluation` and `close`, or some of
    them. Used in `with`, it closes them, whatever ended the training."""

    def __init__(self, *sinks):
        self.sinks = sinks

    def advance(self, epoch: int, step: int) -> None:
        """A step was made. Called for each, so sinks must be quick."""
        self._tell("advance", epoch, step)

    def on_step(self, record: StepRecord) -> None:
        self._tell("on_step", record)

    def on_evaluation(self, record: EvalRecord) -> None:
        self._tell("on_evaluation", record)

    def __enter__(self) -> TrainingLogger:
        return self

    def __exit__(self, *error) -> None:
        with contextlib.ExitStack() as stack:  # one that fails does not keep the others from being closed
            for sink in self.sinks:
                stack.callback(sink.close)

    def _tell(self, method: str, *values) -> None:
        for sink in self.sinks:
            if hasattr(sink, method):
                getattr(sink, method)(*values)


class MetricsFile:
    """metrics.csv: a row for each StepRecord, and one for each evaluation with its figures instead, empty where
    the other kind has values. Each is on the disk as soon as it is written."""

    COLUMNS = (*(field.name for field in dataclasses.fields(StepRecord)), "mAP", "mAP_raw", *METRICS)

    def __init__(self, path: Path, done: int = 0):
        """done: steps of a training that goes on; rows of the file up to there are kept"""
        kept = []
        if done and path.is_file():
            with open(path, newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if None not in row.values()]  # but for one that was cut off
            kept = [row for row in rows if row["step"].isdigit() and int(row["step"]) <= done]
        self.file = open(path, "w", newline="", encoding="utf-8")
        self.writer = csv.DictWriter(self.file, self.COLUMNS, restval="", lineterminator="\n", extrasaction="ignore")
        self.writer.writeheader()
        self.writer.writerows(kept)
        self.file.flush()

    def on_step(self, record: StepRecord) -> None:
        self._write(dataclasses.asdict(record))

    def on_evaluation(self, record: EvalRecord) -> None:
        self._write({"epoch": record.epoch, "step": record.step, **record.metrics})

    def close(self) -> None:
        self.file.close()

    def _write(self, values: dict) -> None:
        # Seven digits are all that float32 has.
        self.writer.writerow(
            {name: f"{value:.7g}" if isinstance(value, float) else value for name, value in values.items()}
        )
        self.file.flush()


def open_log_files(folder: Path, done: int = 0) -> list:
    """The sinks that write to a folder: metrics.csv and tensorboard/. done: steps of a training that goes on.

    Raises UserError if nothing can be written.
    """
    from .tensorboard import TensorBoardEvents

    try:
        (folder / EVENTS_NAME).mkdir(parents=True, exist_ok=True)
        return [MetricsFile(folder / METRICS_NAME, done), TensorBoardEvents(folder / EVENTS_NAME, done)]
    except OSError as error:
        raise UserError(
            f"ckpt_save_dir: got {folder}, where no file can be written ({error.strerror}), expected a folder of "
            "yours; choose another"
        ) from None
