"""Load a recipe that must be refused, and check the error."""

import pytest

from ssd.config.loading import load_config
from ssd.errors import UserError


def assert_refused(path, overrides, parts):
    """Assert that load_config raises UserError with one line that contains each of `parts`."""
    with pytest.raises(UserError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message
