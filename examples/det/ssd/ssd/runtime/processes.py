"""Look up other processes of this host in Linux's /proc: parents, start times, and the files that they write to."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Process:
    """A running process of this host.

    number: process id
    parent: process id of the parent
    started: time from the start of the system to the start of the process, in clock ticks
    """

    number: int
    parent: int
    started: int

    def arguments(self) -> list[str]:
        """Return the command line. Raises OSError if the process has ended or belongs to another user."""
        return Path(f"/proc/{self.number}/cmdline").read_text(errors="replace").split("\0")[:-1]

    def environment(self) -> dict[str, str]:
        """Return the environment at the start. Raises OSError if the process has ended or belongs to another user."""
        text = Path(f"/proc/{self.number}/environ").read_text(errors="replace")
        return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)

    def stop(self) -> None:
        """Send SIGTERM to the process, unless it has ended. Another process may have received the same id since."""
        found = find_process(self.number)
        if found and found.started == self.started:  # the parent changes if it ends
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.number, signal.SIGTERM)


def find_process(number: int) -> Process | None:
    """Return the process with an id; None if there is none, or if this system has no /proc."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()  # names may contain spaces
        return Process(number, parent=int(fields[1]), started=int(fields[19]))
    except (OSError, IndexError):
        return None


def list_processes() -> list[Process]:
    """Return the running processes of this host; an empty list if this system has no /proc."""
    numbers = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [process for process in map(find_process, numbers) if process]


def find_log_viewer(log: Path, msrun: int) -> Process | None:
    """Find the `tail -f` process with which msrun prints a log to the console.

    Other users may view the same log with the same command, so only a child of msrun is accepted.

    log: path of the log
    msrun: process id of msrun, which must be running
    """
    for process in list_processes():
        with contextlib.suppress(OSError, IndexError):
            if process.parent == msrun:
                program, option, path, *_ = [*process.arguments(), "", "", ""]
                folder = Path(os.readlink(f"/proc/{process.number}/cwd"))
                if Path(program).name == "tail" and option == "-f" and (folder / path).resolve() == log:
                    return process
    return None


def find_earlier_writers(log: Path) -> list[Process]:
    """Return the processes that have their standard output in a file and started before this process, first one first.

    The ancestors of this process, such as a shell script, are left out.
    """
    processes = {process.number: process for process in list_processes()}
    own = ancestor = processes.get(os.getpid())
    if own is None:
        return []
    while ancestor:
        ancestor = processes.pop(ancestor.number, None) and processes.get(ancestor.parent)
    found = []
    for process in processes.values():
        with contextlib.suppress(OSError):
            is_writer = os.path.samestat(os.stat(f"/proc/{process.number}/fd/1"), os.stat(log))
            if is_writer and (process.started, process.number) < (own.started, own.number):
                found.append(process)
    return sorted(found, key=lambda process: (process.started, process.number))
