"""Graceful shutdown and failure propagation for msrun jobs.

MindSpore 2.10's msrun kills its ranks with SIGKILL on Ctrl-C and when one rank fails. On SIGTERM, msrun exits and its
ranks keep running. If a rank exits, the other ranks wait for it in a collective for half a minute or longer.

Therefore, each process that msrun starts becomes a supervisor process. The supervisor forks a child that runs the
command in its own session, and forwards signals to the child. If the supervisor is killed, Linux sends SIGTERM to the
child, which saves its state and exits. The first rank that ends early appends a line to scheduler.log. All processes on
that host read the line and exit too. msrun prints the line if it contains `Error`. Ranks on other hosts exit when
MindSpore's scheduler detects the missing rank.
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

from ..startup import stop_signals

POLL_SECONDS = 0.2
FAILURE_GRACE_SECONDS = 3  # time for ranks with the same error to print the error to their own logs
SHUTDOWN_GRACE_SECONDS = 30  # time for ranks to finish their steps and save a checkpoint, as in ascend8p.sh
LOG_VIEWER_SECONDS = 5  # time for msrun to start its `tail -f`, which it does right after each rank
INTERRUPTED_EXIT_CODE = 130  # exit code of a command after Ctrl-C or SIGTERM
PR_SET_PDEATHSIG = 1  # option of Linux's prctl: signal to send to a process when its parent exits


def supervise_under_msrun(main: Callable[[], None]) -> Callable[[], None]:
    """Decorate a command's `main()` to run in a supervised child process if msrun started the command.

    Without msrun, `main()` is called directly. Place this decorator above `exit_cleanly`, because the supervisor
    returns the exit codes that `exit_cleanly` sets.
    """

    @functools.wraps(main)
    def wrapper() -> None:
        if os.environ.get("MS_ROLE") not in ("MS_SCHED", "MS_WORKER"):
            return main()
        is_scheduler = os.environ["MS_ROLE"] == "MS_SCHED"
        if is_scheduler and os.environ.get("MS_WORKER_NUM") == "1":  # a single worker needs no scheduler
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
            # The scheduler gets no signal, because ranks may still need it after its supervisor was killed.
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, 0 if is_scheduler else signal.SIGTERM)
        threading.Thread(target=_kill_when_overdue, args=(supervisor, log, is_scheduler), daemon=True).start()
        _run_and_exit(main, log)

    return wrapper


class JobLog:
    """Write and read lines in scheduler.log, so that all processes of a host detect that a rank has ended.

    process_log: path of the file to which msrun redirects the output of this process
    scheduler_log: path of scheduler.log; None on a host without the scheduler, where ranks cannot report to each other
    """

    FAILED, STOPPED = b"Error: rank ", b"Stopped on request: rank "

    def __init__(self) -> None:
        try:
            self.process_log = Path(os.readlink("/proc/self/fd/1"))
        except OSError:  # not Linux
            self.process_log = Path("unknown")
        path = self.process_log.with_name("scheduler.log")
        # Output to a pipe has no scheduler.log. A scheduler.log on a host without a scheduler is from a previous job.
        is_used = self.process_log.is_absolute() and path.is_file() and _is_this_host(os.environ["MS_SCHED_HOST"])
        self.scheduler_log = path if is_used else None

    def append_own_output(self) -> None:
        """Append the scheduler's own output to scheduler.log, so that lines of other processes are not overwritten."""
        if self.scheduler_log:
            descriptor = os.open(self.scheduler_log, os.O_WRONLY | os.O_APPEND)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)

    def write_exit(self, kind: bytes, reason: str) -> None:
        """Report in scheduler.log that this rank has ended. Only the first rank that ends writes a line.

        kind: JobLog.FAILED or JobLog.STOPPED, the start of the line
        reason: how the rank ended, for example "exited with code 2"
        Without a scheduler.log, the line is written to this rank's own log, which msrun prints too.
        """
        line = f"{kind.decode()}{os.environ.get('RANK_ID', '?')} {reason}. See the rank's log: {self.process_log}\n"
        if self.scheduler_log is None:
            print(line, end="", file=sys.stderr, flush=True)
        elif not self.read_exit():
            with open(self.scheduler_log, "ab", buffering=0) as file:
                file.write(line.encode())

    def read_exit(self) -> bytes | None:
        """Return the first line in scheduler.log that reports the exit of a rank; None if no rank has exited."""
        lines = self.scheduler_log.read_bytes().splitlines() if self.scheduler_log else []
        return next((line for line in lines if line.startswith((self.FAILED, self.STOPPED))), None)


def _is_this_host(host: str) -> bool:
    """Return True if the host name or IP address `host` belongs to this host."""
    try:
        family = socket.getaddrinfo(host, 0)[0][0]
        socket.create_server((host, 0), family=family).close()
        return True
    except OSError:
        return False


