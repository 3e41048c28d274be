"""A folder in which ascend8p.sh runs with a fake Python, and functions that find out whether processes still run."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The fake runs tools/rank_table.py with the real Python. As a rank, it prints its environment and arguments, and exits.
# These environment variables change that:
#   STAY         the rank and a child process run until a signal arrives
#   DEAF_RANK    rank that ignores signals
#   FAIL_RANK    rank that prints 30 lines and exits with code 7, as soon as all other ranks run
FAKE_PYTHON = f"""#!/bin/bash
[[ $1 != tools/rank_table.py ]] || exec "{sys.executable}" "$@"
echo "device_num $DEVICE_NUM rank_size $RANK_SIZE device_id $DEVICE_ID rank_id $RANK_ID table $RANK_TABLE_FILE"
printf '<%s>' "$@"; echo
if [[ ${{FAIL_RANK-}} == "$RANK_ID" ]]; then
    seq -f 'line %g' 30
    until [[ $(cat train_rank*.log | grep -c child) == $((RANK_SIZE - 1)) ]]; do sleep 0.02; done
    exit 7
fi
[[ -n ${{STAY-}} ]] || exit 0
for name in INT TERM HUP; do
    if [[ ${{DEAF_RANK-}} == "$RANK_ID" ]]; then
        trap "echo ignored $name" "$name"
    else
        trap "echo saved after $name; exit 0" "$name"
    fi
done
sleep 300 &
echo "process $$ child $!"
while :; do wait; done
"""
SETTINGS = ("DEVICE_NUM", "RANK_SIZE", "RANK_TABLE_FILE", "SERVER_INDEX", "GRACE_SECONDS")


class Ascend8pSandbox:
    """A folder with the layout of the repository, where ascend8p.sh is run."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []
        (folder / "bin").mkdir()
        (folder / "bin" / "python").write_text(FAKE_PYTHON)
        (folder / "bin" / "python").chmod(0o755)
        for name in ("tools", "examples"):
            (folder / name).symlink_to(ROOT / name)
        # A copy, because the script changes to its own folder.
        (folder / "ascend8p.sh").write_text((ROOT / "ascend8p.sh").read_text())

    def write_table(self, arguments, out="."):
        """Write a rank table. arguments: of tools/rank_table.py, separated by spaces"""
        command = [sys.executable, str(ROOT / "tools" / "rank_table.py"), "--out", str(self.folder / out)]
        subprocess.run([*command, *arguments.split()], check=True, capture_output=True, timeout=60)

    def start(self, *arguments, cwd=None, **settings):
        """Start the script. settings: environment variables"""
        environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        environment["PATH"] = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        # pytest in the background may ignore SIGINT. Child processes inherit that, but not a handler.
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(
            ["bash", str(self.folder / "ascend8p.sh"), *arguments],
            cwd=cwd or self.folder,
            env=environment | settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a process group, which gets the signals like one of a terminal after Ctrl-C
        )
        signal.signal(signal.SIGINT, handler)
        self.started.append(process)
        return process

    def run(self, *arguments, **settings):
        """Run the script to its end. Returns (exit code, stdout, stderr)."""
        process = self.start(*arguments, **settings)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def log(self, rank):
        return (self.folder / f"train_rank{rank}.log").read_text()

    def wait_for_log(self, ranks, text):
        """Wait until the logs of all ranks contain a text."""
        deadline = time.monotonic() + 30
        for rank in ranks:
            file = self.folder / f"train_rank{rank}.log"
            while not (file.exists() and text in file.read_text()):
                assert time.monotonic() < deadline, f"train_rank{rank}.log has no {text!r} after 30 s"
                time.sleep(0.02)

    def processes(self, ranks):
        return [process for rank in ranks for process in logged_processes(self.log(rank))]


def logged_processes(log):
    """Return the process ids of ranks that stay, and of their child processes."""
    return [int(number) for number in re.findall(r"(?:process|child) (\d+)", log)]


def is_running(process):
    """process: process id"""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return False
    return state != "Z"  # a zombie has exited, but its parent has not yet asked for the exit code


def all_exited(processes):
    """Return True if all processes exit within 10 s: after SIGKILL this may take a moment."""
    deadline = time.monotonic() + 10
    while any(map(is_running, processes)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(is_running, processes))
