"""Show the progress of a training run: a bar on a terminal, lines in a pipe or a file."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable

from tqdm import tqdm

from ..errors import count_noun
from ..runtime.heartbeat import activity, note_output
from .records import EvalRecord, StepRecord


class TrainingProgressBar:
    """Print a line for each record to stdout, and draw a progress bar if stderr is a terminal.

    If stdout and stderr are both terminals, only the last step record of each epoch is printed. Without a terminal, a
    line on stderr states the position if nothing was printed for 30 seconds.

    epochs: number of epochs of the whole run
    total_steps: number of steps of the whole run
    steps_done: number of steps done before this run was resumed
    clock: function that returns the time in seconds since an arbitrary start
    """

    name = "stdout"  # named in warnings of TrainingLogger

    def __init__(
        self, *, epochs: int, total_steps: int, steps_done: int = 0, clock: Callable[[], float] = time.monotonic
    ):
        self.clock = clock
        self.epochs, self.total_steps = epochs, total_steps
        self.steps_per_epoch = total_steps // epochs
        self.prints_all_lines = not (sys.stderr.isatty() and sys.stdout.isatty())
        self.values = ""
        self.start: tuple[int, float] | None = None  # step and time at which the time estimate starts
        self.created = clock()
        self.compiling = f"epoch {min(steps_done // self.steps_per_epoch + 1, epochs)}/{epochs}, compiling"
        self.position = self.compiling
        self.bar = tqdm(
            desc=self.compiling,
            total=total_steps,
            initial=steps_done,
            disable=not sys.stderr.isatty(),
            leave=False,
            bar_format="{percentage:3.0f}%|{bar:10}| {desc}",
        )
        self.activity = contextlib.ExitStack()
        self.activity.enter_context(activity(lambda: self.position, refresh=self.refresh))

    def advance(self, epoch: int, step: int) -> None:
        if self.start is None:  # exclude the first step, which compiles
            self.start = step, self.clock()
        self.position = f"{self._position(epoch, step)}{self._time_left(step)}"
        if not self.bar.disable:
            self.bar.set_description_str(f"{self.position} {self.values}".rstrip(), refresh=False)
            self.bar.update(step - self.bar.n)

    def refresh(self) -> None:
        """Redraw the bar. While the graph is compiled, the bar shows the seconds since its creation."""
        if self.start is None:
            self.bar.set_description_str(f"{self.compiling}, {self.clock() - self.created:.0f} s", refresh=False)
        self.bar.refresh()

    def on_first_step(self, steps: int, seconds: float, call_seconds: float) -> None:
        text = "first step" if steps == 1 else f"first {steps} steps"
        self._print(f"{text} after {seconds:.1f} s, of which {call_seconds:.1f} s to compile and run the graph")

    def on_step(self, record: StepRecord) -> None:
        self.values = format_step(record)
        if self.prints_all_lines or not record.step % self.steps_per_epoch:
            self._print(f"{self._position(record.epoch, record.step)} {self.values}{self._time_left(record.step)}")

    def on_evaluation(self, record: EvalRecord) -> None:
        ap, ap50 = record.metrics["mAP"], record.metrics["AP50"]
        notes = " (best)" if record.is_best else ""
        if "mAP_raw" in record.metrics:
            notes += f", mAP {record.metrics['mAP_raw']:.4f} without weight averaging"
        self._print(f"epoch {record.epoch}/{self.epochs} mAP {ap:.4f} AP50 {ap50:.4f}{notes}")

    def close(self) -> None:
        self.activity.close()
        self.bar.close()

    def _print(self, line: str) -> None:
        tqdm.write(line, file=sys.stdout)  # writes above the bar
        sys.stdout.flush()
        note_output()

    def _position(self, epoch: int, step: int) -> str:
        return f"epoch {epoch}/{self.epochs} step {(step - 1) % self.steps_per_epoch + 1}/{self.steps_per_epoch}"

    def _time_left(self, step: int) -> str:
        """Return the estimated remaining time as text, or an empty string if the time is unknown.

        The estimate uses the mean duration of the steps so far, evaluations included.
        """
        if self.start is None or step <= self.start[0] or step == self.total_steps:
            return ""
        start_step, start_time = self.start
        seconds_per_step = (self.clock() - start_time) / (step - start_step)
        return f", {format_duration((self.total_steps - step) * seconds_per_step)} left"


def format_step(record: StepRecord) -> str:
    """Format a step record as text: `loss 1.2345 (box 0.4012, class 0.8333) lr 0.012345 12.3 images/s 1234 MiB`.

    The number of skipped steps is appended if steps were skipped.
    """
    text = f"loss {record.loss:.4f} (box {record.box_loss:.4f}, class {record.class_loss:.4f}) "
    text += f"lr {record.learning_rate:.6f} {record.images_per_second:.1f} images/s"
    if record.memory_mib is not None:
        text += f" {record.memory_mib:.0f} MiB"
    if record.skipped_steps:
        text += f", {count_noun(record.skipped_steps, 'step')} skipped for overflow at loss scale {record.loss_scale:g}"
    return text


def format_duration(seconds: float) -> str:
    """Format a duration in seconds as hours, minutes and seconds: 3725 becomes 1:02:05."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
