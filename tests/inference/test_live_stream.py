"""Live streams: a slow reader gets the latest frame, and the end of a stream is noticed."""

import subprocess
import sys
import threading
import time

import numpy as np

from fake_predictor import FakeCapture
from media_server import jpeg_stream, serve
from ssd.inference import live_stream
from ssd.inference.live_stream import LatestFrames
from ssd.inference.video_source import Video


class Paced(FakeCapture):
    """A capture that waits for permission before each frame."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.is_closed = False
        self.permits, self.waiting = threading.Semaphore(0), threading.Event()

    def read(self):
        if not self.permits.acquire(blocking=False):
            self.waiting.set()
            self.permits.acquire()
        return (False, None) if self.is_closed else super().read()

    def send(self, count):
        """Let the reader take some frames, and wait until it has taken them."""
        self.waiting.wait(5)
        self.waiting.clear()
        self.permits.release(count)
        self.waiting.wait(5)

    def close(self):
        self.is_closed = True
        self.permits.release(1000)


def test_a_slow_reader_gets_the_latest_frame():
    capture = Paced(fps=30.0)
    frames = LatestFrames(capture)
    values = []
    for count in (1, 4, 2):
        capture.send(count)
        success, frame = frames.read()
        assert success
        values.append(int(frame[0, 0, 0]))
    assert values == [0, 4, 6]
    capture.close()
    frames.release()


def test_each_frame_is_returned_once():
    capture = Paced(3)
    frames = LatestFrames(capture)
    capture.send(3)
    assert int(frames.read()[1][0, 0, 0]) == 2
    reader = threading.Thread(target=frames.read)
    reader.start()
    reader.join(0.05)
    assert reader.is_alive()  # it waits for the next frame
    capture.close()
    reader.join(5)
    assert not reader.is_alive()


def test_frames_that_cannot_be_decoded_do_not_end_a_stream(monkeypatch):
    class Disturbed(FakeCapture):
        def read(self):
            self.num_calls = getattr(self, "num_calls", 0) + 1
            time.sleep(0.005)
            return (False, None) if self.num_calls in (2, 3) else super().read()

        def get(self, _):
            return -1.0

    monkeypatch.setattr(live_stream, "_MAX_FAILURES", 3)
    camera = Video(LatestFrames(Disturbed(6)), "cam", address="rtsp://cam")
    values = [int(frame.pixels.mean()) for frame in camera]
    assert camera.is_live and values == sorted(values) and values[-1] == 5
    assert f" {len(values)} frames" in camera.find_loss()


def test_a_stream_that_stands_still_ends(monkeypatch):
    class Still(FakeCapture):
        def read(self):
            time.sleep(0.02)
            return False, np.empty(0)

    monkeypatch.setattr(live_stream, "TIMEOUT", 0.1)
    monkeypatch.setattr(live_stream, "_MAX_FAILURES", 10**9)
    start = time.monotonic()
    assert LatestFrames(Still()).read() == (False, None)
    assert 0.1 <= time.monotonic() - start < 2


def test_a_command_that_fails_while_a_stream_is_read_ends_cleanly():
    """Python aborts the process if a thread returns from OpenCV while Python ends."""
    code = "import sys; from pathlib import Path; from ssd.inference.sources import find_inputs"
    with serve({"/live": jpeg_stream(10**6)}) as (server, _):
        code += f"; inputs = find_inputs(['{server}/live'], Path('/nowhere')); sys.exit(3)"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (3, "")
