"""The one error that is the user's to mend, and how a command ends with it."""

from __future__ import annotations

import functools
import sys


class UserError(ValueError):
    """Bad input. Its text, one line `<where>: got <value>, expected <rule>; <what to do>`, needs no traceback."""


def exit_cleanly(main):
    """Make a command's `main()` end a UserError as one line on stderr and exit code 2, and Ctrl-C as exit code 130."""

    @functools.wraps(main)
    def wrapper(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)

    return wrapper
