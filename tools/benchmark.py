"""Measure the speed of data loading, training, inference, NMS, evaluation, dataset conversion or the service:

    python tools/benchmark.py data    --config RECIPE --data_dir D    data loader, compared with decoding alone
    python tools/benchmark.py step    --config RECIPE                 training step, its kernels, and graph compilation
    python tools/benchmark.py infer   --config RECIPE                 inference: network and NMS; --model EXPORTED
                                                                      compares an exported model of the same recipe
    python tools/benchmark.py nms                                     NMS, compared with a NumPy loop over classes
    python tools/benchmark.py eval    --config RECIPE --data_dir D    evaluation of the validation split
    python tools/benchmark.py convert --data_path COCO --images 5000  create_data.py, compared with a copy of the files
    python tools/benchmark.py serve   --server output/NAME_onnx       serve.py under load, with 64 clients

Each case is measured --repeats times. The runs of compared cases alternate, because the speed of a shared machine
varies over time. The command prints one JSON line per case: median, spread (minimum and maximum), all runs, settings,
versions and machine. Recipe keys can be overridden as in train.py. Without --ckpt_path, weights are random. With random
weights, eval processes the maximum number of detections; the other stages are not affected.
"""

from __future__ import annotations

if __name__ == "__main__":
    from ssd.startup import prepare_process

    prepare_process()  # before slow imports, so that Ctrl-C ends these cleanly

import argparse
import json
import os
import platform
import statistics
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks import Case
from ssd.config.command_line import parse_overrides
from ssd.config.loading import load_config
from ssd.errors import UserError, exit_cleanly, require_range
from ssd.runtime.heartbeat import report_silence
from ssd.runtime.launch import leave_launch


def parse_args() -> tuple[argparse.Namespace, list[str]]:
    """Parse the command line.

    Returns the options of this script, and the remaining arguments, which set recipe keys.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("stage", choices=["data", "step", "infer", "nms", "eval", "convert", "serve"])
    parser.add_argument("--config", help="recipe, a YAML file; required for data, step, infer and eval")
    parser.add_argument("--repeats", type=int, default=5, help="number of runs of each case [5]")
    parser.add_argument("--steps", type=int, default=8, help="for step and infer: number of steps in a run [8]")
    parser.add_argument(
        "--data_path",
        type=Path,
        help="for convert: folder of a dataset in COCO format; for serve: folder of images to send [drawn images]",
    )
    parser.add_argument("--images", type=int, default=5000, help="for convert: number of training images [5000]")
    parser.add_argument("--model", type=Path, help="for infer: folder of an exported model")
    parser.add_argument("--server", help="for serve: folder of an exported model, or the URL of a running server")
    parser.add_argument("--clients", type=int, default=64, help="for serve: number of clients [64]")
    parser.add_argument("--seconds", type=int, default=60, help="for serve: seconds of each run [60]")
    return parser.parse_known_args()


def describe_machine() -> dict[str, Any]:
    """Return the CPU model, number of cores, memory in GiB and 1-minute load average of this machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_before": os.getloadavg()[0],
    }


def installed_version(package: str) -> str | None:
    """Return the version of a package, or None if the package is not installed.

    simplejpeg is optional, and OpenCV may be installed from a package with another name.
    """
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def print_case(case: Case, machine: dict[str, Any]) -> None:
    """Print the results of a case as one JSON line. machine: properties of the machine to include"""
    packages = ("mindspore", "mindcv", "numpy", "opencv-python-headless", "simplejpeg", "onnxruntime")
    line = {
        "case": case.name,
        "unit": case.unit,
        "median": round(statistics.median(case.runs), 4),
        "spread": [round(min(case.runs), 4), round(max(case.runs), 4)],
        "runs": [round(run, 4) for run in case.runs],
        **case.extra,
        "settings": case.settings,
        "versions": {"python": platform.python_version(), **{name: installed_version(name) for name in packages}},
        "machine": machine,
    }
    print(json.dumps(line), flush=True)


def measure_recipe(args: argparse.Namespace, override_arguments: list[str]) -> list[Case]:
    """Measure one of the stages data, step, infer and eval, which need a recipe.

    args: options of this script
    override_arguments: command-line arguments that set recipe keys, ["--key", "value", …]
    Raises UserError if --config is missing or the recipe is not valid.
    """
    if args.config is None:
        raise UserError(f"--config: {args.stage} needs a recipe, but none is set. Set --config to a recipe.")
    overrides = parse_overrides(override_arguments)
    cfg = load_config(args.config, overrides)
    # These imports load MindSpore, which takes seconds, so import only the module of the stage.
    if args.stage == "data":
        from benchmarks.data import measure_data

        cases = measure_data(cfg, args.repeats)
    elif args.stage == "step":
        from benchmarks.step import measure_step

        cases = measure_step(args.config, overrides, repeats=args.repeats, steps=args.steps)
    elif args.stage == "infer":
        from benchmarks.network import measure_infer

        cases = measure_infer(cfg, args.repeats, args.steps, model=args.model)
    else:
        from benchmarks.network import measure_eval

        cases = measure_eval(cfg, args.repeats)
    for case in cases:
        case.settings = {"config": args.config, **overrides, **case.settings}
    return cases


@exit_cleanly
@report_silence
def main() -> None:
    args, override_arguments = parse_args()
    leave_launch()
    machine = describe_machine()
    for name in ("repeats", "steps", "images", "clients", "seconds"):
        require_range(name, getattr(args, name))
    if args.stage == "convert":
        from benchmarks.convert import measure_convert

        if override_arguments or args.data_path is None:
            raise UserError(
                "command line: convert needs --data_path and takes no recipe keys. Set --data_path, and remove the "
                "recipe keys."
            )
        cases = measure_convert(args.data_path, args.images, args.repeats)
    elif args.stage == "serve":
        from benchmarks.serve import measure_serve

        if override_arguments or args.server is None:
            raise UserError(
                "command line: serve needs --server and takes no recipe keys. Set --server, and remove the recipe keys."
            )
        cases = measure_serve(
            args.server, args.data_path, clients=args.clients, seconds=args.seconds, repeats=args.repeats
        )
    elif args.stage == "nms":
        from benchmarks.nms import measure_nms

        if override_arguments:
            raise UserError(f"command line: nms takes no recipe keys. Remove {' '.join(override_arguments)}.")
        cases = measure_nms(args.repeats)
    else:
        cases = measure_recipe(args, override_arguments)
    for case in cases:
        print_case(case, machine)


if __name__ == "__main__":
    main()
