"""Run a training or the service for a long time with kills or bad requests, and check everything afterwards:

    python tools/soak.py device [--kills 20]                    training on one device, killed at random times
    python tools/soak.py ranks [--minutes 60] [--hosts 2]       training of two ranks, killed every few minutes
    python tools/soak.py service [--minutes 10] [--model DIR]   serve.py at its limit, with 1 % bad requests

device: the final checkpoints equal those of an uninterrupted run, and no kill loses more steps than the checkpoint
interval. The command takes about 15 minutes on 2 CPU cores.

ranks: ranks, scheduler and msrun are killed in turn, and the training is resumed each time. If this process may create
network namespaces, two of them stand for two hosts. Afterwards a second run trains as many epochs without kills, which
usually takes less time, and at most twice as long. All ranks and both runs have the same training state after each
epoch, memory and open files do not grow, and no process, temporary file or socket is left.

service: all good requests succeed, and bad requests get their status. Memory and open files do not grow. Without
--model, a small detector is trained and exported first, in about a minute.

The command prints a line for each kill, and one for each fault. The exit code is 1 if there is a fault.
"""

if __name__ == "__main__":
    from ssd.startup import prepare_process

    prepare_process()  # before slow imports, so that Ctrl-C ends these cleanly

import argparse
import contextlib
import random
import sys
import tempfile
from pathlib import Path

from soaks.hosts import two_hosts
from soaks.leftovers import use_own_group
from ssd.errors import UserError, exit_cleanly, require_range
from ssd.runtime.heartbeat import report_silence
from ssd.runtime.launch import leave_launch

MAX_CLIENTS = 64  # the default of serve.py's --queue_size, which refuses further images
MINUTES = {"ranks": 60.0, "service": 10.0}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("part", choices=["device", "ranks", "service"])
    parser.add_argument("--seed", type=int, default=0, help="random seed of kills and bad requests [0]")
    parser.add_argument("--folder", type=Path, help="working folder, empty or missing [a temporary folder]")
    parser.add_argument("--kills", type=int, default=20, help="for device: maximum number of kills [20]")
    parser.add_argument("--minutes", type=float, help="for ranks: time of the run with kills [60]; for service [10]")
    parser.add_argument("--kill_minutes", type=float, default=3, help="for ranks: mean time between two kills [3]")
    parser.add_argument("--hosts", type=int, choices=[1, 2], default=2, help="for ranks: number of hosts [2]")
    parser.add_argument("--model", type=Path, help="for service: folder of an exported ONNX model")
    parser.add_argument("--clients", type=int, default=32, help="for service: number of clients [32]")
    return parser.parse_args()


@exit_cleanly
@report_silence
def main() -> None:
    args = parse_args()
    leave_launch()
    minutes = MINUTES.get(args.part, 1.0) if args.minutes is None else args.minutes
    for name, value in (("kills", args.kills), ("minutes", minutes), ("kill_minutes", args.kill_minutes)):
        if not value > 0:
            raise UserError(f"--{name}: {value} is not above 0. Set --{name} to a larger number.")
    require_range("clients", args.clients, most=MAX_CLIENTS)
    if args.folder and args.folder.is_dir() and any(args.folder.iterdir()):
        raise UserError(f"--folder: {args.folder} is not empty. Set --folder to an empty or missing folder.")
    use_own_group()
    with contextlib.ExitStack() as stack:
        folder = (args.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if args.part == "device":
            from soaks.one_device import soak_one_device

            sys.exit(soak_one_device(folder, args.kills, random.Random(args.seed)))
        if args.part == "ranks":
            from soaks.two_ranks import soak_two_ranks

            hosts = stack.enter_context(two_hosts()) if args.hosts == 2 else []
            if hosts is None:
                print("--hosts: this process may not create network namespaces, so both ranks run on one host.")
            faults = soak_two_ranks(
                folder, hosts=hosts or [], minutes=minutes, kill_minutes=args.kill_minutes, seed=args.seed
            )
        else:
            from soaks.service import soak_service

            faults = soak_service(folder, args.model, minutes=minutes, clients=args.clients, seed=args.seed)
    for fault in faults:
        print(f"fault: {fault}")
    print(f"faults: {len(faults)}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
