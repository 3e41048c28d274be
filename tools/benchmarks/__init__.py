"""What tools/benchmark.py measures, a module for each stage."""

from __future__ import annotations

import dataclasses
import statistics


@dataclasses.dataclass
class Case:
    """One thing that was measured. runs: in the order they were made; more: figures that belong to the case"""

    name: str
    unit: str
    runs: list[float] = dataclasses.field(default_factory=list)
    more: dict = dataclasses.field(default_factory=dict)
    settings: dict = dataclasses.field(default_factory=dict)


def ratio(case: Case, other: Case) -> float:
    """The median over runs of a case's figure over another's, run by run, because they were made in turn."""
    return round(statistics.median(own / its for own, its in zip(case.runs, other.runs, strict=True)), 3)
