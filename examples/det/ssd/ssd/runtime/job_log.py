"""Lines in scheduler.log, through which the processes of an msrun job on one host learn of each other's end.

msrun truncates the logs in its log_dir before it starts any process, also if another job still writes to them. A line
therefore names its job, by the scheduler's port and the start of the process that wrote the line. Processes read the
lines of their own job only, and a process whose log belongs to another job refuses to start.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import sys
from pathlib import Path

from ..errors import UserError
from .processes import find_earlier_writers, find_process

LAUNCH_SECONDS = 15  # all processes that one msrun starts on a host start within this time
MAX_COMMAND = 100  # maximum number of characters of a command in a message


class JobLog:
    """Write and read lines in scheduler.log, so that all processes of a host detect that one of them has ended.

    process_log: path of the file to which msrun redirects the output of this process
    scheduler_log: path of scheduler.log; None on a host without the scheduler, where ranks cannot report to each other
    source: this process in lines, "scheduler" or, for example, "rank 3"
    port: port of the job's scheduler
    started: start of this process, in clock ticks since the start of the system
    """

    FAILED, STOPPED = "Error", "Stopped on request"
    LINE = re.compile(rb"(Error|Stopped on request): (scheduler|rank \S+) \(job (\S*)-(\d+)\) ")

    def __init__(self, is_scheduler: bool) -> None:
        try:
            self.process_log = Path(os.readlink("/proc/self/fd/1"))
        except OSError:  # not Linux
            self.process_log = Path("unknown")
        path = self.process_log.with_name("scheduler.log")
        # Output to a pipe has no scheduler.log. A scheduler.log on a host without a scheduler is from a previous job.
        is_used = self.process_log.is_absolute() and path.is_file()
        self.scheduler_log = path if is_used and is_this_host(os.environ.get("MS_SCHED_HOST", "")) else None
        self.source = "scheduler" if is_scheduler else f"rank {os.environ.get('MS_NODE_ID', '?')}"
        self.port = os.environ.get("MS_SCHED_PORT", "").encode()
        own = find_process(os.getpid())
        self.started = own.started if own else 0
        # Append, so that lines of other processes are not overwritten, and a log that another msrun truncates gets no
        # gap of null bytes.
        for descriptor in (1, 2) if self.process_log.is_file() else ():
            fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_APPEND)

    def refuse_other_job(self) -> None:
        """Check that no process of another job writes to the log of this process.

        Raises UserError otherwise, after the other processes of this job have been informed.
        """
        for process in find_earlier_writers(self.process_log) if self.process_log.is_file() else ():
            try:
                variables, command = process.environment(), " ".join(" ".join(process.arguments()).split())
            except OSError:  # the process has just ended
                continue
            is_own = self._is_own(variables.get("MS_SCHED_PORT", "").encode(), process.started)
            is_twin = self.source != "rank ?" and all(
                variables.get(name) == os.environ.get(name) for name in ("MS_ROLE", "MS_NODE_ID")
            )
            # A launch without msrun may write all output of one job to one file.
            if "MS_ROLE" not in variables or (is_own and not is_twin):
                continue
            reason = (
                f"log_dir: {self.process_log} is the log of another job, of process {process.number} "
                f"({command[:MAX_COMMAND]}). Wait until it ends, or set msrun's --log_dir to another folder."
            )
            if self.scheduler_log and not is_own:  # the other job would read a line that names its own port
                self.write_exit(self.FAILED, f"cannot start. {reason}")
            raise UserError(reason)

    def write_exit(self, kind: str, reason: str) -> None:
        """Report in scheduler.log that this process has ended. Only the first process that ends writes a line.

        kind: JobLog.FAILED or JobLog.STOPPED, the start of the line
        reason: sentences on how the process ended, for example "exited with code 2."
        Without a scheduler.log, the line is written to this rank's own log, which msrun prints too.
        """
        line = f"{kind}: {self.source} (job {self.port.decode()}-{self.started}) {reason}\n"
        if self.scheduler_log is None:
            print(line, end="", file=sys.stderr, flush=True)
        elif not self.read_exit():
            with open(self.scheduler_log, "ab", buffering=0) as file:
                file.write(line.encode())

    def read_exit(self) -> Exit | None:
        """Return the first line in scheduler.log that reports an end in this job; None if no process has ended."""
        try:
            lines = self.scheduler_log.read_bytes().splitlines() if self.scheduler_log else []
        except OSError:  # the log was removed
            lines = []
        for line in lines:
            match = self.LINE.match(line)
            if match and self._is_own(match[3], int(match[4])):
                return Exit(line.decode(errors="replace"))
        return None

    def _is_own(self, port: bytes, started: int) -> bool:
        """Return True if a process belongs to this job. port, started: its scheduler's port and its start"""
        ticks = LAUNCH_SECONDS * os.sysconf("SC_CLK_TCK")
        return port == self.port and abs(started - self.started) <= ticks


class Exit(str):
    """A line of scheduler.log that reports the end of a process."""

    @property
    def is_failure(self) -> bool:
        """True if the process failed, False if it stopped on request."""
        return self.startswith(JobLog.FAILED)

    @property
    def is_of_scheduler(self) -> bool:
        return self.partition(": ")[2].startswith("scheduler ")

    @property
    def is_failed_rank(self) -> bool:
        """True if the other ranks cannot take a step any more, and therefore cannot save a checkpoint."""
        return self.is_failure and not self.is_of_scheduler


def is_this_host(host: str) -> bool:
    """Return True if the host name or IP address `host` belongs to this host."""
    return bool(host) and listen_error(host, 0) is None


def listen_error(host: str, port: int) -> str | None:
    """Return the reason why a process cannot listen on a port, or None if it can.

    host: host name or IP address
    port: port number; 0 for any free port
    """
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        socket.create_server((host, port), family=family).close()
        return None
    except OSError as error:
        # create_server adds the address to the reason, which the caller names.
        return (error.strerror or str(error)).partition(" (while ")[0].lower()
    except (ValueError, OverflowError) as error:  # an impossible name or port
        return str(error)
