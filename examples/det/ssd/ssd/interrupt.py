"""Ctrl-C as a wish to end, heard between two steps of work, so that files are finished."""

from __future__ import annotations

import signal
import sys


class Interrupt:
    """`with Interrupt() as interrupt:` the first Ctrl-C makes `interrupt` true; a second one raises KeyboardInterrupt.

    For the main thread alone, where Python handles signals.
    """

    def __init__(self):
        self._heard = False

    def __bool__(self) -> bool:
        return self._heard

    def __enter__(self) -> "Interrupt":
        self._before = signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(self, *error) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _hear(self, *_) -> None:
        self._heard = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("ending; Ctrl-C again ends at once", file=sys.stderr, flush=True)
