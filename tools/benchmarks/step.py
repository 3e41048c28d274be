"""Measure the training step, its oneDNN kernels, and the compilation of its graph with an empty and a filled cache.

Each run executes time_step.py in a new process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from . import Case, median_ratio
from .time_step import WARM_UP_STEPS

SCRIPT = Path(__file__).with_name("time_step.py")
KERNELS = ("convolution", "batch_normalization")


def measure_step(config: str, overrides: dict[str, Any], repeats: int, steps: int) -> list[Case]:
    """Measure a training step and its kernels in ms, and compilation in s with an empty and a filled cache.

    config: path of the recipe
    overrides: {recipe key: value} that replace values of the recipe
    repeats: number of runs of each case
    steps: number of steps in a run
    Kernels are measured on the CPU only, where oneDNN reports their times.
    Raises subprocess.CalledProcessError if a run fails.
    """
    step = Case("training step", "ms")
    profiled_step, kernels = Case("training step, kernels timed", "ms"), Case("kernels", "ms")
    first, second = Case("compilation, first start", "s"), Case("compilation, second start", "s")
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            cold = run(config, overrides, steps, XDG_CACHE_HOME=cache)
            warm = run(config, overrides, steps, XDG_CACHE_HOME=cache)
            profiled = run(config, overrides, steps, XDG_CACHE_HOME=cache, ONEDNN_VERBOSE="1")
        first.runs.append(cold["compile_s"])
        second.runs.append(warm["compile_s"])
        step.runs += [cold["step_ms"], warm["step_ms"]]
        profiled_step.runs.append(profiled["step_ms"])
        kernels.runs.append(sum(profiled["kernels_ms"].get(name, 0.0) for name in KERNELS))
        kernels.extra = {"by_kind": profiled["kernels_ms"], "what": "convolution and BatchNorm, as reported by oneDNN"}
    second.extra["of_first"] = median_ratio(second, first)
    cases = [step, first, second]
    if kernels.runs[-1]:
        profiled_step.extra["of_kernels"] = median_ratio(profiled_step, kernels)
        cases[1:1] = [profiled_step, kernels]
    for case in cases:
        case.settings = {"batch_size": cold["batch_size"], "image_size": cold["image_size"], "steps": steps}
    return cases


def run(config: str, overrides: dict[str, Any], steps: int, **environment: str) -> dict[str, Any]:
    """Run time_step.py in a new process and return its results.

    config: path of the recipe
    overrides: {recipe key: value} that replace values of the recipe
    steps: number of steps to measure
    environment: {name: value} of environment variables for the process
    Returns compile_s, step_ms, batch_size, image_size and kernels_ms, the milliseconds per step for each kind of oneDNN
    kernel.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        process = subprocess.run(
            [sys.executable, str(SCRIPT), config, json.dumps(overrides), str(steps), str(out)],
            env={**os.environ, **environment, "PYTHONPATH": str(SCRIPT.parents[1])},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        result = json.loads(out.read_text())
    result["kernels_ms"] = parse_kernel_times(process.stdout, steps)
    return result


def parse_kernel_times(verbose: str, steps: int) -> dict[str, float]:
    """Compute the milliseconds per step for each kind of oneDNN kernel, over the last `steps` steps of a run.

    verbose: output of oneDNN, lines such as `onednn_verbose,…,exec,cpu,convolution,…,0.123`. Each of the
        1 + WARM_UP_STEPS + steps steps prints the same number of lines.
    steps: number of measured steps at the end of the run
    Returns {kind of kernel: milliseconds per step} in descending order of times.
    """
    rows = [line.split(",") for line in verbose.splitlines() if line.startswith("onednn_verbose") and ",exec," in line]
    counted = rows[-(len(rows) * steps // (WARM_UP_STEPS + steps + 1)) :] if rows else []
    times: dict[str, float] = {}
    for row in counted:
        kind = row[row.index("exec") + 2]
        times[kind] = times.get(kind, 0.0) + float(row[-1]) / steps
    return {kind: round(time, 3) for kind, time in sorted(times.items(), key=lambda item: -item[1])}
