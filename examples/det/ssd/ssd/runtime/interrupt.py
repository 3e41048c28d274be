"""Ctrl-C as a wish to end, heard between two steps of work, so that files are finished."""

from __future__ import annotations

import signal
import sys

# A polite kill asks for the same. And MindSpore 2.10, once it has compiled a graph, has a handler of its own for
# Ctrl-C, which sends this process a SIGTERM.
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """`with Interrupt() as interrupt:` the first Ctrl-C makes `interrupt` true, a second one ends the process.

    told: whether the first one is answered by a line. For the main thread alone, where Python handles signals.
    """

    def __init__(self, told: bool = True):
        self._told = told
        self._heard = False

    def __bool__(self) -> bool:
        return self._heard

    def __enter__(self) -> Interrupt:
        self._before = {number: signal.signal(number, self._hear) for number in SIGNALS}
        return self

    def __exit__(self, *error) -> None:
        self._restore()

    def _hear(self, *_) -> None:
        self._heard = True
        self._restore()
        if self._told:
            print("ending; Ctrl-C again ends at once", file=sys.stderr, flush=True)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
