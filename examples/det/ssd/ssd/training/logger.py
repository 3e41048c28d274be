"""Log a training run to the terminal, metrics.csv and TensorBoard, and summarize the run at the end."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import logging
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from ..checkpoints.choice import find_checkpoint, find_newest_checkpoint
from ..errors import UserError, count_noun, os_reason
from ..evaluation.coco_metrics import METRICS
from ..runtime.atomic_write import replace_file
from .log_file import LogFile
from .progress_bar import format_duration
from .records import EvalRecord, StepRecord

log = logging.getLogger(__name__)

METRICS_NAME, EVENTS_NAME = "metrics.csv", "tensorboard"  # names in ckpt_save_dir


class TrainingLogger:
    """Context manager that forwards the records of a training run to sinks, such as the progress bar and metrics.csv.

    A sink is an object with the attribute `name`, the method `close` and any of the methods `advance`, `on_first_step`,
    `on_step` and `on_evaluation`. At the end of the context, the logger closes all sinks, even after an error.

    A sink that cannot write, for example on a full disk, does not end the training. The first failure of each sink is
    logged as a warning.

    sinks: objects that receive the records
    """

    def __init__(self, *sinks: Any):
        self.sinks = sinks
        self.failed: set[str] = set()  # names of sinks

    def advance(self, epoch: int, step: int) -> None:
        """Report a finished step to the sinks.

        The method is called after every step, so sinks must be fast.
        """
        self._call("advance", epoch, step)

    def on_first_step(self, *, steps: int, seconds: float, call_seconds: float) -> None:
        """Report the first step of this run to the sinks, for which the graph was compiled.

        steps: number of steps of the first call, more than 1 with data sinking
        seconds: time since the start of the training
        call_seconds: part of the time in which the graph was compiled and run
        """
        self._call("on_first_step", steps=steps, seconds=seconds, call_seconds=call_seconds)

    def on_step(self, record: StepRecord) -> None:
        self._call("on_step", record)

    def on_evaluation(self, record: EvalRecord) -> None:
        self._call("on_evaluation", record)

    def __enter__(self) -> TrainingLogger:
        return self

    def __exit__(self, *error) -> None:
        with contextlib.ExitStack() as stack:  # closes all sinks, even after another Ctrl-C
            for sink in self.sinks:
                stack.callback(self._write, sink, sink.close)

    def _call(self, method: str, *arguments: Any, **named: Any) -> None:
        for sink in self.sinks:
            if hasattr(sink, method):
                self._write(sink, getattr(sink, method), *arguments, **named)

    def _write(self, sink: Any, method: Callable[..., None], *arguments: Any, **named: Any) -> None:
        try:
            method(*arguments, **named)
        except OSError as error:
            if sink.name not in self.failed:
                log.warning(
                    f"{sink.name}: cannot be written ({os_reason(error)}). The training continues. Free some space, "
                    "or correct the permissions, before checkpoints fail too."
                )
            self.failed.add(sink.name)


class MetricsFile:
    """The file metrics.csv: one row for each StepRecord and one row for each evaluation.

    Columns that do not apply to a row are empty. Each row is written to disk immediately. Rows that cannot be written
    follow with the next row.

    path: path of the file
    steps_done: number of steps done before this run was resumed; rows of later steps are removed from an existing file
    """

    COLUMNS = (*(field.name for field in dataclasses.fields(StepRecord)), "mAP", "mAP_raw", *METRICS)

    def __init__(self, path: Path, steps_done: int = 0):
        self.name = str(path)
        rows = read_metrics(path) if steps_done and path.is_file() else []
        kept = [row for row in rows if row["step"].isdigit() and int(row["step"]) <= steps_done]
        with replace_file(path) as unfinished:  # a kill here loses no rows
            with open(unfinished, "w", newline="", encoding="utf-8") as file:
                writer = self._create_writer(file)
                writer.writeheader()
                writer.writerows(kept)
        self.file = LogFile(path)

    def _create_writer(self, file: TextIO) -> csv.DictWriter:
        return csv.DictWriter(file, self.COLUMNS, restval="", lineterminator="\n", extrasaction="ignore")

    def on_step(self, record: StepRecord) -> None:
        self._write(dataclasses.asdict(record))

    def on_evaluation(self, record: EvalRecord) -> None:
        self._write({"epoch": record.epoch, "step": record.step, **record.metrics})

    def close(self) -> None:
        self.file.close()

    def _write(self, values: dict) -> None:
        # Write seven significant digits, because float32 values are not more precise.
        row = {name: f"{value:.7g}" if isinstance(value, float) else value for name, value in values.items()}
        text = io.StringIO()
        self._create_writer(text).writerow(row)
        self.file.write(text.getvalue().encode())
        self.file.flush()


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Read the complete rows of metrics.csv as {column: text}, with at least the column "step".

    A row that a kill cut off is left out, and so are rows that a crash of the machine filled with null bytes.
    Raises OSError if the file cannot be read.
    """
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        lines = [line for line in file if "\0" not in line]  # Python 3.10's csv refuses null bytes
    rows = csv.DictReader(lines, quoting=csv.QUOTE_NONE)
    return [row for row in rows if None not in row.values() and "step" in row]


