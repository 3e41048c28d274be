"""Write files and folders aside, and move them into place only when they are complete.

Unfinished work has a name that starts with `.unfinished-` and is on the same disk as its target, so that the final
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
    """Yield a path to write to. Rename it to `path` if the block succeeds; otherwise `path` stays as it was.

    writer: distinguishes processes that may write the same path at the same time
    The yielded path is in a folder of its own, so that files which the block writes beside it are removed too.
    Raises OSError.
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
    """Yield an empty folder to fill. Put it in the place of `path` if the block succeeds; otherwise `path` stays.

    The folder that was at `path` also returns after Ctrl-C or a kill between the two renames; after a kill, when the
    next writer of `path` starts. Raises OSError.
    """
    scratch = path.parent / f"{PREFIX}{path.name}"
    new, old = scratch / "new", scratch / "old"

    def clean_up() -> None:
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(scratch, ignore_errors=True)

    clean_up()
    try:
        new.mkdir(parents=True)
        yield new
        if path.exists():
            path.rename(old)
        new.rename(path)
    finally:
        clean_up()


@contextlib.contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """Yield a temporary folder inside `parent`. The block renames the parts it has finished into `parent`.

    Folders that had to be created for `parent` are removed again if they are still empty at the end. Raises OSError.
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
