"""tools/benchmark.py serve: counts and times of the responses of a server."""

import time

import pytest

from benchmarks.serve import measure_serve, read_images
from fake_detector import FakeDetector
from ssd.errors import UserError


def test_requests_are_counted_by_status(start, picture, tmp_path):
    detector = FakeDetector()
    url = start(detector)
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "notes.txt").write_text("no image")
    (case,) = measure_serve(url, tmp_path, clients=3, seconds=0.2, repeats=2)
    assert list(case.extra["statuses"]) == ["200"] and len(case.runs) == 2
    assert case.extra["statuses"]["200"] == sum(detector.batch_sizes) > 3
    assert 0 < case.extra["p50_ms"] <= case.extra["p99_ms"]
    assert len(case.extra["server_rss_mib"]) == 3 and min(case.extra["server_rss_mib"]) > 10


def test_clients_wait_after_429(start, picture, metric, wait_for, in_background, tmp_path):
    detector = FakeDetector()
    url = start(detector, queue_size=1)
    detector.gate.clear()
    (tmp_path / "a.png").write_bytes(picture())

    def answer_after_the_run():
        wait_for(lambda: metric(url, 'ssd_requests_total{route="/detect",status="429"}') == 2)
        time.sleep(0.6)
        detector.gate.set()

    in_background(answer_after_the_run)
    (case,) = measure_serve(url, tmp_path, clients=3, seconds=0.5, repeats=1)
    # One image is in the model. The other clients get 429 once, and wait until the end of the run.
    assert case.extra["statuses"] == {"200": 1, "429": 2}


@pytest.mark.parametrize("server, place", [("/absent", "/absent"), ("http://127.0.0.1:1", "http://127.0.0.1:1")])
@pytest.mark.slow
def test_a_server_that_cannot_be_used_is_named(server, place):
    with pytest.raises(UserError) as caught:
        measure_serve(server, None, clients=1, seconds=0.1, repeats=1)
    assert place in str(caught.value) and "\n" not in str(caught.value)


def test_images_are_drawn_or_read(tmp_path):
    images = read_images(None)
    assert len(images) == 8 and all(image.startswith(b"\xff\xd8") for image in images)
    with pytest.raises(UserError, match=str(tmp_path)):
        read_images(tmp_path)
