"""Write files and folders aside, and move them into place only when they are complete.

Unfinished work stands under names that start with `.unfinished-`, on the same disk as its target, so that the final
rename is atomic. A killed process leaves it behind; the next writer of the same target removes it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = ".unfinished-"


@contextlib.contextmanager
def replace_file(path: Path, writer: str = "") -> Iterator[Path]:
    """Yield a path to write to, and rename it to `path` if the block succeeds; otherwise `path` stays as it was.

    The yielded path has the name of `path` and a folder of its own, so that helper files beside it are removed too.
    writer: tells apart processes that may write the same path at the same time. Raises OSError.
    """
    folder = path.parent / f"{PREFIX}{writer}{path.name}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        yield folder / path.name
        with open(folder / path.name, "rb") as file:
            os.fsync(file.fileno())  # otherwise the rename may reach the disk before the content
        os.replace(folder / path.name, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to fill, and put it in the place of `path` if the block succeeds. Raises OSError.

    On any failure, Ctrl-C included, the folder that stood at `path` stands there again.
    """
    scratch = path.parent / f"{PREFIX}{path.name}"
    shutil.rmtree(scratch, ignore_errors=True)
    new, old = scratch / "new", scratch / "old"
    try:
        new.mkdir(parents=True)
        yield new
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except BaseException:
            if old.exists():
                old.rename(path)
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """Yield a temporary folder inside `parent`, from which finished parts are renamed into `parent`. Raises OSError.

    Folders that had to be created for `parent` are removed again if they are still empty at the end.
    """
    created = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    for leftover in parent.glob(f"{PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        for folder in created:
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()
