"""Graceful shutdown and failure propagation for msrun jobs.

MindSpore 2.10's msrun kills its ranks with SIGKILL on Ctrl-C and when one rank fails. On SIGTERM, msrun exits and its
ranks keep running. If a rank exits, the other ranks wait for it in a collective for half a minute or longer. If the
scheduler exits, ranks that have not connected wait for minutes.

Therefore, each process that msrun starts becomes a supervisor process. The supervisor forks a child that runs the
command in its own session, and forwards signals to the child. If the supervisor is killed, Linux sends SIGTERM to the
child, which saves its state and exits. The first process that ends early appends a line to scheduler.log. All processes
on that host read the line and exit too. msrun prints the line if it contains `Error`. Ranks on other hosts exit when
MindSpore's scheduler detects the missing rank.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable

from ..errors import UserError
from ..startup import INTERRUPTED_EXIT_CODE
from .job_log import JobLog
from .launch import number_of_msrun_ranks
from .supervisor import (
    FAILURE_GRACE_SECONDS,
    POLL_SECONDS,
    SHUTDOWN_GRACE_SECONDS,
    Supervisor,
    exit_reason,
    refuse_scheduler,
)

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
        log = JobLog(is_scheduler)
        error = _find_launch_error(log, is_scheduler)
        if error:
            if not (is_scheduler and error in (log.read_exit() or "")):  # otherwise scheduler.log has the line already
                print(f"error: {error}", file=sys.stderr, flush=True)
            os._exit(2)
        if is_scheduler and os.environ.get("MS_WORKER_NUM") == "1":  # a single worker needs no scheduler
            return None
        supervisor = os.getpid()
        child = os.fork()
        if child:
            os._exit(Supervisor(child, log, is_scheduler).run())
        os.setsid()
        with contextlib.suppress(OSError, AttributeError):  # not Linux
            # The scheduler gets no signal, because ranks may still need it after its supervisor was killed.
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, 0 if is_scheduler else signal.SIGTERM)
        threading.Thread(target=_kill_when_overdue, args=(supervisor, log, is_scheduler), daemon=True).start()
        _run_and_exit(main, log)

    return wrapper


def _find_launch_error(log: JobLog, is_scheduler: bool) -> str | None:
    """Return a line on why this process cannot take part in the job, or None. log: log of this process"""
    try:
        number_of_msrun_ranks()
        log.refuse_other_job()
    except UserError as error:
        return str(error)
    return refuse_scheduler(log) if is_scheduler else None


def _kill_when_overdue(supervisor: int, log: JobLog, is_scheduler: bool) -> None:
    """Kill this process if it is still running some seconds after another process or the supervisor has ended.

    Without this check, the process might wait forever in a collective operation for ranks that have exited.

    supervisor: process id of the supervisor
    log: log through which the processes of this host report their end
    is_scheduler: True if this process runs MindSpore's scheduler, False if this process runs a rank
    """
    deadline, failure = float("inf"), None
    while time.monotonic() < deadline:
        line = log.read_exit()
        if line and line.is_failed_rank:
            deadline = min(deadline, time.monotonic() + FAILURE_GRACE_SECONDS)
            failure = line
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
        log.write_exit(JobLog.STOPPED, exit_reason(code, log))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
