"""Measure how fast the suite is on this machine:

    python tools/benchmark.py data    --config RECIPE --data_dir D    loader, beside the decode-only limit
    python tools/benchmark.py step    --config RECIPE                 training step, beside its kernels; compilation
    python tools/benchmark.py infer   --config RECIPE                 network and NMS, from pixels to detections
    python tools/benchmark.py nms                                     suppression, beside a NumPy loop over classes
    python tools/benchmark.py eval    --config RECIPE --data_dir D    the whole evaluation of a validation split
    python tools/benchmark.py convert --data_path COCO --images 5000  create_data.py, beside a copy of the same files

Each case is measured --repeats times, in turn with the cases it is compared with, because the speed of a shared machine
drifts. One JSON line a case: median, spread (lowest and highest), every run, the settings, the versions, the machine.
Recipe keys can be overridden as for train.py. Weights are random without --ckpt_path; eval then has the most
detections to score, all else takes the same time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "det" / "ssd"))  # where the package is

from benchmarks import Case  # noqa: E402
from ssd.config.command_line import parse_overrides  # noqa: E402
from ssd.config.loading import load_config  # noqa: E402
from ssd.errors import UserError, exit_cleanly  # noqa: E402


def parse_args() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("what", choices=["data", "step", "infer", "nms", "eval", "convert"])
    parser.add_argument("--config", help="recipe, a YAML file; all but nms and convert need one")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each case [5]")
    parser.add_argument("--steps", type=int, default=8, help="step, infer: steps in a run [8]")
    parser.add_argument("--data_path", type=Path, help="convert: folder of COCO form whose images are repeated")
    parser.add_argument("--images", type=int, default=5000, help="convert: how many images [5000]")
    return parser.parse_known_args()


def describe_machine() -> dict:
    """What figures depend on, as far as it can be known from inside."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_before": os.getloadavg()[0],
    }


def version_of(package: str) -> str | None:
    """None where it is not installed: simplejpeg may be absent, and OpenCV may go by another name."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def report(case: Case, machine: dict) -> None:
    """One JSON line on stdout."""
    packages = ("mindspore", "mindcv", "numpy", "opencv-python-headless", "simplejpeg")
    line = {
        "case": case.name,
        "unit": case.unit,
        "median": round(statistics.median(case.runs), 4),
        "spread": [round(min(case.runs), 4), round(max(case.runs), 4)],
        "runs": [round(run, 4) for run in case.runs],
        **case.more,
        "settings": case.settings,
        "versions": {"python": platform.python_version(), **{name: version_of(name) for name in packages}},
        "machine": machine,
    }
    print(json.dumps(line), flush=True)


@exit_cleanly
def main() -> None:
    args, rest = parse_args()
    machine = describe_machine()
    if args.repeats < 1 or args.steps < 1 or args.images < 1:
        raise UserError("command line: got a count below 1, expected --repeats, --steps and --images of 1 or more")
    if args.what == "convert":
        from benchmarks.convert import measure_convert

        if rest or args.data_path is None:
            raise UserError("command line: convert takes --data_path, --images and --repeats; see --help")
        cases = measure_convert(args.data_path, args.images, args.repeats)
    elif args.what == "nms":
        from benchmarks.nms import measure_nms

        if rest:
            raise UserError("command line: nms takes --repeats alone; see --help")
        cases = measure_nms(args.repeats)
    else:
        if args.config is None:
            raise UserError(f"command line: got no --config, expected a recipe; {args.what} needs one")
        overrides = parse_overrides(rest)
        cfg = load_config(args.config, overrides)
        if args.what == "data":
            from benchmarks.data import measure_data

            cases = measure_data(cfg, args.repeats)
        elif args.what == "step":
            from benchmarks.step import measure_step

            cases = measure_step(args.config, overrides, args.repeats, args.steps)
        elif args.what == "infer":
            from benchmarks.network import measure_infer

            cases = measure_infer(cfg, args.repeats, args.steps)
        else:
            from benchmarks.network import measure_eval

            cases = measure_eval(cfg, args.repeats)
        for case in cases:
            case.settings = {"config": args.config, **overrides, **case.settings}
    for case in cases:
        report(case, machine)


if __name__ == "__main__":
    main()
