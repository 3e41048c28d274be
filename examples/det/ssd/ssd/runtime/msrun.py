"""What a command needs besides msrun: to save before it leaves, and to end with the other ranks and say which failed.

MindSpore 2.10's msrun answers Ctrl-C and the failure of a rank by SIGKILL, and a SIGTERM of its own by leaving its
ranks behind; the rest of a job waits half a minute and more in a collective for a rank that is gone. So the process
that msrun starts is but a stand-in that starts the one which works, in a session of its own, and passes signals on.
If the stand-in is killed, Linux sends the other a SIGTERM, which saves and leaves. And the first rank that ends
before its time says so in scheduler.log, of which msrun shows the lines with `Error`; the processes of that host look
there and end, too. On other hosts MindSpore's scheduler notices in its own time.
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
from pathlib import Path

POLL_SECONDS = 0.2
FAILED_SECONDS = 3  # for ranks that make the same mistake to say so themselves
ASKED_SECONDS = 30  # for ranks that were asked to end to finish their step and save
INTERRUPTED = 130  # exit code of a command that ended as it was asked to


def supervised_by_msrun(main):
    """Make a command's `main()` one rank of a job if msrun started it; else it is only called.

    It comes outside of exit_cleanly, whose exit codes it passes on.
    """

    @functools.wraps(main)
    def wrapper() -> None:
        if os.environ.get("MS_ROLE") not in ("MS_SCHED", "MS_WORKER"):
            return main()
        is_scheduler = os.environ["MS_ROLE"] == "MS_SCHED"
        if is_scheduler and os.environ.get("MS_WORKER_NUM") == "1":  # which needs nobody to bring ranks together
            return None
        log = JobLog()
        if is_scheduler:
            log.share()
        stand_in = os.getpid()
        work = os.fork()
        if work:
            os._exit(_supervise(work, log, is_scheduler))
        os.setsid()
        with contextlib.suppress(OSError, AttributeError):
            # PR_SET_PDEATHSIG. The scheduler stays as long as ranks may need it.
            ctypes.CDLL(None).prctl(1, 0 if is_scheduler else signal.SIGTERM)
        threading.Thread(target=_watch, args=(stand_in, log, is_scheduler), daemon=True).start()
        _work(main, log)

    return wrapper


class JobLog:
    """scheduler.log, as far as it tells all processes of its host how the job ends; without one it tells nothing."""

    FAILED, ASKED = b"Error: rank ", b"asked to end: rank "

    def __init__(self):
        try:
            self.own = Path(os.readlink("/proc/self/fd/1"))
        except OSError:  # not Linux
            self.own = Path("unknown")
        path = self.own.with_name("scheduler.log")
        is_known = self.own.is_absolute() and path.is_file()  # and no pipe, or something left there on another host
        self.path = path if is_known and _is_here(os.environ["MS_SCHED_HOST"]) else None

    def share(self) -> None:
        """Let this process, the scheduler, write behind what others have written."""
        if self.path:
            ours = os.open(self.path, os.O_WRONLY | os.O_APPEND)
            os.dup2(ours, 1)
            os.dup2(ours, 2)

    def write(self, kind: bytes, how: str) -> None:
        """Say that this rank has ended, unless another was first; without scheduler.log in its own log, which msrun
        shows, too. kind: FAILED or ASKED"""
        line = kind.decode() + f"{os.environ.get('RANK_ID', '?')} {how}; its log is {self.own}\n"
        if self.path is None:
            print(line, end="", file=sys.stderr, flush=True)
        elif not self.read():
            with open(self.path, "ab", buffering=0) as file:
                file.write(line.encode())

    def read(self) -> bytes | None:
        """The first line that says such a thing, without its end."""
        lines = self.path.read_bytes().splitlines() if self.path else []
        return next((line for line in lines if line.startswith((self.FAILED, self.ASKED))), None)


def _is_here(host: str) -> bool:
    """Whether an address is one of this host's."""
    try:
        family = socket.getaddrinfo(host, 0)[0][0]
        socket.create_server((host, 0), family=family).close()
        return True
    except OSError:
        return False


def _supervise(work: int, log: JobLog, is_scheduler: bool) -> int:
    """Be what msrun sees of a process -> exit code, when it has ended"""
    asked = []

    def pass_on(*_) -> None:
        asked.append(True)
        with contextlib.suppress(ProcessLookupError):
            os.kill(work, signal.SIGTERM if len(asked) == 1 else signal.SIGKILL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    launcher, was_left = os.getppid() if _launcher_waits() else None, False
    while True:
        ended, status = os.waitpid(work, os.WNOHANG)
        line = log.read()
        if ended:
            code = os.waitstatus_to_exitcode(status)
            if code and not is_scheduler:
                log.write(log.ASKED if asked or code == INTERRUPTED else log.FAILED, _how_it_ended(code, log))
            if was_left:
                _end_tail(log.own)
            return code if code >= 0 else 128 - code
        if is_scheduler and line:
            time.sleep(FAILED_SECONDS)
            os.kill(work, signal.SIGKILL)
            os.waitpid(work, 0)
            return int(line.startswith(log.FAILED))
        if launcher and os.getppid() != launcher and not was_left:  # msrun was killed
            was_left = True
            pass_on()
        time.sleep(POLL_SECONDS)


def _how_it_ended(code: int, log: JobLog) -> str:
    how = f"was ended by {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"
    here = len(list(log.own.parent.glob("worker_*.log")))
    if code == 1 and here < int(os.environ.get("MS_WORKER_NUM", 1)):  # an error of no user, such as MindSpore's
        how += ", perhaps because one on another host was"
    return how


def _launcher_waits() -> bool:
    """Whether msrun was told to wait for its processes; otherwise it ends as soon as it has started them."""
    try:
        words = Path(f"/proc/{os.getppid()}/cmdline").read_text().split("\0")
    except OSError:
        return False
    return any(f"{one}={two}".lower().startswith("--join=true") for one, two in zip(words, words[1:] + [""]))


def _end_tail(log: Path) -> None:
    """End what shows a log on the console: msrun starts `tail -f`, which would keep its user's pipe open."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            program, *words = (path / "cmdline").read_text().split("\0")
            if Path(program).name == "tail" and words[:1] == ["-f"] and (path / "cwd" / words[1]).resolve() == log:
                os.kill(int(path.name), signal.SIGTERM)


def _watch(stand_in: int, log: JobLog, is_scheduler: bool) -> None:
    """End this process some time after it should have ended by itself: it may wait for ranks that are gone."""
    deadline, last_words = float("inf"), None
    while time.monotonic() < deadline:
        line = log.read()
        if line and line.startswith(log.FAILED):
            deadline = min(deadline, time.monotonic() + FAILED_SECONDS)
            last_words = line.decode(errors="replace")
        elif os.getppid() != stand_in or line:
            deadline = min(deadline, time.monotonic() + (FAILED_SECONDS if is_scheduler and line else ASKED_SECONDS))
        time.sleep(POLL_SECONDS)
    if last_words and not is_scheduler:
        print(f"ended, because of another rank: {last_words}", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def _work(main, log: JobLog) -> None:
    """Call `main` and, if it fails, end at once: MindSpore's own farewell waits for ranks that will not answer."""
    code = 1
    try:
        return main()
    except SystemExit as end:
        if not end.code:
            raise
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    if code == INTERRUPTED:  # the stand-in may be gone
        log.write(log.ASKED, _how_it_ended(code, log))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
