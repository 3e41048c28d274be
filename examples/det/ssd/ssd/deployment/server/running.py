"""Run the service until a signal: bind the address, start the event loop, and let running requests finish."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import math
import resource
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn
from fastapi import FastAPI

from ...errors import UserError, os_reason
from ...runtime.interrupt import Interrupt
from ...startup import exit_at_once
from .http_protocol import KEEP_ALIVE_SECONDS, MAX_CONNECTIONS, LimitedProtocol

MAX_HEAD_BYTES = 2**16
WAITING_CONNECTIONS = 1024  # which the system holds until the server accepts them


def open_socket(host: str, port: int) -> socket.socket:
    """Bind an address, and listen. Clients wait until the server runs.

    port: 0 for any free port
    Raises UserError if the host or the port cannot be used.
    """
    if not 0 <= port <= 65535:
        raise UserError(
            f"--port: {port} is not a port. Set --port to a number from 1 to 65535, or to 0 for a free one."
        )
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        reason = os_reason(error) if isinstance(error, OSError) else "not a name"
        raise UserError(f"--host: {host!r} is unknown ({reason}). Set --host to an address of this machine.") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # restart at once, despite closing connections
        listener.bind(address)
        listener.listen(WAITING_CONNECTIONS)
    except OSError as error:
        listener.close()
        raise UserError(
            f"--port: port {port} of {host} cannot be opened ({os_reason(error)}). "
            "Set --port to a free port, or --host to an address of this machine."
        ) from None
    return listener


def is_open_to_others(listener: socket.socket) -> bool:
    """Return True if other machines can connect."""
    return not ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def url_of(listener: socket.socket) -> str:
    """Return the address of the server, for example http://127.0.0.1:8000."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"


def run_server(app: FastAPI, listener: socket.socket, *, timeout: float, on_start: Callable[[], None]) -> None:
    """Serve until Ctrl-C, SIGTERM or SIGHUP, and then raise KeyboardInterrupt when the running requests are answered.

    timeout: seconds in which running requests must finish after the signal
    on_start: called when the server accepts requests
    """
    server = _Server(create_config(app, timeout), on_start)
    server.run(sockets=[listener])
    if server.interrupt:
        raise KeyboardInterrupt


def create_config(app: FastAPI, timeout: float) -> uvicorn.Config:
    """Create the settings of uvicorn. timeout: seconds in which running requests must finish when the server stops"""
    for name in ("uvicorn", "python_multipart"):
        logging.getLogger(name).setLevel(logging.ERROR)  # their warnings are mistakes of clients
    max_connections = find_max_connections()
    LimitedProtocol.max_connections = max_connections
    return uvicorn.Config(
        app,
        http=LimitedProtocol,
        # Connections that asyncio accepts at a time. Refused ones keep their file numbers for the next few times, and
        # must not take all of them. _Server raises the number of waiting connections.
        backlog=max(max_connections // 16, 1),
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        timeout_graceful_shutdown=math.ceil(timeout),
    )


def find_max_connections() -> int:
    """Return the largest number of connections, and raise the limit on open files of this process if it is too low.

    A process without free file numbers could neither accept nor refuse connections.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_CONNECTIONS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, soft // 2)


class _Server(uvicorn.Server):
    """Server that stops as the other commands do: a second Ctrl-C stops it at once.

    on_start: called when the server accepts requests
    """

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]):
        super().__init__(config)
        self._on_start = on_start
        self.interrupt = Interrupt()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # A KeyboardInterrupt in the event loop would print a traceback for each running request.
        previous = signal.signal(signal.SIGINT, exit_at_once)
        try:
            with self.interrupt:
                yield
        finally:
            signal.signal(signal.SIGINT, previous)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(WAITING_CONNECTIONS)
        self._on_start()

    async def on_tick(self, counter: int) -> bool:
        self.should_exit = self.should_exit or bool(self.interrupt)
        return await super().on_tick(counter)
