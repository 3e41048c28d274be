"""Progress of long work: a bar with rate and time left on a terminal, a plain line now and then in a pipe or a file."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 10


class Progress:
    """`with Progress(total, "train", "images") as progress: progress.update(8)`; nothing is shown unless `enabled`.

    Writes to stderr, so that what a command prints as its result stays clean.
    """

    def __init__(self, total: int, what: str, unit: str, enabled: bool = True):
        self.total, self.what, self.unit, self.enabled = total, what, unit, enabled
        self.on_terminal = sys.stderr.isatty()
        self.bar = tqdm(
            total=total, desc=what, unit=f" {unit}", disable=not (enabled and self.on_terminal), leave=False
        )
        self.done, self.start = 0, time.monotonic()
        self.last_line = self.start

    def update(self, count: int = 1, **shown) -> None:
        """count: how much more is done; shown: values to put behind the bar."""
        self.done += count
        if shown and self.on_terminal:
            self.bar.set_postfix(shown, refresh=False)
        self.bar.update(count)
        now = time.monotonic()
        if self.enabled and not self.on_terminal and now - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = now
            rate = self.done / (now - self.start)
            left = (self.total - self.done) / rate
            values = "".join(f", {name} {value}" for name, value in shown.items())
            print(
                f"{self.what}: {self.done}/{self.total} {self.unit}, {rate:.1f}/s, {left:.0f} s left{values}",
                file=sys.stderr,
                flush=True,
            )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error) -> None:
        self.bar.close()
