"""The error that reports a mistake of the user, how a command ends with it, and the wording of messages."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class UserError(ValueError):
    """Bad input, settings or files, which the user can fix.

    Its text is one line, `<file or key>: <what is wrong>. <what to do>.`, and is shown without a traceback.
    """


def exit_cleanly(main: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a command's `main()`: a UserError becomes one line on stderr and exit code 2, Ctrl-C exit code 130."""

    @functools.wraps(main)
    def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except RuntimeError as error:
            # MindSpore's data threads raise a RuntimeError that quotes the traceback of the original error.
            quoted = re.search(r"^(?:\w+\.)*UserError: (.*)$", str(error), re.MULTILINE)
            if not quoted:
                raise
            print(f"error: {quoted[1]}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)

    return wrapper


def os_reason(error: OSError) -> str:
    """Return why the operating system refused, in lower case: "no such file or directory"."""
    return (error.strerror or str(error)).lower()


def count_noun(number: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun: "1 class", "2 classes". plural: singular with an s if not given"""
    return f"{number:,} {singular if number == 1 else plural or f'{singular}s'}"
