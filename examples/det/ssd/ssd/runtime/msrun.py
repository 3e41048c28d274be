"""Graceful shutdown and failure propagation for msrun jobs.

MindSpore 2.10's msrun kills its ranks with SIGKILL on Ctrl-C and when one rank fails. On SIGTERM it leaves its ranks
running. The surviving ranks of a job wait half a minute or longer in a collective for a rank that is gone.

So each process that msrun starts becomes a supervisor. It forks a child that runs the command in a session of its own,
and forwards signals to the child. If the supervisor is killed, Linux sends the child SIGTERM; the child then saves and
exits. The first rank that ends early adds a line to scheduler.log, of which msrun shows the lines with `Error`. All
processes on that host read the line and exit too. Ranks on other hosts exit when MindSpore's scheduler notices.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

POLL_SECONDS = 0.2
FAILURE_GRACE_SECONDS = 3  # time for ranks that hit the same error to report it themselves
SHUTDOWN_GRACE_SECONDS = 30  # time for ranks to finish their step and save
INTERRUPTED_EXIT_CODE = 130  # of a command that was asked to stop
PR_SET_PDEATHSIG = 1  # of Linux's prctl


def supervise_under_msrun(main: Callable[[], None]) -> Callable[[], None]:
    """Decorate a command's `main()` so that it runs in a supervised child process if msrun started the command.

    Without msrun, `main()` is called directly. Put this decorator above `exit_cleanly`, whose exit codes it passes on.
    """

    @functools.wraps(main)
    def wrapper() -> None:
        if os.environ.get("MS_ROLE") not in ("MS_SCHED", "MS_WORKER"):
            return main()
        is_scheduler = os.environ["MS_ROLE"] == "MS_SCHED"
        if is_scheduler and os.environ.get("MS_WORKER_NUM") == "1":  # a single worker has no ranks to connect
            return None
        log = JobLog()
        if is_scheduler:
            log.append_own_output()
        supervisor = os.getpid()
        child = os.fork()
        if child:
            os._exit(_supervise(child, log, is_scheduler))
        os.setsid()
        with contextlib.suppress(OSError, AttributeError):  # not Linux
            # The scheduler outlives its supervisor, because ranks may still need it.
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, 0 if is_scheduler else signal.SIGTERM)
        threading.Thread(target=_kill_when_overdue, args=(supervisor, log, is_scheduler), daemon=True).start()
        _run_and_exit(main, log)

    return wrapper


class JobLog:
    """Lines in scheduler.log by which the processes of one host learn that a rank has ended.

    process_log: file to which msrun redirects the output of this process
    scheduler_log: None if this host has no scheduler.log; ranks then do not learn of one another
    """

    FAILED, STOPPED = b"Error: rank ", b"Stopped on request: rank "

    def __init__(self) -> None:
        try:
            self.process_log = Path(os.readlink("/proc/self/fd/1"))
        except OSError:  # not Linux
            self.process_log = Path("unknown")
        path = self.process_log.with_name("scheduler.log")
        # Output may go to a pipe. And an earlier job may have left a scheduler.log on a host without a scheduler.
        is_used = self.process_log.is_absolute() and path.is_file() and _is_this_host(os.environ["MS_SCHED_HOST"])
        self.scheduler_log = path if is_used else None

    def append_own_output(self) -> None:
        """Make the scheduler append to scheduler.log, so that it does not overwrite lines of other processes."""
        if self.scheduler_log:
            descriptor = os.open(self.scheduler_log, os.O_WRONLY | os.O_APPEND)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)

    def write_exit(self, kind: bytes, reason: str) -> None:
        """Record that this rank has ended, unless another rank was first.

        kind: FAILED or STOPPED
        reason: as `_exit_reason` returns it
        Without a scheduler.log the line goes to this rank's own log, which msrun shows too.
        """
        line = f"{kind.decode()}{os.environ.get('RANK_ID', '?')} {reason}. Its log is {self.process_log}\n"
        if self.scheduler_log is None:
            print(line, end="", file=sys.stderr, flush=True)
        elif not self.read_exit():
            with open(self.scheduler_log, "ab", buffering=0) as file:
                file.write(line.encode())

    def read_exit(self) -> bytes | None:
        """Return the first line that `write_exit` wrote, without its line end, or None."""
        lines = self.scheduler_log.read_bytes().splitlines() if self.scheduler_log else []
        return next((line for line in lines if line.startswith((self.FAILED, self.STOPPED))), None)


def _is_this_host(host: str) -> bool:
    """Return True if an address belongs to this host."""
    try:
        family = socket.getaddrinfo(host, 0)[0][0]
        socket.create_server((host, 0), family=family).close()
        return True
    except OSError:
        return False


def _supervise(child: int, log: JobLog, is_scheduler: bool) -> int:
    """Forward signals to the child until it has ended. Return the exit code for msrun.

    The first signal reaches the child as SIGTERM, the second one as SIGKILL.
    """
    signals_received = 0

    def forward_signal(*_: object) -> None:
        nonlocal signals_received
        signals_received += 1
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM if signals_received == 1 else signal.SIGKILL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, forward_signal)
    # Without --join=True msrun ends right after the start, which means nothing.
    msrun = os.getppid() if _msrun_joins() else None
    msrun_was_killed = False
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        line = log.read_exit()
        if ended:
            code = os.waitstatus_to_exitcode(status)
            if code and not is_scheduler:
                was_asked = signals_received > 0 or code == INTERRUPTED_EXIT_CODE
                log.write_exit(log.STOPPED if was_asked else log.FAILED, _exit_reason(code, log))
            if msrun_was_killed:
                _stop_log_viewer(log.process_log)
            return code if code >= 0 else 128 - code
        if is_scheduler and line:
            time.sleep(FAILURE_GRACE_SECONDS)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return int(line.startswith(log.FAILED))
        if msrun and os.getppid() != msrun and not msrun_was_killed:
            msrun_was_killed = True
            forward_signal()
        time.sleep(POLL_SECONDS)


def _exit_reason(code: int, log: JobLog) -> str:
    """Put an exit code into words, "exited with code 2" or "was killed by SIGKILL". Negative codes are signals."""
    reason = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
    ranks_here = len(list(log.process_log.parent.glob("worker_*.log")))
    if code == 1 and ranks_here < int(os.environ.get("MS_WORKER_NUM", 1)):  # 1: no UserError but one of MindSpore's
        reason += ", possibly because a rank on another host failed"
    return reason


def _msrun_joins() -> bool:
    """Return True if msrun runs with --join=True and so waits for its processes."""
    try:
        arguments = Path(f"/proc/{os.getppid()}/cmdline").read_text().split("\0")
    except OSError:
        return False
    pairs = zip(arguments, arguments[1:] + [""])
    return any(f"{name}={value}".lower().startswith("--join=true") for name, value in pairs)


def _stop_log_viewer(log: Path) -> None:
    """Stop the `tail -f` by which msrun shows a log on the console. It would keep the user's pipe open."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            program, *arguments = (process / "cmdline").read_text().split("\0")
            is_tail = Path(program).name == "tail" and arguments[:1] == ["-f"]
            if is_tail and (process / "cwd" / arguments[1]).resolve() == log:
                os.kill(int(process.name), signal.SIGTERM)


