"""Define UserError for mistakes that the user can fix, handle UserError in commands, and format message texts."""

from __future__ import annotations

import functools
import os
import re
import resource
import sys
import unicodedata
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, overload

from .startup import INTERRUPTED_EXIT_CODE, exit_silently_on_signals, interruptible, stdout_error

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# Messages of Python, the dynamic linker, C++ and MindSpore about failed allocations
_NO_MEMORY = re.compile(
    "bad_alloc|cannot allocate memory|failed to map segment|unable to allocate|(insufficient|out of) memory|"
    "memory not enough",
    re.IGNORECASE,
)
_NO_THREAD = re.compile("resource temporarily unavailable|can't start new thread", re.IGNORECASE)


class UserError(ValueError):
    """Error in input, settings or files that the user can fix.

    The message of a UserError is one line: `<file or key>: <what is wrong>. <what to do>.`. Commands print the message
    without a traceback. Names in files may contain line breaks or control characters, which are escaped.
    """

    def __init__(self, message: str):
        super().__init__(escape_unprintable(message))


def require_range(option: str, value: int | None, *, least: int = 1, most: int | None = None) -> None:
    """Raise UserError if the value of an option of a command is outside a range. None stands for an option not given.

    option: name without dashes
    """
    if value is not None and value < least:
        raise UserError(f"--{option}: {value} is less than {least}. Set --{option} to at least {least}.")
    if value is not None and most is not None and value > most:
        raise UserError(f"--{option}: {value} is more than {most}. Set --{option} to at most {most}.")


def escape_unprintable(text: str) -> str:
    r"""Return a text in which control characters, line breaks and halves of characters are escapes, such as \n."""
    if text.isprintable():
        return text
    is_kept = {char: char.isprintable() or unicodedata.category(char) == "Zs" for char in set(text)}
    return "".join(char if is_kept[char] else char.encode("unicode_escape").decode() for char in text)


@overload
def exit_cleanly(main: Callable[Arguments, Result]) -> Callable[Arguments, Result]: ...
@overload
def exit_cleanly(*, prints_results: bool) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]: ...


def exit_cleanly(main: Callable | None = None, *, prints_results: bool = True) -> Callable:
    """Decorate a command's `main()` to exit without a traceback after user errors and Ctrl-C.

    A UserError, or a lack of memory or threads, prints one line to stderr and exits with code 2. Ctrl-C, SIGTERM and
    SIGHUP exit with code 130. If `main()` succeeds, but its output is lost, for example on a full disk, the code is 1.
    `startup` reports the loss.

    prints_results: False for a command whose output to stdout is only a log, and may be lost
    """
    if main is None:
        return functools.partial(exit_cleanly, prints_results=prints_results)

    @functools.wraps(main)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            with interruptible():
                result = main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except (MemoryError, ImportError, OSError, RuntimeError) as error:
            message = exhaustion_message(error)
            if message is None:
                raise
            print(f"error: {message}", file=sys.stderr, flush=True)
            sys.stdout.flush()
            os._exit(2)  # half-loaded modules abort the process in their exit handlers
        except KeyboardInterrupt:
            exit_silently_on_signals()
            print("interrupted", file=sys.stderr)
            sys.exit(INTERRUPTED_EXIT_CODE)
        if prints_results and stdout_error():
            sys.exit(1)
        return result

    return wrapper


def exhaustion_message(error: Exception) -> str | None:
    """Return the message for an error that reports a lack of memory or threads; None for any other error."""
    found, advice = _NO_MEMORY.search(str(error)), "Close other programs, or lower --batch_size"
    if isinstance(error, RuntimeError) and not found:
        found, advice = _NO_THREAD.search(str(error)), "Raise the limit of threads with ulimit -u unlimited"
    if not found and not isinstance(error, MemoryError):
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)  # threads need address space for their stacks
    if limit != resource.RLIM_INFINITY:
        advice = f"The address space is limited to {limit / 1e9:.1f} GB. Raise the limit with ulimit -v unlimited"
    return f"memory: the process gets no more memory or threads ({found[0] if found else 'MemoryError'}). {advice}."


def os_reason(error: OSError) -> str:
    """Return the reason of an OSError in lower case, for example "no such file or directory"."""
    return (error.strerror or str(error)).lower()


def mindspore_reason(error: OSError | RuntimeError) -> str:
    """Return the reason of an error of MindSpore's data functions, without their headings and the C++ call stack."""
    if isinstance(error, OSError):
        return os_reason(error)
    reported = re.search(r"^\[ERROR\] *(?:\[Internal ERROR\] *)?(.+?)\.?$", str(error), re.MULTILINE)
    return reported[1] if reported else str(error).partition("\n")[0]


def count_noun(number: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun, for example "1 class" or "2 classes".

    plural: plural form of the noun; None appends "s" to the singular form
    """
    return f"{number:,} {singular if number == 1 else plural or f'{singular}s'}"
