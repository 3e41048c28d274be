"""Requests to serve.py that must be refused, each with its status."""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

MAX_BYTES, MAX_HEAD = 33_554_432, 65_536  # default limits of serve.py: bytes of a body and of the head of a request
NO_ANSWER = "none"  # in place of a status, if the client goes away


class BadRequest(NamedTuple):
    """Kind of a bad request.

    send: function of address (host, port), image file and timeout in seconds that sends the request and returns the
        status of the answer, or NO_ANSWER
    statuses: statuses that are right
    """

    send: Callable[[tuple[str, int], bytes, float], str]
    statuses: tuple[str, ...]


def _request(
    method: str, path: str, body: Callable[[bytes], bytes] | None = None, *, headers: dict[str, str] | None = None
) -> Callable[[tuple[str, int], bytes, float], str]:
    """Return a function that sends a complete request. body: function of an image file that returns the body"""

    def send(address: tuple[str, int], image: bytes, timeout: float) -> str:
        with contextlib.closing(http.client.HTTPConnection(*address, timeout=timeout)) as connection:
            connection.request(method, path, body=body(image) if body else None, headers=headers or {})
            response = connection.getresponse()
            response.read()
            return str(response.status)

    return send


def _raw(text: Callable[[bytes], bytes], *, waits: bool) -> Callable[[tuple[str, int], bytes, float], str]:
    """Return a function that sends bytes, and returns the status of the answer if it waits for one.

    text: function of an image file that returns the bytes
    """

    def send(address: tuple[str, int], image: bytes, timeout: float) -> str:
        with socket.create_connection(address, timeout=timeout) as connection:
            try:
                connection.sendall(text(image))
                answer = connection.recv(4096) if waits else b""
            except ConnectionError:  # the server may close the connection before it has read everything
                answer = b""
        return answer.split()[1].decode() if answer.startswith(b"HTTP/") else NO_ANSWER

    return send


def _png_header(width: int, height: int) -> bytes:
    """Return the start of a PNG file that states a size in pixels and contains no pixels."""
    header = b"IHDR" + struct.pack(">II", width, height) + bytes([8, 2, 0, 0, 0])  # 8 bits, RGB
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def _head(length: int) -> bytes:
    return b"POST /detect HTTP/1.1\r\nHost: soak\r\nContent-Length: %d\r\n\r\n" % length


FORM = {"Content-Type": "multipart/form-data; boundary=edge"}
BAD_REQUESTS = {
    "text in place of an image": BadRequest(_request("POST", "/detect", lambda image: b"no image"), ("422",)),
    "half of an image": BadRequest(_request("POST", "/detect", lambda image: image[: len(image) // 2]), ("422",)),
    "no body": BadRequest(_request("POST", "/detect"), ("422",)),
    "damaged form": BadRequest(_request("POST", "/detect", lambda image: image[:999], headers=FORM), ("400",)),
    "unknown parameter value": BadRequest(_request("POST", "/detect?min_score=much", lambda image: image), ("422",)),
    "900 million pixels": BadRequest(_request("POST", "/detect", lambda image: _png_header(30000, 30000)), ("413",)),
    "too many bytes": BadRequest(_raw(lambda image: _head(MAX_BYTES + 1), waits=True), ("413",)),
    "compressed body": BadRequest(
        _request("POST", "/detect", lambda image: image, headers={"Content-Encoding": "gzip"}), ("415",)
    ),
    "unknown path": BadRequest(_request("GET", "/nothing"), ("404",)),
    "wrong method": BadRequest(_request("DELETE", "/detect"), ("405",)),
    "unknown model": BadRequest(_request("POST", "/v2/models/other/infer", lambda image: b"{}"), ("404",)),
    "no HTTP": BadRequest(_raw(lambda image: b"HELLO\r\n\r\n", waits=True), ("400",)),
    "head that is too long": BadRequest(
        _raw(lambda image: b"GET / HTTP/1.1\r\nX: " + b"x" * (2 * MAX_HEAD) + b"\r\n\r\n", waits=True),
        ("400", "431", NO_ANSWER),
    ),
    "client that goes away": BadRequest(_raw(lambda image: _head(len(image)) + image[:99], waits=False), (NO_ANSWER,)),
    "client that does not read": BadRequest(_raw(lambda image: _head(len(image)) + image, waits=False), (NO_ANSWER,)),
}
