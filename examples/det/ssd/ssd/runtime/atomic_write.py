"""Write files and folders atomically: write to a temporary path, then rename to the target path.

The names of temporary folders start with `.unfinished-`. Each temporary folder is on the same disk as its target, so
that the rename is atomic. After a kill, the temporary folder remains until the next process writes the same target.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

PREFIX = ".unfinished-"


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, and rename the written file to `path` if the block succeeds.

    path: path of the final file, which does not change if the block fails
    The temporary path is in its own folder. Everything else that the block writes to that folder is removed.
    Raises OSError if the file cannot be written or renamed.
    """
    folder = path.parent / f"{PREFIX}{path.name}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        yield folder / path.name
        with open(folder / path.name, "rb") as file:
            os.fsync(file.fileno())  # otherwise the disk may store the rename before the content
        os.replace(folder / path.name, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder, which replaces the folder `path` if the block succeeds.

    path: path of the final folder, which does not change if the block fails
    The replacement takes two renames. If Ctrl-C comes between the two, the previous folder is restored at once. If the
    process is killed between the two, the next call with the same path restores the previous folder.
    Raises OSError if a folder cannot be created or renamed.
    """
    scratch = path.parent / f"{PREFIX}{path.name}"
    new, old = scratch / "new", scratch / "old"

    def clean_up() -> None:
        """Restore the previous folder if `path` is missing, and remove the temporary folders."""
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
def work_folder(parent: Path, kind: str = "") -> Iterator[Path]:
    """Yield a temporary folder inside `parent`, for a block that moves each finished file or folder to `parent`.

    parent: folder, which is created if missing; created folders that are empty at the end are removed again
    kind: start of the name of the temporary folder
    Temporary folders of the same kind that killed processes left in `parent` are removed too. Hold the lock of
    `parent`, because temporary folders of running processes would be removed as well.
    Raises OSError if a folder cannot be created.
    """
    created = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    for leftover in parent.glob(f"{PREFIX}{kind}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}", dir=parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        for folder in created:
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()


def move_all(moves: Sequence[tuple[Path, Path]]) -> None:
    """Rename several files or folders, or none of them: if a rename fails or is interrupted, the others are undone.

    moves: present and new path of each file or folder, on one disk; no new path may exist
    Raises OSError if a path cannot be renamed.
    """
    tried: list[tuple[Path, Path]] = []
    try:
        for source, target in moves:
            tried.append((source, target))  # first, because Ctrl-C may come after the rename
            source.rename(target)
    except BaseException:
        for source, target in reversed(tried):
            if os.path.lexists(target) and not os.path.lexists(source):
                with contextlib.suppress(OSError):
                    target.rename(source)
        raise
