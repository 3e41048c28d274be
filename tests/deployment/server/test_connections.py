"""Connections of the service: their number, clients that do not read, many small parts, and malformed requests."""

import contextlib
import json
import os
import resource
import subprocess
import sys
import time

import pytest
from client_socket import connect

import serve as script
from fake_detector import FakeDetector
from ssd.deployment.server import http_protocol, running
from ssd.deployment.server.http_protocol import MAX_CONNECTIONS
from ssd.deployment.server.running import find_max_connections
from tiny_onnx import write_model

CHUNKED = b"POST /detect HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def read_all(client):
    """Return what the server sends until it closes the connection."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while part := client.recv(2**16):
            received += part
    return received


def test_connections_beyond_the_limit_get_503(start, call, picture, wait_for, monkeypatch):
    monkeypatch.setattr(running, "MAX_CONNECTIONS", 8)
    monkeypatch.setattr(http_protocol, "REFUSED_SECONDS", 0.5)
    url = start(FakeDetector())
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connect(url)) for _ in range(8)]
        refused = [stack.enter_context(connect(url)) for _ in range(4)]
        for number, client in enumerate(refused):
            with contextlib.suppress(ConnectionError):
                client.sendall(b"POST /detect HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
            head, _, body = read_all(client).partition(b"\r\n\r\n")
            if head or number < 2:  # from a quarter of 8 on, the server closes connections without waiting for clients
                assert head.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: 1" in head and json.loads(body)["error"]
        assert call("GET", f"{url}/v2/health/live").status == 503
        silent[0].close()
        wait_for(lambda: call("POST", f"{url}/detect", picture()).status == 200)
        assert silent[1].send(b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n")  # the others were not disturbed
        assert silent[1].recv(100).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "soft, hard, raised, expected",
    [
        (1024, 4096, None, MAX_CONNECTIONS),
        (256, 4096, 1024, MAX_CONNECTIONS),
        (256, resource.RLIM_INFINITY, 1024, MAX_CONNECTIONS),
        (200, 600, 600, 300),
        (100, 100, 100, 50),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None, MAX_CONNECTIONS),
    ],
)
def test_the_limit_on_connections_fits_that_on_files(soft, hard, raised, expected, monkeypatch):
    limits = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, values: limits.append(values))
    assert find_max_connections() == expected
    assert limits == ([(raised, hard)] if raised else [])


@pytest.mark.slow
def test_a_flood_of_connections_with_few_file_numbers(tmp_path, call, picture):
    """600 connections to a server that may have 256 open files: it answers again when they are gone."""
    command = [sys.executable, script.__file__, "--model", write_model(tmp_path / "model"), "--port", "0"]
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))  # noqa: E731
    errors = tmp_path / "errors.txt"
    with open(errors, "w") as file:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True, preexec_fn=limit)
    try:
        url = process.stdout.readline().split()[0]
        with contextlib.ExitStack() as stack:
            for _ in range(600):
                with contextlib.suppress(OSError):
                    client = stack.enter_context(connect(url))
                    client.sendall(b"GET / HTTP/1.1\r\nX: ")
                assert len(os.listdir(f"/proc/{process.pid}/fd")) < 256
            assert call("GET", f"{url}/v2/health/live").status == 503
        deadline = time.monotonic() + 10
        while call("GET", f"{url}/v2/health/live").status != 200:
            assert time.monotonic() < deadline
        assert call("POST", f"{url}/detect", picture()).status == 200
        assert errors.read_text() == ""
    finally:
        process.kill()
        process.wait()


def test_clients_that_do_not_read_are_disconnected(start, call, monkeypatch):
    monkeypatch.setattr(http_protocol, "WRITE_SECONDS", 0.3)
    monkeypatch.setattr(http_protocol, "KEEP_ALIVE_SECONDS", 0.3)
    url = start(FakeDetector())
    script_path = "/static-offline-docs/swagger-ui-bundle.js"  # 1.5 MB
    size = len(call("GET", f"{url}{script_path}").content)
    with connect(url, receive_bytes=2048) as client:
        client.sendall(f"GET {script_path} HTTP/1.1\r\nHost: a\r\n\r\n".encode() * 10)  # more than the system buffers
        time.sleep(0.7)
        assert len(read_all(client)) < 10 * size


def test_a_body_of_many_small_parts_is_refused(start, call, picture, monkeypatch):
    monkeypatch.setattr(http_protocol, "MAX_CHUNKS", 100)
    url = start(FakeDetector())
    content = picture()
    parts = [
        content[position : position + len(content) // 50] for position in range(0, len(content), len(content) // 50)
    ]
    assert len(parts) <= 100 and call("POST", f"{url}/detect", iter(parts)).status == 200
    with connect(url) as client:
        client.sendall(CHUNKED + b"1\r\nx\r\n" * 101)
        received = read_all(client)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ") and json.loads(body)["error"]


def test_each_request_of_a_connection_may_have_parts(start, monkeypatch):
    monkeypatch.setattr(http_protocol, "MAX_CHUNKS", 3)
    with connect(start(FakeDetector())) as client:
        for _ in range(3):
            client.sendall(CHUNKED + b"1\r\nx\r\n" * 2 + b"0\r\n\r\n")
            answer = client.recv(1000)
            while not answer.endswith(b"}"):
                answer += client.recv(1000)
            assert answer.startswith(b"HTTP/1.1 422 ")


@pytest.mark.parametrize("rest", [b"zzz\r\n", b"f" * 70_000, b"1;" + b"e" * 200_000, b"0\r\n" + b"T: a\r\n" * 20_000])
def test_malformed_parts_get_one_answer_and_nothing_in_the_log(rest, start, caplog, capfd):
    url = start(FakeDetector())
    with connect(url) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(CHUNKED + b"1\r\nx\r\n" + rest)
        received = read_all(client)
    assert received.count(b"HTTP/1.1 ") <= 1 and (not received or received.startswith(b"HTTP/1.1 400 "))
    assert not caplog.records and capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "x" * 5000,
        "\xff/\xfe",
        "a",
    ],
)
def test_wrong_content_types_are_mistakes_of_the_client(content_type, url, call, caplog):
    for path in ("detect", "huggingface", "v2/models/fake/infer"):
        answer = call("POST", f"{url}/{path}", b"hello", Content_Type=content_type)
        assert 400 <= answer.status < 500 and answer.error(), path
    assert not caplog.records
