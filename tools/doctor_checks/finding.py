"""Results of checks, and the text of the report."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterable

from ssd.errors import count_noun

OK, WARNING, FAULT, NOT_APPLICABLE = "ok", "warning", "fault", "n/a"
LABEL_WIDTH = 9  # number of characters before the text of a finding, enough for "warning" and two spaces


@dataclasses.dataclass(frozen=True)
class Finding:
    """Result of one check.

    status: OK, WARNING, FAULT, or NOT_APPLICABLE if there is nothing to check
    what: name of the checked thing, for example "CANN"
    found: state of the machine, for example "8.5.0" or "not found"
    expected: expected state; "" if `found` is as expected
    advice: sentences that say what to do and why; "" if nothing is to be done
    details: lines of another program, for example MindSpore's error message
    """

    status: str
    what: str
    found: str
    expected: str = ""
    advice: str = ""
    details: tuple[str, ...] = ()


def format_finding(finding: Finding, width: int | None) -> str:
    """Return the lines of the report for one finding.

    width: maximum length of a line; None writes everything except the details in one line
    """
    text = f"{finding.what}: {finding.found}"
    if finding.expected:
        text += f", expected {finding.expected}"
    if finding.advice:
        text += f". {finding.advice}"
    indent = " " * LABEL_WIDTH
    label = finding.status.ljust(LABEL_WIDTH)
    if width is None:
        lines = [label + text]
    else:
        lines = textwrap.wrap(
            text,
            width=width,
            initial_indent=label,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join([*lines, *(f"{indent}| {line}" for line in finding.details)])


def summarize(findings: Iterable[Finding]) -> str:
    """Return the last line of the report, for example "2 faults, 1 warning" or "no faults"."""
    statuses = [finding.status for finding in findings]
    faults, warnings = statuses.count(FAULT), statuses.count(WARNING)
    text = count_noun(faults, "fault") if faults else "no faults"
    return f"{text}, {count_noun(warnings, 'warning')}" if warnings else text
