"""Measure the service under load: many clients that send photographs to /detect as fast as they are answered."""

from __future__ import annotations

import collections
import contextlib
import http.client
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np

from shape_drawing import draw_background
from ssd.data.image_formats import IMAGE_SUFFIXES
from ssd.errors import UserError, os_reason

from . import Case

SERVE = Path(__file__).resolve().parents[2] / "examples" / "det" / "ssd" / "serve.py"
NUM_DRAWN_IMAGES, DRAWN_SIZE = 8, 640  # used without --data_path; size in pixels
MAX_IMAGES = 64  # of --data_path
TIMEOUT_SECONDS = 60  # of a client


def measure_serve(server: str, data_path: Path | None, *, clients: int, seconds: float, repeats: int) -> list[Case]:
    """Measure the requests/s of the service.

    server: URL of a running server, or the folder of an exported model, for which a server is started
    data_path: folder with image files to send; None for drawn images
    clients: number of clients, each with one connection. After status 429, a client waits as long as Retry-After says.
    seconds: time of each run
    repeats: number of runs
    The additional results are the median and the 99th percentile of the times of successful requests in ms, the number
    of responses by status, with "broken" for broken connections, and the resident memory of the server in MiB before
    the first run and after each run.
    Raises UserError if there is no image, or if the server cannot be started or reached.
    """
    images = read_images(data_path)
    case = Case("service", "requests/s")
    latencies: list[float] = []
    statuses: collections.Counter[str] = collections.Counter()
    with started_server(server) as url:
        memory = [server_memory_mib(url)]
        for _ in range(repeats):
            run_latencies, run_statuses, duration = run_clients(url, images, clients=clients, seconds=seconds)
            case.runs.append(len(run_latencies) / duration)
            latencies += run_latencies
            statuses += run_statuses
            memory.append(server_memory_mib(url))
    p50, p99 = np.percentile(latencies or [0.0], [50, 99])
    case.extra = {
        "p50_ms": round(1000 * float(p50), 1),
        "p99_ms": round(1000 * float(p99), 1),
        "statuses": dict(sorted(statuses.items())),
        "server_rss_mib": memory,
    }
    case.settings = {
        "server": server,
        "images": str(data_path) if data_path else f"{NUM_DRAWN_IMAGES} drawn, {DRAWN_SIZE}x{DRAWN_SIZE} pixels",
        "clients": clients,
        "seconds": seconds,
    }
    return [case]


def read_images(data_path: Path | None) -> list[bytes]:
    """Return the bytes of image files. Raises UserError if the folder has none."""
    if data_path is None:
        rng = np.random.default_rng(0)
        drawn = [draw_background(rng, DRAWN_SIZE) for _ in range(NUM_DRAWN_IMAGES)]
        return [cv2.imencode(".jpg", image)[1].tobytes() for image in drawn]
    files = [path for path in sorted(data_path.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise UserError(f"--data_path: {data_path} has no images. Set --data_path to a folder with images.")
    return [path.read_bytes() for path in files[:MAX_IMAGES]]


@contextlib.contextmanager
def started_server(server: str) -> Iterator[str]:
    """Yield the URL of a server. A server for a model's folder is started, and stopped at the end."""
    if server.startswith("http://"):
        yield server.rstrip("/")
        return
    command = [sys.executable, str(SERVE), "--model", server, "--port", "0"]
    with tempfile.TemporaryFile("w+") as errors:  # a pipe could fill up, which would stop the server
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout
        try:
            line = process.stdout.readline()
            if not line:
                process.wait()
                errors.seek(0)
                raise UserError(errors.read().strip().removeprefix("error: "))
            yield line.split()[0]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def server_memory_mib(url: str) -> float:
    """Return the resident memory of a server in MiB. Raises UserError if the server cannot be reached."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException) as error:
        reason = os_reason(error) if isinstance(error, OSError) else str(error)
        raise UserError(f"--server: {url} cannot be reached ({reason}). Start the server with serve.py.") from None
    finally:
        connection.close()
    found = re.search(r"^process_resident_memory_bytes (\S+)$", text, re.MULTILINE)
    if not found:
        raise UserError(f"--server: {url} is not a server of this project. Start the server with serve.py.")
    return round(float(found[1]) / 2**20, 1)


def run_clients(
    url: str, images: list[bytes], *, clients: int, seconds: float
) -> tuple[list[float], collections.Counter[str], float]:
    """Send images from several clients at the same time.

    Returns the time of each successful request in seconds, the number of responses by status, with "broken" for broken
    connections, and the duration in seconds.
    """
    workers = [_Client(url, images, first=number) for number in range(clients)]
    start = time.monotonic()
    deadline = start + seconds
    threads = [threading.Thread(target=worker.run, args=(deadline,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses: collections.Counter[str] = collections.Counter()
    for worker in workers:
        statuses += worker.statuses
    return [latency for worker in workers for latency in worker.latencies], statuses, time.monotonic() - start


class _Client:
    """Client that sends images one after the other over one connection.

    first: index of its first image, so that clients send different images
    """

    def __init__(self, url: str, images: list[bytes], first: int):
        self.address = urlsplit(url).netloc
        self.images = images
        self.next = first
        self.latencies: list[float] = []
        self.statuses: collections.Counter[str] = collections.Counter()

    def run(self, deadline: float) -> None:
        """Send images until a time of time.monotonic()."""
        connection = http.client.HTTPConnection(self.address, timeout=TIMEOUT_SECONDS)
        while time.monotonic() < deadline:
            image = self.images[self.next % len(self.images)]
            self.next += 1
            start = time.monotonic()
            try:
                connection.request("POST", "/detect", image)
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException):
                self.statuses["broken"] += 1
                connection.close()  # http.client opens it again for the next request
                continue
            self.statuses[str(response.status)] += 1
            if response.status == 200:
                self.latencies.append(time.monotonic() - start)
            elif response.status == 429:
                time.sleep(min(float(response.headers["Retry-After"]), max(deadline - time.monotonic(), 0)))
        connection.close()
