"""The one error that is the user's to mend, and how a command ends with it."""

from __future__ import annotations

import functools
import re
import sys


class UserError(ValueError):
    """Bad input. Its text, one line `<where>: got <value>, expected <rule>; <what to do>`, needs no traceback."""


def exit_cleanly(main):
    """Make a command's `main()` end a UserError as one line on stderr and exit code 2, and Ctrl-C as exit code 130.

    An error in one of MindSpore's data threads reaches us as a RuntimeError that quotes its traceback.
    """

    @functools.wraps(main)
    def wrapper(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except RuntimeError as error:
            quoted = re.search(r"^(?:\w+\.)*UserError: (.*)$", str(error), re.MULTILINE)
            if not quoted:
                raise
            print(f"error: {quoted[1]}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)

    return wrapper