def _supervise(child: int, log: JobLog, is_scheduler: bool) -> int:
    """Forward signals to the child process until the child has exited, and return the exit code for msrun.

    child: process id of the child
    log: log through which the ranks of this host report their end
    is_scheduler: True if the child runs MindSpore's scheduler, False if the child runs a rank
    The first signal is forwarded as SIGTERM, the second signal as SIGKILL. The end of msrun counts as the first signal.
    A second SIGHUP is not forwarded, because the kernel and the shell each send one when a terminal is closed.
    """
    signals_received = 0

    def forward_signal(number: int = 0, _: object = None) -> None:
        nonlocal signals_received
        if number == signal.SIGHUP and signals_received:
            return
        signals_received += 1
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM if signals_received == 1 else signal.SIGKILL)

    for number in stop_signals():
        signal.signal(number, forward_signal)
    # Monitor msrun only if it runs with --join=True. Otherwise msrun exits right after it has started the ranks.
    msrun = os.getppid() if _msrun_joins() else None
    msrun_was_killed = False
    log_viewer, find_until = None, time.monotonic() + LOG_VIEWER_SECONDS
    while True:
        if msrun and not (log_viewer or msrun_was_killed) and time.monotonic() < find_until:
            log_viewer = _find_log_viewer(log.process_log, msrun)
        ended, status = os.waitpid(child, os.WNOHANG)
        line = log.read_exit()
        if ended:
            code = os.waitstatus_to_exitcode(status)
            if code and not is_scheduler:
                was_asked = signals_received > 0 or code == INTERRUPTED_EXIT_CODE
                log.write_exit(log.STOPPED if was_asked else log.FAILED, _exit_reason(code, log))
            if msrun_was_killed and log_viewer:
                _stop_log_viewer(*log_viewer)
            return code if code >= 0 else 128 - code
        if is_scheduler and line:
            time.sleep(FAILURE_GRACE_SECONDS)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return int(line.startswith(log.FAILED))
        if msrun and os.getppid() != msrun and not msrun_was_killed:
            msrun_was_killed = True
            if not signals_received:  # batch systems send the same signal to msrun and to this process
                forward_signal()
        time.sleep(POLL_SECONDS)


def _exit_reason(code: int, log: JobLog) -> str:
    """Return the text for an exit code, for example "exited with code 2" or "was killed by SIGKILL".

    code: exit code, or the negative number of the signal that killed the process
    log: log of this process, whose folder shows how many ranks run on this host
    """
    reason = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
    ranks_here = len(list(log.process_log.parent.glob("worker_*.log")))
    # Code 1 is that of MindSpore's errors, for example in a collective. A UserError exits with code 2.
    if code == 1 and ranks_here < int(os.environ.get("MS_WORKER_NUM", 1)):
        reason += ", possibly because a rank on another host failed"
    return reason


def _msrun_joins() -> bool:
    """Return True if msrun, the parent process, runs with --join=True and therefore waits for its child processes."""
    try:
        arguments = Path(f"/proc/{os.getppid()}/cmdline").read_text().split("\0")
    except OSError:
        return False
    pairs = zip(arguments, arguments[1:] + [""])
    return any(f"{name}={value}".lower().startswith("--join=true") for name, value in pairs)


def _find_log_viewer(log: Path, msrun: int) -> tuple[int, str] | None:
    """Find the `tail -f` process with which msrun prints a log to the console.

    Other users may view the same log with the same command, so only a child of msrun is accepted.

    log: path of the log
    msrun: process id of msrun, which must be running
    Returns the process id and the start time of the process, or None if there is no such process.
    """
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            parent, start_time = _parent_and_start_time(int(process.name))
            program, *arguments = (process / "cmdline").read_text().split("\0")
            is_tail = Path(program).name == "tail" and arguments[:1] == ["-f"]
            if parent == msrun and is_tail and (process / "cwd" / arguments[1]).resolve() == log:
                return int(process.name), start_time
    return None


def _stop_log_viewer(process: int, start_time: str) -> None:
    """Stop msrun's `tail -f` process. Otherwise it would run forever and keep the user's pipe open.

    start_time: start time of the process; another process may have received the same id since
    """
    with contextlib.suppress(OSError, IndexError):
        if _parent_and_start_time(process)[1] == start_time:
            os.kill(process, signal.SIGTERM)


def _parent_and_start_time(process: int) -> tuple[int, str]:
    """Return the parent's process id and the start time of a process.

    Raises OSError or IndexError if there is no such process.
    """
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()  # names may contain spaces
    return int(fields[1]), fields[19]


def _kill_when_overdue(supervisor: int, log: JobLog, is_scheduler: bool) -> None:
    """Kill this process if it is still running some seconds after another rank or the supervisor has ended.

    Without this check, the process might wait forever in a collective operation for ranks that have exited.

    supervisor: process id of the supervisor
    log: log through which the ranks of this host report their end
    is_scheduler: True if this process runs MindSpore's scheduler, False if this process runs a rank
    """
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
        print(f"This rank was stopped because another rank failed. {failure}", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def _run_and_exit(main: Callable[[], None], log: JobLog) -> None:
    """Call `main`. If `main` fails, exit without MindSpore's exit handlers, which would wait for other ranks."""
    code = 1
    try:
        return main()
    except SystemExit as error:
        if not error.code:
            raise
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    if code == INTERRUPTED_EXIT_CODE:  # write the line here, because the supervisor may have been killed
        log.write_exit(log.STOPPED, _exit_reason(code, log))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
