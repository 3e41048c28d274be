"""The rank table launch in a folder of its own, with a stand-in for Python; and whether processes have ended."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Checks of the table are real. A rank writes what it was given. With STAY it stays, with a child, until a signal comes,
# which the rank DEAF does not heed. The rank FAIL_RANK says thirty lines, and ends with code 7 when the others stay.
STAND_IN = f"""#!/bin/bash
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
    if [[ ${{DEAF-}} == "$RANK_ID" ]]; then
        trap "echo heard $name" "$name"
    else
        trap "echo saved after $name; exit 0" "$name"
    fi
done
sleep 300 &
echo "process $$ child $!"
while :; do wait; done
"""


class Launch:
    """A folder that looks like the root of the repository, and runs of the script in it."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []
        (folder / "bin").mkdir()
        (folder / "bin" / "python").write_text(STAND_IN)
        (folder / "bin" / "python").chmod(0o755)
        for name in ("tools", "examples"):
            (folder / name).symlink_to(ROOT / name)
        # A copy, because the script works where it lies.
        (folder / "ascend8p.sh").write_text((ROOT / "ascend8p.sh").read_text())

    def write_table(self, *words, out="."):
        command = [sys.executable, str(ROOT / "tools" / "rank_table.py"), "--out", str(self.folder / out), *words]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    def start(self, *words, cwd=None, **settings):
        ours = ("DEVICE_NUM", "RANK_SIZE", "RANK_TABLE_FILE", "SERVER_INDEX", "GRACE_SECONDS")
        environment = {name: value for name, value in os.environ.items() if name not in ours}
        environment["PATH"] = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        # A background pytest may ignore SIGINT, and what is ignored is inherited; a handler is not.
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(
            ["bash", str(self.folder / "ascend8p.sh"), *words],
            cwd=cwd or self.folder,
            env=environment | settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # its process group is what Ctrl-C in a terminal reaches
        )
        signal.signal(signal.SIGINT, handler)
        self.started.append(process)
        return process

    def run(self, *words, **settings):
        """(code, stdout, stderr) of a whole run."""
        process = self.start(*words, **settings)
        said, complained = process.communicate(timeout=60)
        return process.returncode, said, complained

    def log(self, rank):
        return (self.folder / f"train_rank{rank}.log").read_text()

    def wait_for(self, ranks, text):
        deadline = time.monotonic() + 30
        for rank in ranks:
            file = self.folder / f"train_rank{rank}.log"
            while not (file.exists() and text in file.read_text()):
                assert time.monotonic() < deadline, f"rank {rank} never said {text!r}"
                time.sleep(0.02)

    def processes(self, ranks):
        return [process for rank in ranks for process in processes_of(self.log(rank))]


def processes_of(log):
    """The processes of ranks that stay: themselves and their children."""
    return [int(number) for number in re.findall(r"(?:process|child) (\d+)", log)]


def is_alive(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return False
    return state != "Z"  # dead, and its new parent, the system's first process, has not looked yet


def all_gone(processes):
    """Whether all have ended; killed ones may need a moment after the script has."""
    deadline = time.monotonic() + 10
    while any(map(is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(is_alive, processes))
