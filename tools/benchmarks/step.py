"""The training step: its time, that of the kernels in it, and how long its graph takes to compile the first time and
the second. Each run is a process of its own, time_step.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from . import Case, ratio
from .time_step import WARM_UP

SCRIPT = Path(__file__).with_name("time_step.py")
KERNELS = ("convolution", "batch_normalization")


def measure_step(config: str, overrides: dict, repeats: int, steps: int) -> list[Case]:
    """Cases step, kernels (on CPU), first start and second start. Raises subprocess.CalledProcessError."""
    step, watched, kernels = (
        Case("training step", "ms"),
        Case("training step, kernels timed", "ms"),
        Case("kernels", "ms"),
    )
    first, second = Case("compilation, first start", "s"), Case("compilation, second start", "s")
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            cold = run(config, overrides, steps, XDG_CACHE_HOME=cache)
            warm = run(config, overrides, steps, XDG_CACHE_HOME=cache)
            timed = run(config, overrides, steps, XDG_CACHE_HOME=cache, ONEDNN_VERBOSE="1")
        first.runs.append(cold["compile_s"])
        second.runs.append(warm["compile_s"])
        step.runs += [cold["step_ms"], warm["step_ms"]]
        watched.runs.append(timed["step_ms"])
        kernels.runs.append(sum(timed["kernels_ms"].get(name, 0.0) for name in KERNELS))
        kernels.more = {"by_kind": timed["kernels_ms"], "what": "convolutions and batch norms, as oneDNN reports"}
    second.more["of_first"] = ratio(second, first)
    cases = [step, first, second]
    if kernels.runs[-1]:
        watched.more["of_kernels"] = ratio(watched, kernels)
        cases[1:1] = [watched, kernels]
    for case in cases:
        case.settings = {"batch_size": cold["batch_size"], "image_size": cold["image_size"], "steps": steps}
    return cases


def run(config: str, overrides: dict, steps: int, **environment: str) -> dict:
    """Figures of one process."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "figures.json"
        result = subprocess.run(
            [sys.executable, str(SCRIPT), config, json.dumps(overrides), str(steps), str(out)],
            env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        figures = json.loads(out.read_text())
    figures["kernels_ms"] = kernel_times(result.stdout, steps)
    return figures


def kernel_times(verbose: str, steps: int) -> dict[str, float]:
    """Milliseconds a step by kind of kernel, of the last `steps` of the WARM_UP + steps + 1 that were run.

    verbose: lines `onednn_verbose,…,exec,cpu,convolution,…,0.123`, the same in number for each step
    """
    rows = [line.split(",") for line in verbose.splitlines() if line.startswith("onednn_verbose") and ",exec," in line]
    counted = rows[-(len(rows) * steps // (WARM_UP + steps + 1)) :] if rows else []
    times: dict[str, float] = {}
    for row in counted:
        kind = row[row.index("exec") + 2]
        times[kind] = times.get(kind, 0.0) + float(row[-1]) / steps
    return {kind: round(time, 3) for kind, time in sorted(times.items(), key=lambda item: -item[1])}
