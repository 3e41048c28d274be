"""Supervisor processes of an msrun job: forward signals, report how a process ended, and end with the other processes.

`supervise_under_msrun` explains why these processes exist.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from ..startup import INTERRUPTED_EXIT_CODE, stop_signals
from .connection import WaitingReport
from .job_log import Exit, JobLog, listen_error
from .launch import is_msrun
from .processes import Process, find_log_viewer

POLL_SECONDS = 0.2
FAILURE_GRACE_SECONDS = 3  # time for ranks with the same error to print the error to their own logs
SHUTDOWN_GRACE_SECONDS = 30  # time for ranks to finish their steps and save a checkpoint, as in ascend8p.sh
LOG_VIEWER_SECONDS = 5  # time for msrun to start its `tail -f`, which it does right after each rank
STARTUP_SECONDS = 30  # a scheduler that exits earlier has not noticed a missing rank, which takes half a minute
RANKS_NOTICE_SECONDS = 20  # time for ranks to fail after the scheduler has noticed a missing rank
BLOCKED_SECONDS = 2  # time after which a child that should have ended itself is killed


class Supervisor:
    """Supervise the child process that runs the command.

    child: process id of the child
    log: log through which the processes of this host report their end
    is_scheduler: True if the child runs MindSpore's scheduler, False if the child runs a rank
    """

    def __init__(self, child: int, log: JobLog, is_scheduler: bool):
        self.child, self.log, self.is_scheduler = child, log, is_scheduler
        self.signals_received = 0
        self.stop_requested = False  # because of a signal, or because msrun or the scheduler has ended
        self.started = time.monotonic()
        # Monitor msrun only if it runs with --join=True. Otherwise msrun exits right after it has started the ranks.
        self.msrun = os.getppid() if msrun_option("join", "false").lower() == "true" else None
        self.msrun_was_killed = False
        self.log_viewer: Process | None = None

    def run(self) -> int:
        """Wait until the child has exited, and return the exit code for msrun.

        The first signal is forwarded as SIGTERM, the second signal as SIGKILL. The child also gets SIGTERM if msrun or
        the scheduler ends. This does not count as a signal: batch systems send a signal to one process after the other,
        so the signal of this process may arrive after the end of msrun. A second SIGHUP is not forwarded, because the
        kernel and the shell each send one when a terminal is closed.
        """
        for number in stop_signals():
            signal.signal(number, self.forward_signal)
        find_until, deadline, waiting = time.monotonic() + LOG_VIEWER_SECONDS, 0.0, WaitingReport()
        while True:
            if self.msrun and not (self.log_viewer or self.msrun_was_killed) and time.monotonic() < find_until:
                self.log_viewer = find_log_viewer(self.log.process_log, self.msrun)
            ended, status = os.waitpid(self.child, os.WNOHANG)
            line = self.log.read_exit()
            if ended:
                return self._end(os.waitstatus_to_exitcode(status))
            if self.is_scheduler and line:
                return self._end_scheduler(line)
            if not self.is_scheduler:
                waiting.update()
            if line and line.is_failed_rank:
                # The child ends itself, unless MindSpore blocks its threads while it connects the ranks.
                deadline = deadline or time.monotonic() + FAILURE_GRACE_SECONDS + BLOCKED_SECONDS
                if time.monotonic() >= deadline:
                    self.kill(f"This rank was stopped because another rank failed. {line}")
                    deadline = float("inf")
            if line and line.is_of_scheduler and not self.stop_requested:
                print(f"This rank was stopped because the scheduler has ended. {line}", file=sys.stderr, flush=True)
                self.request_stop()  # a rank that waits for the scheduler ends at once, others save a checkpoint
            if self.msrun and os.getppid() != self.msrun and not self.msrun_was_killed:
                self.msrun_was_killed = True
                self.request_stop()
            time.sleep(POLL_SECONDS)

    def kill(self, reason: str) -> None:
        print(reason, file=sys.stderr, flush=True)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.child, signal.SIGKILL)

    def forward_signal(self, number: int, _: object) -> None:
        if number == signal.SIGHUP and self.signals_received:
            return
        self.signals_received += 1
        if self.signals_received == 1:
            self.request_stop()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.child, signal.SIGKILL)

    def request_stop(self) -> None:
        """Send SIGTERM to the child, unless it has been sent."""
        if not self.stop_requested:
            self.stop_requested = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.child, signal.SIGTERM)

    def _end(self, code: int) -> int:
        """Report the end of the child, and return the exit code for msrun. code: exit code, or -N for signal N"""
        if code and self.is_scheduler and not self.stop_requested:
            # If a rank on another host fails, the scheduler exits first. The ranks of this host then explain it better.
            is_cause = code < 0 or time.monotonic() < self.started + STARTUP_SECONDS
            deadline = time.monotonic() + (FAILURE_GRACE_SECONDS if is_cause else RANKS_NOTICE_SECONDS)
            while time.monotonic() < deadline and not self.log.read_exit():
                time.sleep(POLL_SECONDS)
        if code:
            was_asked = self.stop_requested or code == INTERRUPTED_EXIT_CODE
            reason = exit_reason(code, self.log, was_asked=was_asked)
            self.log.write_exit(JobLog.STOPPED if was_asked else JobLog.FAILED, reason)
        if self.msrun_was_killed and self.log_viewer:
            self.log_viewer.stop()  # otherwise it would run forever and keep the user's pipe open
        return code if code >= 0 else 128 - code

    def _end_scheduler(self, line: Exit) -> int:
        """End the scheduler, which no process needs any more, and return the exit code for msrun."""
        time.sleep(FAILURE_GRACE_SECONDS)
        os.kill(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)
        return int(line.is_failure)


def exit_reason(code: int, log: JobLog, *, was_asked: bool = False) -> str:
    """Return a text on how a process ended, for example "exited with code 2. See the rank's log: worker_0.log".

    code: exit code, or the negative number of the signal that killed the process
    log: log of this process, whose folder shows how many ranks run on this host
    was_asked: True if a signal or the end of another process has asked this process to stop
    """
    reason = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
    ranks_here = len(list(log.process_log.parent.glob("worker_*.log")))
    num_ranks = os.environ.get("MS_WORKER_NUM", "1")
    # Code 1 is that of MindSpore's errors, for example in a collective. If a rank of another host is missing, MindSpore
    # may also end this process with SIGTERM. A UserError exits with code 2.
    may_be_elsewhere = code in (1, -signal.SIGTERM) and not was_asked
    if may_be_elsewhere and num_ranks.isdecimal() and ranks_here < int(num_ranks):
        reason += ", possibly because a rank on another host failed"
    return f"{reason}. See the {log.source.split()[0]}'s log: {log.process_log}"


def refuse_scheduler(log: JobLog) -> str | None:
    """Return a line on why the scheduler cannot work, or None. The other processes of the job have been informed.

    log: log of the scheduler
    """
    host, port = os.environ.get("MS_SCHED_HOST", ""), os.environ.get("MS_SCHED_PORT", "")
    workers, local = msrun_option("worker_num", "8"), msrun_option("local_worker_num", "8")
    if workers.isdecimal() and local.isdecimal() and int(local) > int(workers):
        reason = (
            f"--local_worker_num: {local} ranks on this host are more than the {workers} ranks of --worker_num. Set "
            f"--local_worker_num to {workers} or less."
        )
        with contextlib.suppress(OSError):  # msrun fails and has no log of the ranks, so print to its console
            with open(f"/proc/{os.getppid()}/fd/2", "a") as console:
                print(f"error: {reason}", file=console, flush=True)
    elif os.environ.get("MS_WORKER_NUM") != "1" and port.isdecimal() and (error := listen_error(host, int(port))):
        reason = (
            f"--master_port: the scheduler cannot listen on port {port} of {host} ({error}). Set msrun's --master_port "
            "to a free port."
        )
    else:
        return None
    log.write_exit(JobLog.FAILED, f"cannot start. {reason}")
    return reason


def msrun_option(name: str, default: str) -> str:
    """Return the value of an option of msrun, the parent process, or a default. Returns "" if msrun has ended."""
    try:
        arguments = Path(f"/proc/{os.getppid()}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return ""
    if not is_msrun(arguments):
        return ""
    found = default
    for argument, following in zip(arguments, arguments[1:] + [""]):
        option, equals, value = argument.partition("=")
        if option == f"--{name}":
            found = value if equals else following
        if argument.endswith(".py"):  # the command and its arguments
            break
    return found
