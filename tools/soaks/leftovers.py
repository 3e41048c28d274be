"""Find what a job left behind: temporary files, shared memory, sockets, and unfinished files in its folders."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

SHARED_FOLDERS = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))
SYSTEM_V = ("shm", "sem", "msg")  # tables of System V IPC in /proc/sysvipc
UNFINISHED = (".unfinished-*", "run-*", "*.lock", "core", "core.*", "*.tmp")  # names in folders of results
# States of sockets that belong to a process: ESTABLISHED, SYN_SENT, SYN_RECV, CLOSE_WAIT, LISTEN. The kernel keeps
# closed sockets in other states for a minute.
OPEN_STATES = {"01", "02", "03", "08", "0A"}
FIRST_GROUP, GROUPS = 61000, 4000  # group ids that no system assigns


def use_own_group() -> None:
    """Give this process and its children a group id of their own if it runs as root.

    Files in /tmp are then known by their group, also while other programs write there. Otherwise, all new files of the
    user count.
    """
    if os.geteuid() == 0:
        os.setgid(FIRST_GROUP + os.getpid() % GROUPS)


class Leftovers:
    """Everything in the shared places of this machine that this process and its children create from now on."""

    def __init__(self) -> None:
        self.before = self._find_files() | self._find_ipc()

    def find(self) -> list[str]:
        """Return a text for each temporary file and each System V object that was created and is still there."""
        return sorted((self._find_files() | self._find_ipc()) - self.before)

    def _find_files(self) -> set[str]:
        """Return the entries of the shared folders that belong to the user and the group of this process."""
        found = set()
        for folder in {*SHARED_FOLDERS, Path(tempfile.gettempdir())}:
            for path in folder.iterdir() if folder.is_dir() else ():
                with contextlib.suppress(FileNotFoundError):
                    state = path.lstat()
                    if (state.st_uid, state.st_gid) == (os.geteuid(), os.getegid()):
                        found.add(f"{path} is a temporary file")
        return found

    def _find_ipc(self) -> set[str]:
        found = set()
        for kind in SYSTEM_V:
            with contextlib.suppress(OSError):  # not in this kernel
                header, *rows = Path("/proc/sysvipc", kind).read_text().splitlines()
                for row in rows:
                    fields = dict(zip(header.split(), row.split()))
                    if (fields["cuid"], fields["cgid"]) == (str(os.geteuid()), str(os.getegid())):
                        found.add(f"{kind} {fields[kind + 'id']} is a System V object")
        return found


def find_unfinished(folder: Path) -> list[str]:
    """Return a text for each temporary file, lock or core dump below a folder of results."""
    paths = {path for pattern in UNFINISHED for path in folder.rglob(pattern)}
    return [f"{path} is an unfinished file" for path in sorted(paths)]


def find_sockets(port: int, prefix: Sequence[str] = ()) -> list[str]:
    """Return a text for each TCP socket that is still open.

    port: port of the scheduler; on this machine, only sockets of this port count
    prefix: command line that starts a command in a network namespace, where all sockets count; empty for this machine
    """
    tables = ["/proc/net/tcp", "/proc/net/tcp6"]
    text = subprocess.run([*prefix, "cat", *tables], capture_output=True, text=True).stdout
    found = []
    for fields in (line.split() for line in text.splitlines()):
        if fields[0] == "sl" or fields[3] not in OPEN_STATES:
            continue
        ports = [int(address.rpartition(":")[2], 16) for address in fields[1:3]]
        if prefix or port in ports:
            found.append(f"the socket of port {ports[0]} to port {ports[1]} is open, in state {fields[3]}")
    return found
