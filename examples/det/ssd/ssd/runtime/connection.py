"""Let the supervisor of a rank report that the rank waits for other ranks.

While MindSpore 2.10 connects the ranks, it blocks all Python threads of the rank. So the supervisor prints the line. It
reads the state of the rank from memory that both processes share.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import time
from collections.abc import Iterator

WAITING_SECONDS = 10  # ranks usually connect within 3 s
NOT_CONNECTING, CONNECTING, CONNECTED = range(3)

_state = mmap.mmap(-1, 1)  # shared with processes that are forked later


@contextlib.contextmanager
def connecting() -> Iterator[None]:
    """Tell the supervisor, if there is one, that the block connects this rank to the other ranks."""
    _state[0] = CONNECTING
    yield
    _state[0] = CONNECTED


class WaitingReport:
    """Print a line, once, if the child has been connecting for more than WAITING_SECONDS."""

    def __init__(self) -> None:
        self.deadline: float | None = None

    def update(self) -> None:
        """Print the line if it is due. The supervisor calls this several times a second."""
        if _state[0] != CONNECTING:
            return
        self.deadline = self.deadline or time.monotonic() + WAITING_SECONDS
        if time.monotonic() < self.deadline:
            return
        self.deadline = float("inf")
        values = [os.environ.get(f"MS_{name}", "?") for name in ("WORKER_NUM", "SCHED_HOST", "SCHED_PORT")]
        print(
            f"launch: still waiting for {values[0]} ranks or their scheduler at {values[1]}:{values[2]}. Check that "
            "msrun runs on all hosts, and check its --worker_num, --local_worker_num, --master_addr and --master_port. "
            "If msrun did not start this process, run: unset MS_ROLE",
            file=sys.stderr,
            flush=True,
        )
