"""A folder of compiled graphs in one file, which is replaced whole and carries checksums."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
import zipfile
from pathlib import Path

DAYS_UNUSED = 30
BYTES_IN_ALL = 2**30  # a graph of ours takes 0.2 MB; those of accelerators hold kernels too


class GraphArchive:
    """One file for a folder of graphs. path: the file, which need not exist; folder: ours alone, created by unpack"""

    def __init__(self, path: Path, folder: Path):
        self.path = path
        self.folder = folder
        self.packed: list = []

    def unpack(self) -> None:
        """Fill the folder; leave it empty if there is no archive or a damaged one."""
        try:
            with zipfile.ZipFile(self.path) as file:
                file.extractall(self.folder)  # refuses what does not fit its checksum
            os.utime(self.path)  # the time of its last use
        except Exception:  # damage shows in many ways, and none of them may stop a run
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.packed = self._content()

    def pack(self) -> None:
        """Replace the archive by what is in the folder, if that has changed, and drop old archives beside it."""
        content = self._content()
        if not content or content == self.packed:
            return
        aside = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.path.parent, prefix=".unfinished-", delete=False) as stream:
                aside = Path(stream.name)
                with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
                    for name, _, _ in content:
                        file.write(self.folder / name, name)
            os.replace(aside, self.path)
            self.packed = content
            drop_old(self.path.parent)
        except OSError:
            if aside:
                with contextlib.suppress(OSError):
                    aside.unlink()

    def _content(self) -> list:
        """Name, size and time of every file: tells whether MindSpore has written."""
        files = [(path, path.stat()) for path in sorted(self.folder.rglob("*")) if path.is_file()]
        return [(str(path.relative_to(self.folder)), stat.st_size, stat.st_mtime_ns) for path, stat in files]


def drop_old(folder: Path) -> None:
    """Remove archives, and what killed runs left, unused for DAYS_UNUSED, and the oldest beyond BYTES_IN_ALL."""
    files = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process may be doing the same
            files.append((path.stat(), path))
    total = 0
    for stat, path in sorted(files, key=lambda file: file[0].st_mtime, reverse=True):
        total += stat.st_size
        if total > BYTES_IN_ALL or time.time() - stat.st_mtime > DAYS_UNUSED * 86400:
            path.unlink(missing_ok=True)
