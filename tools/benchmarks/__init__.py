"""Modules of tools/benchmark.py, which measure one stage each."""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any


@dataclasses.dataclass
class Case:
    """Measured values of one benchmark case, such as the loader of training batches.

    name: name of the case
    unit: unit of the measured values, for example "ms" or "images/s"
    runs: measured value of each run, in the order of the runs
    extra: {name: value} of additional results
    settings: {name: value} of the settings that affect the measured values
    """

    name: str
    unit: str
    runs: list[float] = dataclasses.field(default_factory=list)
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)


def median_ratio(case: Case, reference: Case) -> float:
    """Return the median of the ratios between the runs of a case and the runs of a reference case.

    case: case whose values are the numerators
    reference: case whose values are the denominators, with the same number of runs
    Ratios are computed run by run, because the runs of both cases alternate and the speed of a shared machine varies.
    """
    ratios = [value / reference_value for value, reference_value in zip(case.runs, reference.runs, strict=True)]
    return round(statistics.median(ratios), 3)
