"""Compare two training runs: contents of checkpoints, and rows of metrics.csv."""

from __future__ import annotations

import csv
import json
from pathlib import Path

TIMES = {"images_per_second", "data_wait", "memory_mib"}  # columns of metrics.csv that differ between equal runs


def read_checkpoint(path: Path) -> dict[str, bytes | str]:
    """Read a checkpoint as a dict that maps parameter names to bytes, and names of metadata to text."""
    import ssd  # noqa: F401  first, because ssd sets environment variables that MindSpore reads at import

    # isort: split
    import mindspore as ms

    content = ms.load_checkpoint(str(path))
    return {name: value if isinstance(value, str) else value.asnumpy().tobytes() for name, value in content.items()}


def saved_step(training: Path) -> int:
    """Return the step from which a training run resumes, or 0 if there is no checkpoint.

    training: folder of the checkpoints and metrics.csv
    """
    checkpoint = training / "last.ckpt"
    return json.loads(read_checkpoint(checkpoint)["training_state"])["step"] if checkpoint.exists() else 0


def last_logged_step(training: Path) -> int:
    """Return the last step in the metrics.csv of a training run, or 0 if no step is logged.

    training: folder of the checkpoints and metrics.csv
    """
    if not (training / "metrics.csv").exists():
        return 0
    with open(training / "metrics.csv", newline="") as file:
        return max((int(row["step"]) for row in csv.DictReader(file) if (row["step"] or "").isdigit()), default=0)


def compare_checkpoints(expected_path: Path, found_path: Path) -> list[str]:
    """Return a text for each difference between two checkpoints; the second path names them."""
    expected, found = read_checkpoint(expected_path), read_checkpoint(found_path)
    differences = []
    if expected.keys() != found.keys():
        differences.append(f"{found_path.name} has different parameter names")
    differing = [key for key in expected if expected[key] != found.get(key)]
    if differing:
        differences.append(
            f"{found_path.name} differs in {len(differing)} of {len(expected)} entries; the first is {differing[0]!r}"
        )
    return differences


def compare_metrics(expected: Path, found: Path, *, last_epoch: int) -> list[str]:
    """Return a text for the first difference between the metrics.csv of two training runs, or an empty list.

    expected, found: folders of the checkpoints and metrics.csv
    last_epoch: last epoch to compare
    The rows of an uninterrupted run are expected: each step once, and the same values except for times and memory.
    """
    runs = []
    for training in (expected, found):
        with open(training / "metrics.csv", newline="") as file:
            rows = [row for row in csv.DictReader(file) if int(row["epoch"]) <= last_epoch]
        runs.append([{name: value for name, value in row.items() if name not in TIMES} for row in rows])
    for expected_row, found_row in zip(*runs):
        differing = [name for name in expected_row if expected_row[name] != found_row.get(name)]
        if differing:
            return [f"metrics.csv differs at step {expected_row['step']} in {', '.join(differing)}"]
    if len(runs[0]) != len(runs[1]):
        return [f"metrics.csv has {len(runs[1])} rows up to epoch {last_epoch}, expected {len(runs[0])}"]
    return []
