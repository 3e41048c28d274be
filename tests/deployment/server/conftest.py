"""Fixtures for tests of the service: servers with a fake detector in threads, and a client that hides nothing."""

import contextlib
import http.client
import io
import json
import threading
import time
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pytest
import uvicorn
from PIL import Image

from fake_detector import FakeDetector
from ssd.deployment.server.app import create_app
from ssd.deployment.server.running import create_config, open_socket, url_of
from ssd.deployment.server.settings import ServerSettings


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    content: bytes

    def json(self):
        return json.loads(self.content)

    def error(self):
        """The line of an error."""
        (line,) = self.json().values()
        assert "\n" not in line
        return line


class ThreadServer(uvicorn.Server):
    """Server in a thread, which must not handle signals."""

    capture_signals = contextlib.nullcontext


@contextlib.contextmanager
def running(detector, **settings):
    """Context in which the service runs. Yields its URL."""
    listener = open_socket("127.0.0.1", 0)
    server = ThreadServer(create_config(create_app(detector, ServerSettings(**settings)), timeout=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    url = url_of(listener)
    thread.start()
    try:
        yield url
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def start():
    """start(detector, queue_size=2, …) is the URL of a server with these limits."""
    with contextlib.ExitStack() as stack:
        yield lambda detector, **settings: stack.enter_context(running(detector, **settings))


@pytest.fixture(scope="session")
def url():
    """URL of a server for tests that need no detector of their own."""
    with running(FakeDetector()) as url:
        yield url


@pytest.fixture(scope="session")
def call():
    """call("POST", "http://…", body, header="…") is the Answer. A body that is an iterator is sent in chunks."""

    def request(method, address, body=None, **headers):
        parts = urlsplit(address)
        connection = http.client.HTTPConnection(parts.netloc, timeout=20)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, path, body, names)
        response = connection.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        connection.close()
        return answer

    return request


@pytest.fixture(scope="session")
def picture():
    """picture(100) is a PNG of 96x64 pixels with this red value. Other formats and sizes are options."""

    def write(red=102, size=(96, 64), image_format="PNG", **options):
        file = io.BytesIO()
        Image.fromarray(np.full((*size[::-1], 3), (red, 0, 0), np.uint8)).save(file, image_format, **options)
        return file.getvalue()

    return write


@pytest.fixture(scope="session")
def form():
    """form({"a.png": bytes}) is (body, Content-Type) of a multipart form."""

    def write(files):
        parts = [
            b'--line\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n%s\r\n'
            % (name.encode(), data)
            for name, data in files.items()
        ]
        return b"".join([*parts, b"--line--\r\n"]), "multipart/form-data; boundary=line"

    return write


@pytest.fixture
def in_background():
    """in_background(function, …) calls a function in a thread. Returns a function that waits for its result."""
    threads = []

    def run(function, *args, **options):
        results = []
        thread = threading.Thread(target=lambda: results.append(function(*args, **options)))
        thread.start()
        threads.append(thread)

        def result():
            thread.join(20)
            return results[0]

        return result

    yield run
    for thread in threads:
        thread.join(20)


@pytest.fixture(scope="session")
def metric(call):
    """metric(url, 'ssd_queue_images') is the value of a metric, 0 if the server has not set it."""

    def read(url, name):
        lines = call("GET", f"{url}/metrics").content.decode().splitlines()
        return sum(float(line.split(" ")[-1]) for line in lines if line.startswith(f"{name} "))

    return read


@pytest.fixture(scope="session")
def wait_for():
    """wait_for(function) waits until a function returns a true value, at most 10 seconds."""

    def wait(function):
        deadline = time.monotonic() + 10
        while not (value := function()):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return value

    return wait
