"""Archive the files of an earlier run, so that a new run in the same folder never destroys results."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError, os_reason


def archive_files(folder: Path, paths: Sequence[Path], *, key: str) -> Path | None:
    """Move files of an earlier run to a new subfolder earlier-N. Other subfolders that become empty are removed.

    folder: folder of the earlier run
    paths: files or folders in the folder or its subfolders, which keep their path relative to the folder
    key: recipe key or option that names the folder, for messages
    Returns the subfolder, or None if there was nothing to move.
    Raises UserError if a file cannot be moved.
    """
    if not paths:
        return None
    number = 1
    while os.path.lexists(folder / f"earlier-{number}"):
        number += 1
    archive = folder / f"earlier-{number}"
    try:
        archive.mkdir()
        for path in paths:
            target = archive / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
    except OSError as error:
        raise UserError(
            f"{key}: files of a previous run in {folder} cannot be moved to {archive} ({os_reason(error)}). "
            f"Set {'' if key.startswith('--') else '--'}{key} to another folder."
        ) from None
    emptied = {parent for path in paths for parent in path.parents if folder in parent.parents}
    for parent in sorted(emptied, key=lambda parent: len(parent.parts), reverse=True):
        with contextlib.suppress(OSError):  # not empty
            parent.rmdir()
    return archive
