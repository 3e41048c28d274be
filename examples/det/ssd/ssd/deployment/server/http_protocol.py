"""HTTP protocol of the service, with limits on connections and on the time and the parts of requests."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 20  # time in which the head of the first request of a connection must arrive
# The same for later requests; longer than Retry-After, so that clients can repeat a request over their connection.
KEEP_ALIVE_SECONDS = 75
WRITE_SECONDS = 30  # time in which a client must read what the sockets did not take of a response
MAX_CHUNKS = 2**15  # parts of a body without a stated length; each takes 0.1 ms, however small it is
READ_BYTES = 2**15  # of a connection at a time, so that the others do not wait for many small parts
MAX_CONNECTIONS = 512
REFUSED_SECONDS = 1  # time in which a client can read that its connection was refused


class LimitedProtocol(H11Protocol):
    """HTTP protocol with limits on the number of connections, and on the time of their parts.

    uvicorn has a timeout only for the silence between two requests. This class closes connections on which no request
    arrives, however slowly its bytes come, and connections whose client does not read its responses.

    max_connections: more connections are answered with status 503; a quarter more than that are closed
    """

    max_connections = MAX_CONNECTIONS

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._is_refused = False
        self._write_timer: asyncio.TimerHandle | None = None
        self._num_chunks = 0
        self._next_event = self.conn.next_event
        self.conn.next_event = self._count_chunks  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.max_size = READ_BYTES  # type: ignore[attr-defined]
        self._is_refused = len(self.connections) > self.max_connections
        self._head_timer = self.loop.call_later(
            REFUSED_SECONDS if self._is_refused else HEAD_SECONDS, self._close_without_request
        )
        if self._is_refused:
            transport.write(
                _answer(
                    "503 Service Unavailable\r\nRetry-After: 1",
                    "server: it has too many connections. Repeat the request in 1 s.",
                )
            )
            if len(self.connections) > self.max_connections + self.max_connections // 4:
                transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_timer.cancel()
        self._stop_write_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._is_refused:  # closing before the client has sent its request would discard the response
            super().data_received(data)

    def on_response_complete(self) -> None:
        self._head_timer.cancel()
        self._head_timer = self.loop.call_later(KEEP_ALIVE_SECONDS, self._close_without_request)
        self._num_chunks = 0
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop_write_timer()
        self._write_timer = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_write_timer()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.write(
                _answer(
                    "400 Bad Request",
                    "request: it is not valid HTTP, or its body has too many chunks. Correct the client.",
                )
            )
        self.transport.close()

    def _count_chunks(self) -> Any:
        """Return the next event of h11. Raises RemoteProtocolError, which uvicorn answers with status 400."""
        event = self._next_event()
        if isinstance(event, h11.Data) and event.chunk_start:
            self._num_chunks += 1
            if self._num_chunks > MAX_CHUNKS:
                raise h11.RemoteProtocolError("too many chunks")
        return event

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()

    def _close_without_request(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete and not self.transport.is_closing():
            return
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            self.transport.abort()  # close() would wait for a client that does not read
        else:
            self.transport.close()


def _answer(status: str, error: str) -> bytes:
    """Return an HTTP response with an error, after which the connection ends.

    status: number and reason; further headers may follow on lines of their own
    """
    body = json.dumps({"error": error}, separators=(",", ":"))
    head = (
        f"HTTP/1.1 {status}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join((*head, "", body)).encode()
