"""Tell the process that prints for all processes of a launch."""

from __future__ import annotations

import os


def is_main_process() -> bool:
    """Return True if this process is rank 0, or was not launched as one of several processes.

    MindSpore's scheduler, which msrun starts besides the ranks, is not the main process.
    """
    # RANK_ID alone may be left in the shell by another launch.
    is_launched = "MS_ROLE" in os.environ or os.environ.get("RANK_SIZE", "") not in ("", "1")
    is_scheduler = os.environ.get("MS_ROLE") == "MS_SCHED"
    return not is_launched or (not is_scheduler and os.environ.get("RANK_ID", "0") in ("", "0"))
