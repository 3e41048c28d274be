"""serve.py: wrong options, missing packages and addresses in use end in one line; a signal ends a running server."""

import importlib.util
import platform
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import serve as script
from fake_detector import FakeDetector
from ssd.data.image_limits import MAX_PIXELS
from ssd.deployment.detector import Detector
from ssd.deployment.server.running import is_open_to_others, open_socket
from ssd.deployment.server.settings import ServerSettings
from ssd.deployment.server.start import return_large_blocks, serve
from ssd.errors import UserError
from tiny_onnx import write_model

SCRIPT = Path(script.__file__)


def start_with(folder="absent", host="127.0.0.1", port=0, **settings):
    serve(str(folder), ServerSettings(**settings), host=host, port=port, provider="cpu")


@pytest.mark.parametrize(
    "options, place",
    [
        ({"batch_size": 0}, "--batch_size: 0"),
        ({"queue_size": -1}, "--queue_size: -1"),
        ({"max_bytes": 0}, "--max_bytes: 0"),
        ({"max_pixels": MAX_PIXELS + 1}, f"--max_pixels: {MAX_PIXELS + 1}"),
        ({"timeout": 0.0}, "--timeout: 0"),
        ({"timeout": float("nan")}, "--timeout: nan"),
        ({"port": 65536}, "--port: 65536"),
        ({"port": -1}, "--port: -1"),
        ({"host": "300.1.1.1"}, "--host: '300.1.1.1'"),
        ({"host": "a" * 300 + ".example"}, "--host: "),
        ({"host": "192.0.2.1"}, "192.0.2.1"),  # reserved for documentation, so no machine has it
        ({"folder": "absent"}, "absent"),
    ],
)
def test_a_wrong_option_is_refused(options, place):
    with pytest.raises(UserError) as caught:
        start_with(**options)
    assert place in str(caught.value) and "\n" not in str(caught.value)


def test_a_port_in_use_is_refused_before_the_model_is_loaded():
    with open_socket("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(UserError, match=f"--port: .*{port}"):
            start_with(port=port)


@pytest.mark.parametrize("host, is_open", [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)])
def test_a_server_that_others_can_reach_is_recognized(host, is_open):
    with open_socket(host, 0) as listener:
        assert is_open_to_others(listener) == is_open


def test_a_missing_package_is_named_with_the_extra(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find_spec(name))
    with pytest.raises(UserError, match=r"uvicorn.*pip install -e '\.\[serve\]'"):
        start_with()


def test_a_mindir_model_is_refused(tmp_path):
    write_model(tmp_path / "model", name="model.mindir")
    with pytest.raises(UserError, match="model.mindir.*--format onnx"):
        start_with(tmp_path / "model")


def test_an_ipv6_address_can_be_opened():
    try:
        with open_socket("::1", 0) as listener:
            assert listener.family == socket.AF_INET6
    except UserError:
        pytest.skip("this machine has no IPv6")


def test_an_exported_model_gives_the_detections_of_its_detector(tmp_path, start, call, picture):
    folder = write_model(tmp_path / "model")
    url = start(Detector(folder))
    found = call("POST", f"{url}/detect", picture(red=102)).json()["detections"]
    (red,) = [row for row in found if row["category_name"] == "red"]
    assert red["category_id"] == 7 and red["bbox"] == [0, 0, 48, 32] and red["score"] == pytest.approx(0.4)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")
def test_large_blocks_are_returned_by_glibc():
    assert return_large_blocks()


def test_options_have_the_defaults_of_the_settings(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["serve.py", "--model", "a"])
    args = script.parse_args()
    assert ServerSettings(**{name: getattr(args, name) for name in script.LIMITS}) == ServerSettings()
    assert args.host == "127.0.0.1"


@pytest.fixture
def process(tmp_path):
    """serve.py as a process, with the URL in the attribute `url`."""
    command = [sys.executable, SCRIPT, "--model", write_model(tmp_path / "model"), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.url = process.stdout.readline().split()[0]
    yield process
    process.kill()


@pytest.fixture
def start_request(process, call, picture):
    """start_request() sends the first half of a photograph. Returns the connection and the other half."""

    def send():
        parts, content = urlsplit(process.url), picture()
        client = socket.create_connection((parts.hostname, parts.port), timeout=20)
        client.sendall(b"POST /detect HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(content))
        client.sendall(content[:20])
        assert call("GET", f"{process.url}/v2/health/ready").status == 200  # the server has read the head above
        return client, content[20:]

    return send


@pytest.mark.slow
def test_a_signal_stops_the_server_after_its_running_requests(process, start_request):
    client, rest = start_request()
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline()  # the server states that it stops
    client.sendall(rest)
    assert client.recv(10_000).startswith(b"HTTP/1.1 200 ")
    client.close()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130 and errors == "interrupted\n"


@pytest.mark.slow
def test_a_second_signal_stops_the_server_at_once(process, start_request):
    client, _ = start_request()
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130 and errors == ""
    client.close()


def test_the_fake_detector_has_the_interface_of_the_real_one(tmp_path):
    real = Detector(write_model(tmp_path / "model"))
    names = {name for name in dir(FakeDetector) if not name.startswith("_")} | {"batch_size"}
    assert {name for name in names if not hasattr(real, name)} == set()
