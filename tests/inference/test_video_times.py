"""Times of frames with missing or wrong timestamps, and the constant rate of an annotated video."""

import numpy as np
import pytest

from ssd.inference.video_times import FrameClock, choose_fps, round_fps_for_mpeg4


@pytest.mark.parametrize(
    "timestamps, expected",
    [
        ([0, 0.1, 0.5, 0.6], [0, 0.1, 0.5, 0.6]),
        ([0.5, 0.6], [0.5, 0.6]),
        ([0, 0, 0, 0], [0, 0.25, 0.5, 0.75]),  # no timestamps
        ([0, 0.25, 0, 0.75], [0, 0.25, 0.5, 0.75]),  # one is missing
        ([float("nan"), 0.25, float("inf"), 0.75], [0, 0.25, 0.5, 0.75]),
        ([-1e12, -1e12, -1e12], [0, 0.25, 0.5]),
        ([0, 0.25, 9000, 9000.5], [0, 0.25, 0.5, 1]),  # joined recordings
        ([10, 10.25, 0, 0.25], [10, 10.25, 10.5, 10.75]),
    ],
)
def test_times_increase(timestamps, expected):
    clock = FrameClock(fps=4)
    assert [clock.next(timestamp) for timestamp in timestamps] == pytest.approx(expected)


@pytest.mark.parametrize("fps", [23.976, 25, 29.97, 59.94, 239.68, 0.5])
def test_a_constant_rate_is_kept(fps):
    times = np.round(np.arange(1000) / fps, 3)  # Matroska stores milliseconds
    assert choose_fps(fps, times) == pytest.approx(fps, abs=0.001)
    assert choose_fps(fps, None) == pytest.approx(fps, abs=0.001)
    wrong_average = fps * 0.9  # the container counts the pause after the last frame
    assert choose_fps(wrong_average, times) == pytest.approx(fps, rel=1e-3)


def test_a_variable_rate_becomes_a_multiple_of_the_highest_sustained_rate():
    slow, fast = np.arange(10) / 10, 3 + np.arange(10) / 30
    assert choose_fps(6, [*slow, *fast]) == 30
    jitter = np.arange(300) / 30 + np.random.default_rng(0).uniform(0, 0.02, 300)
    jitter[100:] += 1
    fps = choose_fps(27, jitter)
    assert np.abs(np.round(jitter * fps) / fps - jitter).max() <= 0.01
    assert choose_fps(1, [0, 0.0001, 5, 6]) == 240  # no more than that


def test_slow_rates_are_exact():
    """MPEG-4 would store one frame in two minutes as 0.008 frames/s, and show the sixth frame 25 s too late."""
    fps = choose_fps(1 / 120, 120 * np.arange(6))
    assert fps == 10
    assert choose_fps(0.25, 4 * np.arange(6)) == 0.25


@pytest.mark.parametrize("fps, rounded", [(29.97003, 29.97), (239.6934, 239.69), (1000.06, 1000.1), (1e-9, 0.001)])
def test_rates_are_rounded_for_mpeg4(fps, rounded):
    assert round_fps_for_mpeg4(fps) == rounded
