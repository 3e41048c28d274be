"""Measurements of tools/benchmark.py, a module for each stage."""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any


@dataclasses.dataclass
class Case:
    """One measured case.

    unit: of the runs, for example "ms" or "images/s"
    runs: one value per run, in the order in which they were made
    extra: further values to report
    settings: settings that the runs depend on
    """

    name: str
    unit: str
    runs: list[float] = dataclasses.field(default_factory=list)
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)


def median_ratio(case: Case, reference: Case) -> float:
    """Return the median over runs of a case's value divided by the reference's.

    Values are divided run by run, because runs are made in turn and the speed of a shared machine drifts.
    """
    ratios = [value / reference_value for value, reference_value in zip(case.runs, reference.runs, strict=True)]
    return round(statistics.median(ratios), 3)
