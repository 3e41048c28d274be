"""Fuzz the readers of files and requests with atheris: coverage-guided, random changes of valid inputs.

    python tools/fuzz.py [TARGET ...] [--seconds 300] [--output output/fuzz]

An input must be read, or be refused with UserError. Another error, more than 10 seconds of CPU time, or more than 2 GiB
of memory is a fault. The command prints a table of the targets, and writes an input of each fault to the folder
OUTPUT/TARGET/faults. The exit code is 1 if there are faults. New inputs that reach more code are kept in
OUTPUT/TARGET/corpus for the next call.
Copy the input of a fault to tests/fuzzing/corpus/TARGET when the fault is fixed, so that `make test` reads it again.
"""

if __name__ == "__main__":
    from ssd.startup import prepare_process

    prepare_process()  # before slow imports, so that Ctrl-C ends these cleanly

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from fuzzing.targets import TARGETS
from ssd.errors import UserError, count_noun, exit_cleanly, require_range
from ssd.runtime.heartbeat import activity, report_silence

ROOT = Path(__file__).resolve().parents[1]
CORPUS = ROOT / "tests" / "fuzzing" / "corpus"


class Result(NamedTuple):
    """Result of one target.

    executions: number of inputs that were read
    coverage: number of places of the code that inputs have reached
    faults: one line for each fault
    """

    executions: int
    coverage: int
    faults: list[str]


@exit_cleanly
@report_silence
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"{', '.join(TARGETS)}; without names: all")
    parser.add_argument("--seconds", type=int, default=300, help="time for each target [300]")
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "fuzz", help="folder of new inputs and faults")
    args = parser.parse_args()
    unknown = [name for name in args.targets if name not in TARGETS]
    if unknown:
        raise UserError(f"TARGET: {unknown[0]!r} is unknown. Choose from {', '.join(TARGETS)}.")
    require_range("seconds", args.seconds)  # 0 has no limit in atheris
    if importlib.util.find_spec("atheris") is None:
        raise UserError("atheris: the package is not installed. Run `make fuzz`, which installs it.")
    print(f"{'target':<20}{'executions':>12}{'coverage':>10}{'seconds':>9}{'faults':>8}", flush=True)
    faults = []
    for name in args.targets or TARGETS:
        start = time.monotonic()
        with activity(f"fuzzing {name}"):
            result = fuzz(name, args.seconds, args.output.resolve() / name)
        faults += result.faults
        seconds = time.monotonic() - start
        print(
            f"{name:<20}{result.executions:>12,}{result.coverage:>10,}{seconds:>9.0f}{len(result.faults):>8}",
            *result.faults,
            sep="\n    ",
            flush=True,
        )
    if faults:
        print(f"{count_noun(len(faults), 'fault')}. Fix each one, and copy its input to {CORPUS}/TARGET.")
        sys.exit(1)


def fuzz(name: str, seconds: int, output: Path) -> Result:
    """Fuzz a target for a time, in a process of its own."""
    output.mkdir(parents=True, exist_ok=True)
    log = output / "log.txt"
    with open(log, "w") as file, tempfile.TemporaryDirectory(prefix=f"fuzz-{name}-") as folder:
        command = [sys.executable, "-m", "fuzzing.worker", name, CORPUS / name, output, folder, seconds]
        process = subprocess.run(
            [str(part) for part in command], cwd=ROOT / "tools", stdout=file, stderr=file, stdin=subprocess.DEVNULL
        )
    return read_log(log.read_text(errors="replace"), process.returncode, log)


def read_log(text: str, exit_code: int, log: Path) -> Result:
    """Read the result of a target from the output of its process.

    exit_code: exit code of the process; not 0 if libFuzzer stopped at an input, or if the process died
    """
    faults = re.findall(r"^FAULT (.*)$", text, re.MULTILINE)
    if exit_code:
        found = re.findall(r"^SUMMARY: libFuzzer: (.*)$|Test unit written to (.*)$", text, re.MULTILINE)
        reasons = [part for pair in found for part in pair if part] or [f"exit code {exit_code}"]
        faults.append(f"{', '.join(reasons)}: see {log}")
    executions = [
        int(number) for number in re.findall(r"^(?:#|stat::number_of_executed_units: *)(\d+)", text, re.MULTILINE)
    ]
    coverage = [int(number) for number in re.findall(r" cov: (\d+)", text)]
    return Result(max(executions, default=0), max(coverage, default=0), faults)


if __name__ == "__main__":
    main()
