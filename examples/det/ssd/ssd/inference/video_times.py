"""Times of video frames: correct invalid timestamps, and choose the constant rate of an annotated video."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

DEFAULT_FPS = 25.0  # frames per second of sources that report no frame rate, such as many cameras
MAX_PAUSE = 600.0  # seconds; a longer gap between two frames is an error of the timestamps, as in joined recordings
MAX_DELAY = 0.01  # seconds; people do not notice that a frame is shown this much too early or too late
MAX_CONSTANT_DELAY = 0.1  # seconds; also less than half a frame, for a source of constant rate with rounded timestamps
MIN_FPS, MAX_FPS = 10, 240  # frames per second of an annotated video of variable rate
MIN_STORED_FPS = 0.001  # frames per second; the lowest rate that OpenCV's writer stores
_MULTIPLES = (1, 2, 3, 4)


class FrameClock:
    """Times of frames, from timestamps that may be missing, repeated or wrong.

    fps: frames per second, for frames without a valid timestamp
    """

    def __init__(self, fps: float):
        self.fps = fps
        self._time = -1.0
        self._offset = 0.0  # seconds to add to timestamps after an error

    def next(self, timestamp: float) -> float:
        """Return the time of the next frame in seconds. Times increase from frame to frame.

        timestamp: timestamp of the frame in the container in seconds; any value if the container has none
        """
        is_first = self._time < 0
        step = timestamp + self._offset - max(self._time, 0)
        if is_first:
            self._time = timestamp if math.isfinite(step) and 0 <= step < MAX_PAUSE else 0.0
            return self._time
        if not (math.isfinite(step) and 0 < step <= MAX_PAUSE):
            if math.isfinite(step) and step > MAX_PAUSE:
                self._offset -= step - 1 / self.fps
            step = 1 / self.fps
        self._time += step
        return self._time


def choose_fps(fps: float, times: Sequence[float] | np.ndarray | None) -> float:
    """Choose the constant frame rate of an annotated video, so that frames can be shown at their times.

    If the source has a constant rate, this rate is returned. Otherwise the rate is a multiple of the source's highest
    sustained rate, at least MIN_FPS. It is high enough to show frames at most MAX_DELAY too early or too late, if a
    multiple up to 4 and MAX_FPS allow it.

    fps: average frames per second that the container reports
    times: increasing times of all frames in seconds; None if unknown
    Returns frames per second, rounded by `round_fps_for_mpeg4`.
    """
    if times is None or len(times) < 2:
        return round_fps_for_mpeg4(fps)
    elapsed = np.asarray(times, float) - times[0]
    fitted = (len(elapsed) - 1) / elapsed[-1]  # the reported average may include the pause after the last frame
    for candidate in map(round_fps_for_mpeg4, (fps, fitted)):
        shown = np.arange(len(elapsed)) / candidate
        if np.abs(shown - elapsed).max() < min(0.5 / candidate, MAX_CONSTANT_DELAY):
            return candidate
    shortest = float(np.quantile(np.diff(elapsed), 0.05, method="lower"))
    base = min(round(1 / shortest) or 1, MAX_FPS)
    base *= math.ceil(MIN_FPS / base)
    candidates = [base * multiple for multiple in _MULTIPLES if base * multiple <= MAX_FPS]
    errors = [float(np.abs(np.round(elapsed * candidate) / candidate - elapsed).max()) for candidate in candidates]
    good = [candidate for candidate, error in zip(candidates, errors) if error <= MAX_DELAY]
    return good[0] if good else candidates[int(np.argmin(errors))]


def round_fps_for_mpeg4(fps: float) -> float:
    """Round a frame rate to the precision that MPEG-4 can store.

    MPEG-4 stores the frame rate as a fraction with a numerator of at most 65535. OpenCV uses a denominator of 1, 10,
    100 or 1000. High frame rates, such as those of slow-motion videos, must therefore be rounded.

    fps: frames per second
    Returns the rounded frames per second.
    """
    possible_digits = [digits for digits in range(4) if fps * 10**digits <= 65535]
    return max(round(fps, max(possible_digits, default=0)), MIN_STORED_FPS)
