"""Start a training of two ranks with msrun, as docs/distributed.md says, on this machine or on two hosts."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from .hosts import Host
from .marked_processes import VARIABLE, find_processes, kill_processes, name_ranks, wait_until_gone

SCRIPT = Path(__file__).with_name("train_with_digests.py")
MAX_END_SECONDS = 300  # until no process is left. Ranks finish a compilation first, which took 2 minutes under load
KILLED_SECONDS = 30  # until no process is left after SIGKILL to all
DIGEST = re.compile(r"^digest of epoch (\d+): (\w{64})$", re.MULTILINE)


class Launch:
    """One launch of a training: one msrun for both ranks, or one on each of two hosts.

    folder: working folder; msrun runs there, and `logs` has a folder for each launch and host
    number: number of the launch, for the names of its logs
    hosts: two hosts with one rank each, or an empty list for two ranks on this machine
    arguments: arguments of train.py
    """

    def __init__(self, folder: Path, *, number: int, hosts: Sequence[Host], arguments: Sequence[str]):
        self.mark = uuid.uuid4().hex
        self.folder, self.logs = folder, folder / "logs" / str(number)
        self.port = 8118 if hosts else free_port()
        common = ["--worker_num", "2", "--master_port", str(self.port), "--join=True"]
        if hosts:
            launches = [
                [*host.prefix, "msrun", *common, "--local_worker_num", "1", "--node_rank", str(host.node_rank)]
                + ["--master_addr", host.SCHEDULER_ADDRESS]
                for host in hosts
            ]
        else:
            launches = [["msrun", *common, "--local_worker_num", "2"]]
        self.processes = [
            self._start([*launch, "--log_dir", str(self.logs / f"host{host}"), "python", str(SCRIPT), *arguments], host)
            for host, launch in enumerate(launches)
        ]

    def _start(self, command: list[str], host: int) -> subprocess.Popen:
        """Start msrun in the working folder. host: number of the host, for the name of the file with its output"""
        self.logs.mkdir(parents=True, exist_ok=True)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {
            **os.environ,
            "PATH": path,
            VARIABLE: self.mark,
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "PYTHONFAULTHANDLER": "1",  # a crash prints Python's stack
        }
        with open(self.logs / f"host{host}.txt", "w") as output:
            return subprocess.Popen(
                command,
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that Ctrl-C in a terminal does not reach the ranks
            )

    def roles(self) -> dict[int, str]:
        """Return {process id: role} of the running processes. `name_ranks` explains the roles."""
        return name_ranks(find_processes(self.mark))

    def has_ended(self) -> bool:
        """Return True if an msrun has ended."""
        return any(process.poll() is not None for process in self.processes)

    def stop(self) -> None:
        """Stop the training with SIGTERM to each msrun, after which rank 0 saves last.ckpt."""
        for process, role in self.roles().items():
            if role == "msrun":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGTERM)

    def wait(self) -> dict[int, str]:
        """Wait until no process is left. Returns {process id: role} of those that ran too long and were killed."""
        orphans = name_ranks(wait_until_gone(self.mark, MAX_END_SECONDS))
        self.kill()
        for process in self.processes:
            process.wait()
        return orphans

    def kill(self) -> None:
        """Kill all processes."""
        kill_processes(self.mark)
        wait_until_gone(self.mark, KILLED_SECONDS)

    def digests(self) -> list[tuple[int, int, str]]:
        """Return (rank, epoch, digest of the training state) for each line that a rank has printed so far."""
        return [
            (rank, int(epoch), digest)
            for rank in (0, 1)
            for log in self.logs.glob(f"host*/worker_{rank}.log")
            for epoch, digest in DIGEST.findall(log.read_text(errors="replace"))
        ]

    def has_trained(self) -> bool:
        """Return True if a rank has completed an epoch."""
        return bool(self.digests())

    def log_ends(self, lines: int = 30) -> str:
        """Return the last lines of all logs, for a launch that ended by itself."""
        ends = []
        for path in sorted([*self.logs.glob("host*/*.log"), *self.logs.glob("host*.txt")]):
            ends += [f"--- {path}", *path.read_text(errors="replace").splitlines()[-lines:]]
        return "\n".join(ends)


def free_port() -> int:
    """Return a free TCP port of this machine for msrun's scheduler."""
    while True:
        # Below the range from which systems assign ports. SystemRandom, because pytest workers with the same random
        # seed would choose the same ports.
        port = random.SystemRandom().randrange(20000, 32000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
