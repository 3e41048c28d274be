"""The bad requests of tools/soak.py get their statuses, and the service goes on."""

from urllib.parse import urlsplit

import pytest

from soaks.bad_requests import BAD_REQUESTS


@pytest.mark.parametrize("kind", BAD_REQUESTS)
def test_bad_requests_get_their_statuses(kind, url, call, picture):
    parts, (send, statuses) = urlsplit(url), BAD_REQUESTS[kind]
    assert send((parts.hostname, parts.port), picture(), 20) in statuses
    assert call("POST", f"{url}/detect", picture()).status == 200
