"""Decide whether a command has behaved well in spite of a fault."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .client import Outcome
from .commands import Command

# Reasons of the operating system, and of MindSpore's and OpenCV's writers, which do not pass these on
CAUSES = re.compile(
    "input/output error|no space left|no free disk|failed to (open|write|seekp|create)|cannot be written|"
    "cannot write a video|frames were written",
    re.IGNORECASE,
)
MAX_QUOTE = 300  # characters


def log_problems(outcome: Outcome, causes: re.Pattern[str] | None = CAUSES) -> list[str]:
    """Return what is wrong with the end of a command: a hang, a crash, a traceback or an error without its cause.

    causes: pattern of the causes of which one must be in the error; None for any cause
    """
    if outcome.code is None:
        return [f"hung for {outcome.seconds:.0f} s"]
    if outcome.code < 0:
        return [f"killed by signal {-outcome.code}"]
    if "Traceback (most recent call last)" in outcome.log:
        return [f"traceback: {last_line(outcome)}"]
    if outcome.code == 0:
        return []
    errors = [line for line in outcome.log.splitlines() if line.startswith("error: ")]
    if len(errors) != 1:
        return [f"exit code {outcome.code} with {len(errors)} errors: {last_line(outcome)}"]
    return [] if causes is None or causes.search(errors[0]) else [f"cause not named: {errors[0]}"]


def result_problems(
    command: Command, outcome: Outcome, *, state: Any, before: Any, complete: Any, leftover: Sequence[str]
) -> list[str]:
    """Return what is wrong with the results of a command.

    state: results now
    before, complete: results before the command, and after a run without fault
    leftover: temporary files
    """
    problems = []
    if outcome.code == 0 and not command.is_complete(state, complete):
        problems.append("success with incomplete results")
    if outcome.code != 0 and not command.is_intact(state, before, complete):
        problems.append("earlier results are damaged, or incomplete results look complete")
    if leftover and not outcome.where.startswith("remove"):
        problems.append(f"left behind: {', '.join(leftover)}")
    return problems


def last_line(outcome: Outcome) -> str:
    return (outcome.log.strip().splitlines() or ["no output"])[-1][:MAX_QUOTE]
