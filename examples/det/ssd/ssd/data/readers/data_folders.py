"""Refuse files outside the dataset folder: annotations and links of a downloaded dataset may lead to private files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ...errors import UserError


class DataFolders:
    """The folders that the files of a dataset may lie in.

    Links are followed: a link inside the folders that leads to another place inside them is allowed.

    folders: folders that the user has named, such as --data_path
    follow_links: True allows files anywhere
    """

    def __init__(self, folders: Iterable[Path], *, follow_links: bool = False):
        self.folders = list(folders)
        self.follow_links = follow_links
        self._roots = [os.path.realpath(folder) for folder in self.folders]
        self._real_parents: dict[str, str] = {}  # {folder: path without links}, because datasets have few folders

    def contain(self, path: Path) -> bool:
        """Return whether a file or folder may be read. One that does not exist may be: it is reported as missing."""
        if self.follow_links or not os.path.exists(path):
            return True
        real = self._real_path(path)
        return any(_is_below(real, root) for root in self._roots)

    def require(self, path: Path) -> Path:
        """Return a path. Raises UserError if the file lies outside the folders."""
        if self.contain(path):
            return path
        real = self._real_path(path)
        place = "the file is" if real == os.path.abspath(path) else f"the path leads to {real}, which is"
        raise UserError(
            f"{path}: {place} outside {' and '.join(map(str, self.folders))}. If you trust the dataset, add "
            "--follow_links."
        )

    def _real_path(self, path: Path) -> str:
        """Return os.path.realpath(path), which takes 20 microseconds, in 2 for most paths."""
        parent, name = os.path.split(path)
        if name in ("", ".", "..") or os.path.islink(path):
            return os.path.realpath(path)
        if parent not in self._real_parents:
            self._real_parents[parent] = os.path.realpath(parent)
        return os.path.join(self._real_parents[parent], name)


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)
