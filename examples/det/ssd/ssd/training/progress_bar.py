"""What a training shows while it runs: a bar on a terminal, lines in a pipe or a file."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

from .logger import EvalRecord, StepRecord


class TrainingProgressBar:
    """A line on stdout for each record; with stderr on a terminal a bar there, too, with the newest figures.

    If both are terminals, only the last line of each epoch stays above the bar. steps: of all epochs together;
    done: of a training that goes on
    """

    def __init__(self, epochs: int, steps: int, done: int = 0):
        self.epochs, self.steps = epochs, steps
        self.steps_per_epoch = steps // epochs
        self.all_lines = not (sys.stderr.isatty() and sys.stdout.isatty())
        self.figures = ""
        self.first: tuple[int, float] | None = None  # step and time from which the time left is reckoned
        self.bar = tqdm(
            desc=f"epoch {done // self.steps_per_epoch + 1}/{epochs}, compiling",
            total=steps,
            initial=done,
            disable=not sys.stderr.isatty(),
            leave=False,
            bar_format="{percentage:3.0f}%|{bar:10}| {desc}",
        )

    def advance(self, epoch: int, step: int) -> None:
        if self.first is None:  # not from the start, because the first step compiles
            self.first = step, time.monotonic()
        if not self.bar.disable:
            words = f"{self._place(epoch, step)}{self._left(step)} {self.figures}"
            self.bar.set_description_str(words.rstrip(), refresh=False)
            self.bar.update(step - self.bar.n)

    def on_step(self, record: StepRecord) -> None:
        self.figures = format_step(record)
        if self.all_lines or not record.step % self.steps_per_epoch:
            self._say(f"{self._place(record.epoch, record.step)} {self.figures}{self._left(record.step)}")

    def on_evaluation(self, record: EvalRecord) -> None:
        ap, ap50 = record.metrics["mAP"], record.metrics["AP50"]
        words = " (best)" if record.is_best else ""
        if "mAP_raw" in record.metrics:
            words += f", without averaging mAP {record.metrics['mAP_raw']:.4f}"
        self._say(f"epoch {record.epoch}/{self.epochs} mAP {ap:.4f} AP50 {ap50:.4f}{words}")

    def close(self) -> None:
        self.bar.close()

    def _say(self, line: str) -> None:
        tqdm.write(line, file=sys.stdout)  # above the bars, if there are any
        sys.stdout.flush()

    def _place(self, epoch: int, step: int) -> str:
        return f"epoch {epoch}/{self.epochs} step {(step - 1) % self.steps_per_epoch + 1}/{self.steps_per_epoch}"

    def _left(self, step: int) -> str:
        """The time left at the mean rate so far, evaluations included; nothing where it is not known."""
        if self.first is None or step <= self.first[0] or step == self.steps:
            return ""
        first_step, first_time = self.first
        return f", {format_duration((self.steps - step) * (time.monotonic() - first_time) / (step - first_step))} left"


def format_step(record: StepRecord) -> str:
    """`loss 1.2345 (box 0.4012, class 0.8333) lr 0.012345 12.3 images/s 1234 MiB`, and steps that were skipped."""
    words = f"loss {record.loss:.4f} (box {record.box_loss:.4f}, class {record.class_loss:.4f}) "
    words += f"lr {record.learning_rate:.6f} {record.images_per_second:.1f} images/s"
    if record.memory_mib is not None:
        words += f" {record.memory_mib:.0f} MiB"
    if record.skipped_steps:
        steps = "1 step" if record.skipped_steps == 1 else f"{record.skipped_steps} steps"
        words += f", {steps} skipped for overflow at loss scale {record.loss_scale:g}"
    return words


def format_duration(seconds: float) -> str:
    """3725 -> 1:02:05"""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
