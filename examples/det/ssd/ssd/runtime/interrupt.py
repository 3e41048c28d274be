"""Turn the first Ctrl-C into a flag that long work checks between two steps, so that its files are complete."""

from __future__ import annotations

import logging
import signal

log = logging.getLogger(__name__)

# `kill` sends SIGTERM. And once MindSpore 2.10 has compiled a graph, its own handler turns Ctrl-C into a SIGTERM.
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Context manager that becomes true at the first Ctrl-C or SIGTERM; a second signal has its usual effect.

    announce: log a line at the first signal
    Use `with Interrupt() as interrupt:` in the main thread, because Python handles signals only there.
    """

    def __init__(self, announce: bool = True):
        self._announce = announce
        self._received = False

    def __bool__(self) -> bool:
        return self._received

    def __enter__(self) -> Interrupt:
        self._previous_handlers = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        self._restore_handlers()

    def _receive(self, *_: object) -> None:
        self._received = True
        self._restore_handlers()
        if self._announce:
            log.warning("Stopping. Press Ctrl-C again to stop at once.")

    def _restore_handlers(self) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
