"""Fit lines to the memory and the number of open files of processes, to see whether they grow."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

MAX_GROWTH = 0.05  # rise that counts as flat, as a fraction of the mean
SIGNIFICANT = 3.0  # a smaller slope, in standard errors, is noise
MIN_SAMPLES = 3  # of a process, after its warm-up


@dataclasses.dataclass(frozen=True)
class Line:
    """Line through the values of all processes with one role.

    mean: mean of the values
    per_hour: slope, in units per hour
    error: standard error of the slope if the samples were independent
    hours: time between the first and the last value of the process that was sampled longest
    processes: number of processes
    """

    mean: float
    per_hour: float
    error: float
    hours: float
    processes: int

    def grows(self, min_rise: float, known_per_hour: float = 0) -> bool:
        """Return True if the values rise by more than noise.

        min_rise: rise that counts as flat, whatever the mean
        known_per_hour: slope that has a known cause, and does not count
        """
        per_hour = self.per_hour - known_per_hour
        return per_hour * self.hours > max(MAX_GROWTH * self.mean, min_rise) and per_hour > SIGNIFICANT * self.error


def fit_line(series: Sequence[tuple[Sequence[float], Sequence[float]]], warm_up_seconds: float) -> Line | None:
    """Fit lines with one common slope to the values of several processes. Each process has its own offset.

    series: (seconds, values) of each process, where seconds count from its first sample
    warm_up_seconds: time whose values are left out
    Returns None if no process has MIN_SAMPLES values after its warm-up.
    """
    kept = []
    for seconds, values in series:
        times = np.asarray(seconds, float)
        is_kept = times >= warm_up_seconds
        if is_kept.sum() >= MIN_SAMPLES:
            kept.append((times[is_kept] / 3600, np.asarray(values, float)[is_kept]))
    if not kept:
        return None
    times = np.concatenate([hours - hours.mean() for hours, _ in kept])
    deviations = np.concatenate([values - values.mean() for _, values in kept])
    squares = float(times @ times)
    slope = float(times @ deviations) / squares
    residuals = deviations - slope * times
    freedom = max(len(times) - len(kept) - 1, 1)
    return Line(
        mean=float(np.mean(np.concatenate([values for _, values in kept]))),
        per_hour=slope,
        error=float(np.sqrt(residuals @ residuals / freedom / squares)),
        hours=max(float(np.ptp(hours)) for hours, _ in kept),
        processes=len(kept),
    )