def _kill_when_overdue(supervisor: int, log: JobLog, is_scheduler: bool) -> None:
    """Kill this process if it does not end by itself in time, because it may wait for ranks that are gone."""
    deadline, failure = float("inf"), None
    while time.monotonic() < deadline:
        line = log.read_exit()
        if line and line.startswith(log.FAILED):
            deadline = min(deadline, time.monotonic() + FAILURE_GRACE_SECONDS)
            failure = line.decode(errors="replace")
        elif os.getppid() != supervisor or line:
            grace = FAILURE_GRACE_SECONDS if is_scheduler and line else SHUTDOWN_GRACE_SECONDS
            deadline = min(deadline, time.monotonic() + grace)
        time.sleep(POLL_SECONDS)
    if failure and not is_scheduler:
        print(f"Stopped because another rank failed. {failure}", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def _run_and_exit(main: Callable[[], None], log: JobLog) -> None:
    """Call `main`. If it fails, exit at once: MindSpore's exit handlers wait for ranks that will not answer."""
    code = 1
    try:
        return main()
    except SystemExit as error:
        if not error.code:
            raise
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    if code == INTERRUPTED_EXIT_CODE:  # the supervisor, which would write the line, may be gone
        log.write_exit(log.STOPPED, _exit_reason(code, log))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
