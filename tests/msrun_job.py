"""Start jobs with msrun, and find and stop all processes that belong to them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from soaks.hosts import Host
from soaks.launch import free_port
from soaks.marked_processes import VARIABLE, find_processes, kill_processes

ROOT = Path(__file__).resolve().parents[1]
REAL_MSRUN = Path(sys.executable).with_name("msrun")
QUICK_MSRUN = ROOT / "tests" / "jobs" / "quick_start" / "msrun"


class Job:
    """One run of msrun on this machine, or on one of two hosts.

    log_dir: folder for the logs of its ranks
    mark: value of an environment variable by which all processes of the job are found
    """

    def __init__(
        self,
        log_dir: Path,
        command: Sequence[str | Path],
        join: bool = True,
        workers: int = 2,
        local_workers: int | None = None,
        port: int | None = None,
        host: Host | None = None,
        msrun: Path = QUICK_MSRUN,
        **environment: str,
    ):
        """Start the job.

        command: script and arguments that each rank runs
        join: msrun waits for its processes
        workers: number of ranks of the whole job
        local_workers: number of ranks that msrun starts; None for all ranks, or for 1 on a Host
        port: port of the scheduler; None for a free port
        host: Host that runs one of two ranks; None runs all ranks on this machine
        msrun: program that starts the ranks; QUICK_MSRUN has MindSpore's code, but starts faster
        """
        self.log_dir = log_dir
        self.mark = uuid.uuid4().hex
        launch = [sys.executable, msrun, "--worker_num", workers, "--log_dir", log_dir, f"--join={join}"]
        if host:
            launch = [*host.prefix, *launch, "--local_worker_num", 1, "--node_rank", host.node_rank]
            launch += ["--master_addr", host.SCHEDULER_ADDRESS, "--master_port", 8118]
        else:
            launch += ["--local_worker_num", local_workers or workers, "--master_port", port or free_port()]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        # A pytest in the background may ignore SIGINT. Children inherit an ignored signal, but not a handler.
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.console_path = log_dir.parent / f"{log_dir.name}.console"
        with open(self.console_path, "w") as console:
            self.process = subprocess.Popen(
                [*map(str, launch), "python", *map(str, command)],
                env={**os.environ, "PATH": path, VARIABLE: self.mark, **environment},
                cwd=log_dir.parent,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in a terminal reaches the process group, which tests signal
            )
        signal.signal(signal.SIGINT, handler)

    def log(self, name: str) -> str:
        """Return the text of a log, "scheduler" or "worker_RANK"; empty if it does not exist."""
        path = self.log_dir / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def console(self) -> str:
        """Return what msrun has printed."""
        return self.console_path.read_text()

    def all_output(self) -> str:
        """Return all logs and the console, for messages of failed tests."""
        logs = [f"--- {path.name}\n{path.read_text()}" for path in sorted(self.log_dir.glob("*.log"))]
        return "\n".join([*logs, "--- console", self.console()])

    def wait_for(self, pattern: str, ranks: Sequence[int] = (0,), seconds: float = 150) -> None:
        """Wait until a regular expression matches the log of each given rank."""
        deadline = time.monotonic() + seconds
        while not all(re.search(pattern, self.log(f"worker_{rank}")) for rank in ranks):
            assert not self.process.poll(), f"the job failed without a match for {pattern!r}\n{self.all_output()}"
            assert time.monotonic() < deadline, f"no match for {pattern!r} in {seconds} s\n{self.all_output()}"
            time.sleep(0.05)

    def wait(self, seconds: float) -> float:
        """Wait until no process of the job is left. Return the seconds that took."""
        start = time.monotonic()
        while self.process.poll() is None or self.processes():
            if time.monotonic() > start + seconds:
                running = self.processes()
                self.kill()
                raise AssertionError(f"still running after {seconds} s: {running}\n{self.all_output()}")
            time.sleep(0.05)
        return time.monotonic() - start

    def kill(self) -> None:
        """Kill all processes of the job."""
        kill_processes(self.mark)
        self.process.wait()

    def processes(self) -> dict[int, str]:
        """Return {process id: "msrun", "tail", or role and rank such as "MS_WORKER 1"} of running processes."""
        return find_processes(self.mark)

    def rank_processes(self, rank: int) -> tuple[int, int]:
        """Return the ids of a rank's supervisor, which msrun started, and of the child that does the work."""
        supervisor, child = sorted(process for process, name in self.processes().items() if name == f"MS_WORKER {rank}")
        return supervisor, child


def failure_line(job, rank, reason):
    """Return the regular expression of the line in scheduler.log that names a failed rank. msrun greps for `Error`."""
    return rf"Error: rank {rank} .*{reason}.* {job.log_dir}/worker_{rank}\.log$"
