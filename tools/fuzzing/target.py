"""A target of fuzzing: a function that reads bytes, and the search for faults of that function."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ssd.errors import UserError

MAX_SECONDS = 10  # of CPU time for one input
ROOT = Path(__file__).resolve().parents[2]
Reader = Callable[[bytes], None]


class Target(NamedTuple):
    """A reader to fuzz.

    create: function that writes the other files of the reader to an empty folder, and returns the reader. The reader
        gets the fuzzed bytes, and may raise UserError only.
    is_json: whether inputs are usually JSON, or YAML that is also JSON, so that single values can be replaced
    """

    create: Callable[[Path], Reader]
    is_json: bool = False


def find_fault(reader: Reader, data: bytes) -> str | None:
    """Read an input, and return a line that describes the fault, the same for all inputs with this fault.

    A fault is an error of another class than UserError, a message that is not one line of text, or more than
    MAX_SECONDS of CPU time. Returns None if the input is read, or refused with UserError.
    """
    start = time.process_time()
    try:
        reader(data)
    except UserError as error:
        message = str(error)
        if len(message.splitlines()) != 1:
            return f"a message of several lines at {_place(error)}"
        if not message.isascii() and message != message.encode(errors="replace").decode():
            return f"a message that is not Unicode text at {_place(error)}"
    except Exception as error:  # any class: that is what fuzzing looks for
        return f"{type(error).__name__} at {_place(error)}"
    seconds = time.process_time() - start
    return f"more than {MAX_SECONDS} s of CPU time" if seconds > MAX_SECONDS else None


def _place(error: Exception) -> str:
    """Return the file and line of the last function of this project in the traceback of an error."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(ROOT)]
    own = [frame for frame in frames if ".venv" not in frame.filename] or frames
    return f"{Path(own[-1].filename).relative_to(ROOT)}:{own[-1].lineno}" if own else "unknown place"
