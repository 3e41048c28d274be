"""Numbers outside the range of an option are refused, before a tool works for minutes or without end."""

import subprocess
import sys
from pathlib import Path

import pytest

from ssd.errors import UserError, require_range

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def test_both_ends_of_a_range_are_allowed():
    for value in (None, 1, 64):
        require_range("clients", value, most=64)
    for value, limit in ((0, 1), (-3, 1), (65, 64)):
        with pytest.raises(UserError, match=f"^--clients: {value} .* {limit}[.]"):
            require_range("clients", value, most=64)


@pytest.mark.parametrize(
    "command",
    [
        "faults.py --per_file 0",
        "faults.py --timeout 0",
        "fuzz.py coco --seconds 0",
        "soak.py service --clients 65",
        "benchmark.py step --steps 0",
    ],
)
def test_tools_refuse_numbers_outside_their_range(command):
    script, *arguments = command.split()
    result = subprocess.run(
        [sys.executable, TOOLS / script, *arguments], capture_output=True, text=True, timeout=60, cwd=TOOLS.parent
    )
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith(f"error: {arguments[-2]}: {arguments[-1]} ") and result.stderr.count("\n") == 1
