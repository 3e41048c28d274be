"""Append to the log files of a training run, on disks that may be full for a while."""

from __future__ import annotations

import errno
import os
from pathlib import Path


class LogFile:
    """Append-only file that keeps what cannot be written in memory, and writes it first the next time.

    On disk there is always a beginning of the written data, so that later data never follow an incomplete record.

    path: path of the file, which is created if missing
    The methods raise OSError if data cannot be written, for example because the disk is full.
    """

    def __init__(self, path: Path):
        self.descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        self.pending = b""

    def write(self, data: bytes) -> None:
        """Add data to the pending data, which `flush` writes."""
        self.pending += data

    def flush(self) -> None:
        if not os.fstat(self.descriptor).st_nlink:
            raise FileNotFoundError(errno.ENOENT, "the file was removed")
        while self.pending:
            self.pending = self.pending[os.write(self.descriptor, self.pending) :]

    def fileno(self) -> int:
        return self.descriptor

    def close(self) -> None:
        """Write the pending data if possible, and close the file. A second call does nothing."""
        if self.descriptor >= 0:
            try:
                self.flush()
            finally:
                descriptor, self.descriptor = self.descriptor, -1
                os.close(descriptor)
