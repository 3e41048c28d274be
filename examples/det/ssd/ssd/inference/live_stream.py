"""Read a live stream without falling behind."""

from __future__ import annotations

import atexit
import threading
import time

import cv2
import numpy as np

TIMEOUT = 10.0  # seconds without an answer or a frame, after which a connection counts as lost
_MAX_FAILURES = 30  # frames in succession that cannot be decoded, after which a stream counts as lost


class LatestFrames:
    """A stream like cv2.VideoCapture, of which a thread reads all frames and keeps the latest one.

    A detector that is slower than the stream therefore works on the present, not on frames that wait in a queue.

    capture: opened cv2.VideoCapture
    """

    def __init__(self, capture: cv2.VideoCapture):
        self._capture = capture
        self._properties = {key: capture.get(key) for key in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT)}
        self._condition = threading.Condition()
        self._frame: np.ndarray | None = None
        self._has_ended = False
        self._thread = threading.Thread(target=self._read_all, daemon=True)
        self._thread.start()
        atexit.register(self.release)  # Python would abort if it ended while the thread is in OpenCV

    def get(self, property_id: int) -> float:
        """Return a property of the stream, as cv2.VideoCapture does: frames per second, or number of frames."""
        return self._properties[property_id]

    def grab(self) -> bool:
        """Skip the next frame. Returns False if the stream has ended."""
        return self.read()[0]

    def read(self) -> tuple[bool, np.ndarray | None]:
        """Return (True, latest frame as (H, W, 3) uint8 BGR), or (False, None) if the stream has ended.

        Waits until there is a frame that was not returned yet.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._frame is not None or self._has_ended)
            frame, self._frame = self._frame, None
        return frame is not None, frame

    def release(self) -> None:
        """Stop reading, and close the connection. If the stream stands still, this takes up to TIMEOUT."""
        with self._condition:
            self._has_ended = True
            self._condition.notify_all()
        self._thread.join(timeout=TIMEOUT + 1)
        atexit.unregister(self.release)

    def _read_all(self) -> None:
        num_failures, last_time = 0, time.monotonic()
        while not self._has_ended and num_failures < _MAX_FAILURES and time.monotonic() - last_time < TIMEOUT:
            success, frame = self._capture.read()
            if not success:
                num_failures += 1
                continue
            num_failures, last_time = 0, time.monotonic()
            with self._condition:
                self._frame = frame
                self._condition.notify_all()
        with self._condition:
            self._has_ended = True
            self._condition.notify_all()
        self._capture.release()
