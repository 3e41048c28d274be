"""Let the n-th file operation of each command fail, for every n, and check how the command ends:

    python tools/faults.py [--commands NAME ...] [--modes MODE ...] [--per_file N] [--folder DIR]

A small C library, which the C compiler of this machine compiles, replaces the functions that open, write, sync, rename,
create, truncate, remove and close files. For each command, the calls below its folder are counted first. Then the
command runs once for each call and mode:
    error  the call fails with EIO
    full   the call and all later ones fail with ENOSPC, as on a full disk
    short  a write stores half of the data
    slow   the call takes 1 s longer
A command must succeed with the results of an undisturbed run, or end with one line that names the cause. Results of an
earlier run must stay whole. "conditions" are faults of the machine, such as a full disk, a small /dev/shm, one core, a
limited address space, a clock that jumps, and data that disappear.

The command prints the numbers of calls and how runs ended, and a line for each violation. The exit code is then 1. All
calls take about an hour on 2 CPU cores, and --per_file 1 takes a quarter of an hour.
"""

if __name__ == "__main__":
    from ssd.startup import prepare_process

    prepare_process()  # before slow imports, so that Ctrl-C ends these cleanly

import argparse
import sys
import tempfile
from pathlib import Path

from fault_injection.commands import COMMANDS
from fault_injection.conditions import run_conditions
from fault_injection.search import Search
from fault_injection.shim import Mode, compile_shim
from ssd.errors import exit_cleanly, require_range
from ssd.runtime.heartbeat import report_silence

CONDITIONS = "conditions"
MODES = [mode.name.lower() for mode in Mode if mode != Mode.COUNT]


@exit_cleanly
@report_silence
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*(command.name for command in COMMANDS), CONDITIONS]
    parser.add_argument("--commands", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES, help="kinds of faults [all]")
    parser.add_argument(
        "--per_file",
        type=int,
        metavar="N",
        help="try at most N calls of a kind on files whose names differ only in digits [all calls]",
    )
    parser.add_argument(
        "--timeout",
        type=int,
        default=60,
        metavar="SECONDS",
        help="time after which a command hangs; more on a busy machine [60]",
    )
    parser.add_argument("--folder", type=Path, help="working folder [a temporary folder]")
    args = parser.parse_args()
    require_range("per_file", args.per_file)
    require_range("timeout", args.timeout)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        library = compile_shim(Path(temporary))
        search = Search(folder, library=library, timeout_s=args.timeout)
        search.create_inputs()
        violations = 0
        for command in COMMANDS:
            if command.name in args.commands:
                violations += search.run(command, [Mode[name.upper()] for name in args.modes], per_file=args.per_file)
        if CONDITIONS in args.commands:
            place = folder / "conditions"
            violations += run_conditions(search.inputs, place, library=library, timeout_s=args.timeout)
    print(f"number of violations: {violations}")
    sys.exit(int(violations > 0))


if __name__ == "__main__":
    main()
