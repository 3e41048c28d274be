"""Errors of requests, which clients receive as a status and one line."""

from __future__ import annotations

from collections.abc import Mapping

CLIENT_CLOSED = 499  # the status that nginx logs if the client went away; no client ever sees it


class RequestError(Exception):
    """Error of one request or of one image of a request.

    status: HTTP status
    message: one line for the client: `<part of the request>: <what is wrong>. <what to do>.`
    headers: additional headers of the response
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status = status
        self.message = " ".join(message.split())
        self.headers = dict(headers or {})
