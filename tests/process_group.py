"""Kill processes that a test has started in a session of their own."""

import contextlib
import os
import signal
import subprocess


def kill_group(process: subprocess.Popen) -> None:
    """Kill a process and its children, which may have ended already, and wait for the process."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
