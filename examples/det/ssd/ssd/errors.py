"""Define UserError for mistakes that the user can fix, handle UserError in commands, and format message texts."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class UserError(ValueError):
    """Error in input, settings or files that the user can fix.

    The message of a UserError is one line: `<file or key>: <what is wrong>. <what to do>.`. Commands print the message
    without a traceback.
    """


def exit_cleanly(main: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a command's `main()` to exit without a traceback after user errors and Ctrl-C.

    A UserError prints one line to stderr and exits with code 2. Ctrl-C exits with code 130. Import slow modules inside
    `main()`, because Ctrl-C at an import outside `main()` prints a traceback.
    """

    @functools.wraps(main)
    def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            with _exit_if_interrupted_at_import():
                return main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            # Another Ctrl-C ends the process without the traceback of a function that frees a network.
            with contextlib.suppress(ValueError):  # not in the main thread
                signal.signal(signal.SIGINT, signal.SIG_DFL)
            print("interrupted", file=sys.stderr)
            sys.exit(130)

    return wrapper


@contextlib.contextmanager
def _exit_if_interrupted_at_import() -> Iterator[None]:
    """Exit the process at once if Ctrl-C is pressed while a module is imported. Ctrl-C at other times is unchanged.

    The import of MindSpore takes seconds. If a KeyboardInterrupt ends it, MindSpore 2.10 prints hundreds of lines and
    aborts, or raises ImportError.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread handles signals
        yield
        return
    previous = signal.getsignal(signal.SIGINT)
    if previous is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is _interrupt:
            signal.signal(signal.SIGINT, previous)


def _interrupt(number: int, frame: FrameType | None) -> None:
    while frame:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            os.write(2, b"interrupted\n")
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt


def os_reason(error: OSError) -> str:
    """Return the reason of an OSError in lower case, for example "no such file or directory"."""
    return (error.strerror or str(error)).lower()


def mindspore_reason(error: OSError | RuntimeError) -> str:
    """Return the reason of an error of MindSpore's data functions, without their headings and the C++ call stack."""
    if isinstance(error, OSError):
        return os_reason(error)
    reported = re.search(r"^\[ERROR\] *(.+?)\.?$", str(error), re.MULTILINE)
    return reported[1] if reported else str(error).partition("\n")[0]


def count_noun(number: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun, for example "1 class" or "2 classes".

    plural: plural form of the noun; None appends "s" to the singular form
    """
    return f"{number:,} {singular if number == 1 else plural or f'{singular}s'}"
