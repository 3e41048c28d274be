"""Show the progress of a long task: a bar on a terminal, a plain line every few seconds in a pipe or a file."""

from __future__ import annotations

import contextlib
import sys
import time

from tqdm import tqdm

from .heartbeat import activity, note_output

SECONDS_BETWEEN_LINES = 10


class Progress:
    """Progress display with rate and remaining time: `with Progress(100, "training", "images") as progress:`.

    A line also comes if no item is finished for 30 seconds, for example while a graph is compiled.

    total: number of items of the task; None if unknown, and then a pipe gets lines only after 30 seconds of silence
    description: name of the task
    unit: plural noun for the items, such as "images"
    enabled: False to show nothing
    The progress is written to stderr, because stdout is for the results of a command.
    """

    def __init__(self, total: int | None, description: str, unit: str, enabled: bool = True):
        self.total = total
        self.description = description
        self.unit = unit
        self.enabled = enabled
        self.on_terminal = sys.stderr.isatty()
        self.bar = tqdm(
            total=total, desc=description, unit=f" {unit}", disable=not (enabled and self.on_terminal), leave=False
        )
        self.done = 0
        self.start = time.monotonic()
        self.last_line = self.start
        self.activity = contextlib.ExitStack()

    def update(self, count: int = 1, **values: object) -> None:
        """Add finished items to the count.

        count: number of items finished since the last call
        values: {name: value} to show after the count, such as loss=0.5
        """
        self.done += count
        if values and self.on_terminal:
            self.bar.set_postfix(values, refresh=False)
        self.bar.update(count)
        now = time.monotonic()
        if not self.enabled or self.on_terminal or self.total is None or now - self.last_line < SECONDS_BETWEEN_LINES:
            return
        self.last_line = now
        rate = self.done / (now - self.start)
        seconds_left = (self.total - self.done) / rate
        line = f"{self.description}: {self.done}/{self.total} {self.unit}, {rate:.1f}/s, {seconds_left:.0f} s left"
        line += "".join(f", {name} {value}" for name, value in values.items())
        print(line, file=sys.stderr, flush=True)
        note_output()

    def __enter__(self) -> Progress:
        if self.enabled:
            self.activity.enter_context(activity(self._describe, refresh=self.bar.refresh))
        return self

    def __exit__(self, *error: object) -> None:
        self.activity.close()
        self.bar.close()

    def _describe(self) -> str:
        return f"{self.description}: {self.done}{'' if self.total is None else f'/{self.total}'} {self.unit}"
