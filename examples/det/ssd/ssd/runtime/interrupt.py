"""Turn the first stop signal into a flag, so that a loop can stop after a step and leave no incomplete files."""

from __future__ import annotations

import contextlib
import os
import signal

from ..startup import stop_signals


class Interrupt:
    """Context manager that evaluates to True after the first Ctrl-C, SIGTERM or SIGHUP.

    A second Ctrl-C has its usual effect, and a second SIGTERM kills the process. A second SIGHUP is ignored, because a
    closed terminal causes two: the kernel and the shell each send one. Under msrun, a second SIGTERM is ignored too. If
    a batch system sends SIGTERM to all processes, the process receives it twice, also from its supervisor. The
    supervisor answers a second signal with SIGKILL.

    announce: True to print a message to stderr at the first signal
    Use `with Interrupt() as interrupt:` in the main thread, because Python handles signals only in the main thread.
    """

    def __init__(self, announce: bool = True):
        self._announce = announce
        self._received = False

    def __bool__(self) -> bool:
        return self._received

    def __enter__(self) -> Interrupt:
        self._previous_handlers = {number: signal.signal(number, self._receive) for number in stop_signals()}
        return self

    def __exit__(self, *error: object) -> None:
        self._restore_handlers()

    def _receive(self, *_: object) -> None:
        self._received = True
        self._restore_handlers()
        # With SIG_IGN in place of _ignore, Python would print a traceback if the other signal has arrived already
        signal.signal(signal.SIGHUP, _ignore)
        # With SIG_DFL, SIGTERM kills at once; a Python handler would wait for the end of a compilation
        signal.signal(signal.SIGTERM, _ignore if "MS_ROLE" in os.environ else signal.SIG_DFL)
        if self._announce:
            # os.write, because the signal may have interrupted a print, and streams refuse calls within a call.
            with contextlib.suppress(OSError):  # for example a closed terminal
                os.write(2, b"Stopping. Press Ctrl-C again to stop immediately.\n")

    def _restore_handlers(self) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)


def _ignore(*_: object) -> None:
    """Handle a signal by doing nothing."""
