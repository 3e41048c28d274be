"""Check early that files can be written to a folder, before the work whose results it receives."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import UserError


def require_writable(folder: Path, *, key: str) -> None:
    """Check that files can be written to a folder, which need not exist yet.

    key: recipe key or option that names the folder, for the message
    Raises UserError if the folder, or the nearest existing parent, is not a writable folder.
    """
    existing = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        reason = "is not writable" if existing.is_dir() else "is not a folder"
        raise UserError(
            f"{key}: files cannot be created in {folder}, because {existing} {reason}. "
            f"Set {'' if key.startswith('--') else '--'}{key} to a writable folder."
        )
