"""Lock folders, so that two runs never write to the same folder at the same time.

The lock is an flock on a hidden file in the folder. Linux releases it when the process ends, also after SIGKILL, so a
file that a killed process left does not block anybody. The file contains the host, the process id and the command of
its owner, for the message to the second process.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import UserError, os_reason

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
MAX_VANISHED = 10  # attempts to lock a folder that other processes remove
MAX_COMMAND = 100  # maximum number of characters of a command in a message

_held: set[int] = set()  # descriptors of the locks of this process


def _close_in_child() -> None:
    """Close the locks of the parent. Otherwise a forked child that outlives its parent would keep them."""
    for descriptor in _held:
        _close(descriptor)
    _held.clear()


def _close(descriptor: int) -> None:
    """Close a lock file. Linux closes it even if the call fails, for example because NFS could not store the owner."""
    with contextlib.suppress(OSError):
        os.close(descriptor)


os.register_at_fork(after_in_child=_close_in_child)


@contextlib.contextmanager
def lock_folder(folder: Path, key: str, *, lock_file: Path | None = None, wait_s: float = 0) -> Iterator[None]:
    """Hold the lock of a folder inside the block. Locks of different keys on one folder do not exclude each other.

    folder: folder to lock, which is created if missing; created folders that are empty at the end are removed again
    key: recipe key or option that names the folder, for messages and the name of the lock file
    lock_file: path of the lock file; None for a hidden file in the folder
    wait_s: seconds to wait for another process that holds the lock
    If the file system has no locks, a warning is logged and the block runs without a lock. The block also runs without
    a lock in a folder that cannot be written to, because the block itself reports that.
    Raises UserError if another process holds the lock.
    """
    path = lock_file or folder / f".{key.lstrip('-')}.lock"
    created = [parent for parent in (path.parent, *path.parent.parents) if not parent.exists()]
    descriptor = _acquire(path, folder=folder, key=key, deadline=time.monotonic() + wait_s)
    try:
        yield
    finally:
        if descriptor in _held:  # not in a forked child, and not without a lock
            _held.remove(descriptor)
            with contextlib.suppress(OSError):
                path.unlink()  # before the lock is released: `_acquire` ignores a lock on a removed file
            _close(descriptor)
        for parent in created:
            with contextlib.suppress(OSError):  # not empty
                parent.rmdir()


def _acquire(path: Path, *, folder: Path, key: str, deadline: float) -> int | None:
    """Lock a file, and write the owner to it. Returns its descriptor, or None if the file cannot be locked.

    path: path of the lock file, which is created if missing
    folder, key: folder and its name for messages
    deadline: time.monotonic() until which to wait for another process
    Raises UserError if another process holds the lock.
    """
    vanished = 0
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            vanished += isinstance(error, FileNotFoundError)
            if isinstance(error, FileNotFoundError) and vanished < MAX_VANISHED:
                continue  # another process has just removed the folder, which was empty
            _warn_unlocked(path, folder=folder, key=key, error=error)
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                _held.add(descriptor)
                _write_owner(descriptor)
                return descriptor
            # Otherwise the previous owner has just removed the file. Another process may have created it again.
        except BlockingIOError:
            if time.monotonic() >= deadline:
                advice = "Wait until it ends, or choose another folder."
                raise UserError(f"{key}: {folder} is in use by {_read_owner(descriptor)}. {advice}") from None
            time.sleep(POLL_SECONDS)
        except FileNotFoundError:
            pass  # removed between the two checks of the file
        except OSError as error:
            _warn_unlocked(path, folder=folder, key=key, error=error)
            return None
        finally:
            if descriptor not in _held:
                _close(descriptor)


def _warn_unlocked(path: Path, *, folder: Path, key: str, error: OSError) -> None:
    """Log a warning that a folder has no lock, unless the folder cannot be written to anyway."""
    if os.access(path.parent, os.W_OK | os.X_OK):
        log.warning(f"{key}: {folder} cannot be locked ({os_reason(error)}). Start no second run that writes to it.")


def _write_owner(descriptor: int) -> None:
    owner = {"host": platform.node(), "process": os.getpid(), "command": " ".join(sys.argv)}
    with contextlib.suppress(OSError):  # a full disk, or the file of another user
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(owner).encode(), 0)
        os.fchmod(descriptor, 0o666)  # after a kill, other users of a shared folder can take the lock over


def _read_owner(descriptor: int) -> str:
    """Return a text with process, host and command of the owner of a lock file, for messages."""
    try:
        owner = json.loads(os.pread(descriptor, 2**16, 0))
        command = " ".join(str(owner["command"]).split())  # one line
        command = command if len(command) <= MAX_COMMAND else f"{command[:MAX_COMMAND]}…"
        return f"process {owner['process']} on host {owner['host']} ({command})"
    except (OSError, ValueError, TypeError, KeyError):  # the owner has not written the file yet
        return "another process"
