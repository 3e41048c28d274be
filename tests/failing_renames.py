"""Let the rename of a file or folder fail, as on a damaged disk."""

import errno
from pathlib import Path


def fail_to_rename(name, monkeypatch, *, after=False, error=None):
    """Let the first Path.rename of a path with this name raise an error.

    after: True to rename the path first, as when Ctrl-C comes after the rename
    error: exception to raise; None for an OSError
    """
    rename, failures = Path.rename, []

    def fail(source, target):
        if source.name == name and not failures:
            failures.append(source)
            if after:
                rename(source, target)
            raise error or OSError(errno.EIO, "Input/output error")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", fail)