def open_log_files(folder: Path, steps_done: int = 0) -> list:
    """Open the sinks that write to a folder: metrics.csv and TensorBoard event files.

    folder: ckpt_save_dir of the recipe
    steps_done: number of steps done before this run was resumed
    Raises UserError if the folder cannot be written to.
    """
    from .tensorboard import TensorBoardEvents  # imports protobuf, which only the main process needs

    try:
        (folder / EVENTS_NAME).mkdir(parents=True, exist_ok=True)
        return [MetricsFile(folder / METRICS_NAME, steps_done), TensorBoardEvents(folder / EVENTS_NAME, steps_done)]
    except OSError as error:
        raise UserError(
            f"ckpt_save_dir: {folder} cannot be written to ({os_reason(error)}). Set --ckpt_save_dir to another folder."
        ) from None


def training_summary(folder: Path, epochs: int, *, seconds: float, stopped_early: bool, best: EvalRecord | None) -> str:
    """Return a summary of a finished training run: duration, best detector, log files, and evaluation command.

    folder: ckpt_save_dir of the recipe
    epochs: number of trained epochs
    seconds: duration of the training in seconds
    stopped_early: True if early stopping ended the training
    best: best evaluation, or None if the detector was not evaluated
    """
    # Without evaluations, best.ckpt may be that of a run before --resume
    checkpoint = find_checkpoint(folder) if best else find_newest_checkpoint(folder)
    lines = [f"trained {count_noun(epochs, 'epoch')} in {format_duration(seconds)}"]
    if stopped_early:
        lines[0] += ", stopped early because the mAP no longer improved (early_stop_patience)"
    if best is not None:
        scores = f"mAP {best.metrics['mAP']:.4f}, AP50 {best.metrics['AP50']:.4f}"
        lines.append(f"best detector: epoch {best.epoch} with {scores}, saved as {checkpoint}")
    else:
        lines.append(f"newest checkpoint: {checkpoint}")
        lines.append("To evaluate between epochs and keep the best checkpoint, train with --eval_while_train true")
    lines.append(f"metrics: {folder / METRICS_NAME}")
    lines.append(f"charts: {shlex.join(['tensorboard', '--logdir', str(folder / EVENTS_NAME)])}")
    command = evaluation_command(sys.argv, checkpoint) if checkpoint else None
    if command:
        lines.append(f"evaluation command: {command}")
    return "\n".join(lines)


def evaluation_command(argv: Sequence[str], checkpoint: Path) -> str | None:
    """Return the shell command that evaluates a checkpoint with the command-line arguments of this train.py run.

    argv: arguments of this process, including the path of the script
    checkpoint: path of the checkpoint
    Returns None if the script is not train.py.
    """
    script = Path(argv[0])
    if script.name != "train.py":
        return None
    arguments, rest = [], list(argv[1:])
    while rest:
        argument = rest.pop(0)
        option, equals, _ = argument.replace("-", "_").partition("=")
        if option not in ("__ckpt_path", "__resume"):
            arguments.append(argument)
        elif not equals and rest and not rest[0].startswith("-"):
            del rest[:1]
    # Use the name with which the user started Python, because sys.executable may be a different path.
    evaluation = [sys.orig_argv[0], str(script.with_name("eval.py")), *arguments, "--ckpt_path", str(checkpoint)]
    return shlex.join(evaluation)
