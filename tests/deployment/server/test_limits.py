"""Load, slow clients and failures: the queue, the batches, and the time limits."""

import contextlib
import http.client
import time
from urllib.parse import urlsplit

import pytest
from client_socket import connect

from fake_detector import FakeDetector
from ssd.deployment.server import http_protocol
from ssd.deployment.server.detection_service import MAX_RETRY_SECONDS


@pytest.fixture
def blocked():
    """A detector whose model waits for `gate`."""
    detector = FakeDetector()
    detector.gate.clear()
    yield detector
    detector.gate.set()


def is_closed(client):
    """Wait until the server closes a connection. Returns False if it sends something instead."""
    try:
        return client.recv(10) == b""
    except ConnectionError:
        return True


def test_waiting_images_of_all_requests_are_one_batch(blocked, start, call, picture, in_background, metric, wait_for):
    url = start(blocked, batch_size=4)
    first = in_background(call, "POST", f"{url}/detect", picture(0))
    assert blocked.started.acquire(timeout=10)
    others = [in_background(call, "POST", f"{url}/detect", picture(51 * number)) for number in range(1, 6)]
    wait_for(lambda: blocked.num_preprocessed == 6)
    assert metric(url, "ssd_queue_images") == 6  # the event loop has put the images into the queue
    blocked.gate.set()
    scores = [result().json()["detections"][0]["score"] for result in (first, *others)]
    assert scores == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert blocked.batch_sizes == [1, 4, 1] and blocked.threads == {"model"}
    assert metric(url, "ssd_batch_images_count") == 3 and metric(url, "ssd_queue_images") == 0


def test_a_full_queue_is_answered_with_429(blocked, start, call, picture, form, in_background, metric):
    url = start(blocked, queue_size=2)
    body, content_type = form({"a.png": picture(51), "b.png": picture(51)})
    accepted = in_background(call, "POST", f"{url}/detect", body, Content_Type=content_type)
    assert blocked.started.acquire(timeout=10)
    for path in ("detect", "huggingface"):
        answer = call("POST", f"{url}/{path}", picture())
        assert answer.status == 429 and 1 <= int(answer.headers["Retry-After"]) <= 60 and answer.error()
    blocked.gate.set()
    assert accepted().status == 200
    assert call("POST", f"{url}/detect", picture()).status == 200
    assert metric(url, 'ssd_images_total{result="rejected"}') == 2
    assert metric(url, 'ssd_requests_total{route="/detect",status="429"}') == 1
    body, content_type = form({name: picture() for name in "abc"})
    assert call("POST", f"{url}/detect", body, Content_Type=content_type).status == 400  # they would never fit


def test_requests_of_many_clients_share_a_limit_on_memory(start, call, picture, wait_for, monkeypatch):
    monkeypatch.setattr("ssd.deployment.server.settings.MAX_BUFFERED_BYTES", 5000)
    url = start(FakeDetector(), max_bytes=4000)
    with connect(url) as slow:
        slow.sendall(b"POST /detect HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n" + bytes(3999))
        wait_for(lambda: call("POST", f"{url}/detect", bytes(2000)).status == 429)
        assert call("POST", f"{url}/detect", picture()).status == 200
    wait_for(lambda: call("POST", f"{url}/detect", bytes(2000)).status == 422)  # the first client has gone


def test_the_model_does_not_run_for_clients_that_left(blocked, start, call, picture, in_background, metric, wait_for):
    url = start(blocked, batch_size=8)
    first = in_background(call, "POST", f"{url}/detect", picture())
    assert blocked.started.acquire(timeout=10)
    content = picture()
    with connect(url) as client:
        client.sendall(b"POST /detect HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(content) + content)
        wait_for(lambda: metric(url, "ssd_queue_images") == 2)
    wait_for(lambda: metric(url, "ssd_queue_images") == 1)
    blocked.gate.set()
    assert first().status == 200
    assert call("POST", f"{url}/detect", picture()).status == 200
    assert blocked.batch_sizes == [1, 1]
    assert metric(url, 'ssd_requests_total{route="/detect",status="499"}') == 1


def test_a_slow_model_times_out(blocked, start, call, picture):
    answer = call("POST", f"{start(blocked, timeout=1)}/detect", picture())
    assert answer.status == 504 and "1 s" in answer.error()
    blocked.gate.set()


def test_a_slow_body_times_out(start):
    url = start(FakeDetector(), timeout=0.2)
    with connect(url) as client:
        client.sendall(b"POST /detect HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx")
        assert client.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_a_connection_without_a_request_is_closed(start, monkeypatch):
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.3)
    url = start(FakeDetector())
    with connect(url) as silent, connect(url) as slow:
        start_time = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for byte in b"POST /detect":  # each byte would restart a timeout for silence
                slow.sendall(bytes([byte]))
                time.sleep(0.05)
        assert is_closed(silent) and is_closed(slow)
        assert time.monotonic() - start_time < 5


def test_a_connection_is_kept_until_a_busy_server_wants_the_request_again(start, monkeypatch):
    assert http_protocol.KEEP_ALIVE_SECONDS > MAX_RETRY_SECONDS
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.5)
    client = http.client.HTTPConnection(urlsplit(start(FakeDetector())).netloc, timeout=10)
    for _ in range(2):
        client.request("GET", "/v2/health/live")
        assert client.getresponse().read()
        time.sleep(0.6)
    client.close()


def test_an_image_that_the_model_fails_for_fails_alone(start, call, picture, form, caplog):
    url = start(FakeDetector(bad_red=200))
    body, content_type = form({"a.png": picture(51), "b.png": picture(102)})
    assert call("POST", f"{url}/detect", picture(200)).status == 500
    answer = call("POST", f"{url}/detect", body, Content_Type=content_type)
    assert answer.status == 200 and len(answer.json()["detections"]) == 4
    body, content_type = form({"a.png": picture(51), "b.png": picture(200)})
    answer = call("POST", f"{url}/detect", body, Content_Type=content_type)
    assert [("error" in image) for image in answer.json()["images"]] == [False, True]
    assert call("GET", f"{url}/v2/health/ready").json() == {"ready": True}


def test_malformed_http_does_no_harm(start, call, picture):
    url = start(FakeDetector())
    for text in (b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000):
        with connect(url) as client:
            client.sendall(text)
            assert client.recv(1000).startswith(b"HTTP/1.1 400 ")
    assert call("POST", f"{url}/detect", picture()).status == 200


def test_paths_that_do_not_exist_are_one_metric(start, call, metric):
    url = start(FakeDetector())
    assert call("GET", f"{url}/a").status == call("GET", f"{url}/b").status == 404
    assert call("GET", f"{url}/detect").status == 405
    assert "/a" in call("GET", f"{url}/a").error()
    assert metric(url, 'ssd_requests_total{route="other",status="404"}') == 3
