"""Print what a command is doing if it has printed nothing for 30 seconds, so that a log shows that it is alive.

A command states its work as nested activities: `with activity("compiling the network"):`. A thread watches the time
since the last output, and prints the innermost activity. MindSpore compiles graphs with Python's lock released most of
the time, so the thread runs then too.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from .main_process import is_main_process

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

SILENCE_SECONDS = 30.0  # time without output after which a line is printed
THREAD_NAME = "heartbeat"
TICK_SECONDS = 1.0  # time between two checks for silence, and between two updates of a progress bar


class Heartbeat:
    """Watch a command for silence while it has an activity.

    clock: function that returns the time in seconds since an arbitrary start
    tick_seconds: time between two checks by the thread
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, tick_seconds: float = TICK_SECONDS):
        self.clock = clock
        self.tick_seconds = tick_seconds
        self.lock = threading.Lock()  # an activity that has ended prints nothing
        self.activities: list[_Activity] = []
        self.last_output = clock()

    @contextlib.contextmanager
    def activity(self, text: str | Callable[[], str], refresh: Callable[[], None] | None = None) -> Iterator[None]:
        """State what the command does in this context.

        text: description for the user, such as "compiling the network", or a function that returns one
        refresh: function that redraws a progress bar on the terminal; with it, a terminal gets no lines
        """
        activity = _Activity(text, start=self.clock(), refresh=refresh)
        stop = None
        with self.lock:
            if not self.activities:
                self.last_output = self.clock()
                stop = threading.Event()
            self.activities.append(activity)
        if stop is not None:
            threading.Thread(target=self._watch, args=(stop,), name=THREAD_NAME, daemon=True).start()
        try:
            yield
        finally:
            if stop is not None:
                stop.set()
            with self.lock:
                self.activities.remove(activity)

    def note_output(self) -> None:
        """Note that the command has printed a line."""
        self.last_output = self.clock()

    def check(self) -> None:
        """Redraw the progress bar of a terminal, or print a line if the command has been silent for too long."""
        with self.lock:
            # stderr is None if the shell has closed it, 2>&-, and the program does not call prepare_process
            if not self.activities or not is_main_process() or sys.stderr is None:
                return
            is_terminal = sys.stderr.isatty()
            bars = [activity.refresh for activity in self.activities if activity.refresh]
            if is_terminal and bars:
                bars[-1]()
            elif self.clock() - self.last_output >= SILENCE_SECONDS:
                self.note_output()
                print(self.activities[-1].describe(self.clock()), file=sys.stderr, flush=True)

    def _watch(self, stop: threading.Event) -> None:
        """Check for silence until the outermost activity ends. This is the body of the thread."""
        while not stop.wait(self.tick_seconds):
            try:
                self.check()
            except (OSError, ValueError):  # stderr cannot be written, in a program without prepare_process
                return


class _Activity:
    """Activity of a command, with its start. `Heartbeat.activity` explains the arguments.

    start: time at which the activity began, in seconds of the clock
    """

    def __init__(self, text: str | Callable[[], str], start: float, refresh: Callable[[], None] | None):
        self.text = text
        self.start = start
        self.refresh = refresh

    def describe(self, now: float) -> str:
        """Return a line such as "compiling the network, 30 s so far"."""
        text = self.text if isinstance(self.text, str) else self.text()
        return f"{text}, {now - self.start:.0f} s so far"


_heartbeat = Heartbeat()
activity, note_output = _heartbeat.activity, _heartbeat.note_output


def report_silence(main: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a command's `main()` to print a line after each 30 seconds without output.

    Place this decorator below `exit_cleanly`, so that no line follows the last one of the command.
    """

    @functools.wraps(main)
    def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with activity("still running"):
            return main(*args, **kwargs)

    return wrapper
