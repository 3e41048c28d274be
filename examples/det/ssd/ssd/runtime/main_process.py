"""Tell the process that prints for all processes of a launch."""

from __future__ import annotations

import os

from ..startup import is_launched


def is_main_process() -> bool:
    """Return True if this process is rank 0, or was not launched as one of several processes.

    MindSpore's scheduler, which msrun starts besides the ranks, is not the main process.
    """
    if not is_launched():  # RANK_ID alone may be left in the shell by another launch
        return True
    return os.environ.get("MS_ROLE") != "MS_SCHED" and os.environ.get("RANK_ID", "0") in ("", "0")
