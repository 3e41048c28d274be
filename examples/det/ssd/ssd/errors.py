"""Define UserError for mistakes that the user can fix, handle UserError in commands, and format message texts."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
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

    A UserError prints one line to stderr and exits with code 2. Ctrl-C exits with code 130.
    """

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
    """Return the reason of an OSError in lower case, for example "no such file or directory"."""
    return (error.strerror or str(error)).lower()


def count_noun(number: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun, for example "1 class" or "2 classes".

    plural: plural form of the noun; None appends "s" to the singular form
    """
    return f"{number:,} {singular if number == 1 else plural or f'{singular}s'}"
