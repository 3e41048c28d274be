"""The line that a command would print for an error."""

import pytest

from ssd.errors import UserError


def error_of(function, *args, **kwargs):
    """Call a function that must raise UserError, and return the line that a command prints for it."""
    with pytest.raises(UserError) as caught:
        function(*args, **kwargs)
    return f"error: {caught.value}"
