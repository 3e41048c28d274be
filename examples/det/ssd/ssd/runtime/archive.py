"""Archive the files of an earlier run, so that a new run in the same folder never destroys results."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import UserError, os_reason
from .atomic_write import move_all


def archive_files(folder: Path, paths: Sequence[Path], *, key: str) -> Path | None:
    """Move files of an earlier run to a new subfolder earlier-N. Other subfolders that become empty are removed.

    folder: folder of the earlier run
    paths: files or folders in the folder or its subfolders, which keep their path relative to the folder
    key: recipe key or option that names the folder, for messages
    Returns the subfolder, or None if there was nothing to move.
    Raises UserError if a file cannot be moved. All files are then at their previous paths.
    """
    if not paths:
        return None
    number = 1
    while os.path.lexists(folder / f"earlier-{number}"):
        number += 1
    archive = folder / f"earlier-{number}"
    moves = [(path, archive / path.relative_to(folder)) for path in paths]
    try:
        archive.mkdir()
        for _, target in moves:
            target.parent.mkdir(parents=True, exist_ok=True)
        move_all(moves)
    except OSError as error:
        _remove_empty([archive, *archive.rglob("*")])
        raise UserError(
            f"{key}: files of a previous run in {folder} cannot be moved to {archive} ({os_reason(error)}). "
            f"Set {'' if key.startswith('--') else '--'}{key} to another folder."
        ) from None
    _remove_empty({parent for path in paths for parent in path.parents if folder in parent.parents})
    return archive


def _remove_empty(folders: Iterable[Path]) -> None:
    """Remove the empty ones of some folders, and those that become empty."""
    for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()
