"""Find and kill the processes of one job by an environment variable that they inherit."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from ssd.runtime.processes import find_process

VARIABLE = "JOB_MARK"
POLL_SECONDS = 0.1


def find_processes(mark: str) -> dict[int, str]:
    """Return {process id: name} of the running processes of a job.

    mark: value of VARIABLE in the environment of the processes
    A name is "msrun", "tail", a script such as "serve.py", or role and rank, such as "MS_WORKER 1".
    """
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            lines = (path / "environ").read_text().split("\0")
            environment = dict(line.split("=", 1) for line in lines if "=" in line)
            is_zombie = (path / "stat").read_text().rpartition(") ")[2][0] == "Z"
            if environment.get(VARIABLE) == mark and not is_zombie:
                arguments = [Path(argument).name for argument in (path / "cmdline").read_text().split("\0")]
                role = f"{environment['MS_ROLE']} {environment.get('RANK_ID')}" if "MS_ROLE" in environment else ""
                program = next((name for name in ("msrun", "tail") if name in arguments[:2]), role)
                script = next((name for name in arguments[:2] if name.endswith(".py")), arguments[0])
                found[int(path.name)] = program or script
    return found


def name_ranks(processes: dict[int, str]) -> dict[int, str]:
    """Return {process id: role} of the processes of a job under msrun.

    processes: result of `find_processes`
    The role of the process that does the work of a rank is "rank N", or "scheduler". Its parent, which msrun started,
    is its "supervisor".
    """
    named = {}
    for number, name in processes.items():
        process = find_process(number)
        kind, _, rank = name.partition(" ")
        role = {"MS_WORKER": f"rank {rank}", "MS_SCHED": "scheduler"}.get(kind, name)
        is_child = process is not None and processes.get(process.parent) == name
        named[number] = role if role == name or is_child else f"supervisor of {role}"
    return named


def wait_until_gone(mark: str, seconds: float) -> dict[int, str]:
    """Wait until no process of a job is left, and return the processes that still run after some seconds."""
    deadline = time.monotonic() + seconds
    while (running := find_processes(mark)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return running


def kill_processes(mark: str) -> None:
    """Kill all processes of a job."""
    for process in find_processes(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
