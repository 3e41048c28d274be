"""Jobs started by msrun, and all processes that belong to them."""

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def free_port() -> int:
    """A port for msrun's scheduler."""
    while True:
        port = random.randrange(20000, 32000)  # below those that systems give out themselves
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Host:
    """Two network namespaces joined by a cable stand for two hosts. rank: 0 or 1; enter: what starts commands there"""

    master = "10.97.31.1"

    def __init__(self, name: str, rank: int):
        self.rank = rank
        self.name = name
        self.enter = ["ip", "netns", "exec", name]


@contextlib.contextmanager
def two_hosts():
    """-> two Hosts, or None where this process may not make them"""
    names = [f"ssd{os.getpid()}{end}" for end in "ab"]  # an interface has at most 15 letters

    def ip(*words):
        return subprocess.run(["ip", *words], capture_output=True).returncode == 0

    try:
        made = shutil.which("ip") and all(ip("netns", "add", name) for name in names)
        cable = ["link", "add", names[0], "netns", names[0], "type", "veth", "peer", names[1], "netns", names[1]]
        made = made and ip(*cable)
        for number, name in enumerate(names, 1):
            made = made and ip("-n", name, "addr", "add", f"10.97.31.{number}/24", "dev", name)
            made = made and ip("-n", name, "link", "set", name, "up") and ip("-n", name, "link", "set", "lo", "up")
        yield [Host(name, rank) for rank, name in enumerate(names)] if made else None
    finally:
        for name in names:
            ip("netns", "del", name)


class Job:
    """One msrun. log_dir: for its logs; mark: value of a variable by which all of its processes are known"""

    def __init__(self, log_dir, words, join=True, workers=2, host=None, **environment):
        """words: the command that ranks run; host: a Host to start it on, as one of two"""
        self.log_dir = log_dir
        self.mark = uuid.uuid4().hex
        launch = ["msrun", "--worker_num", workers, "--log_dir", log_dir, f"--join={join}"]
        if host:
            launch = [*host.enter, *launch, "--local_worker_num", 1, "--node_rank", host.rank]
            launch += ["--master_addr", host.master, "--master_port", 8118]
        else:
            launch += ["--local_worker_num", workers, "--master_port", free_port()]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        # A background pytest may ignore SIGINT, and what is ignored is inherited; a handler is not.
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.console = open(log_dir.parent / f"{log_dir.name}.console", "w+")
        self.process = subprocess.Popen(
            [*map(str, launch), "python", *map(str, words)],
            env={**os.environ, "PATH": path, "JOB_MARK": self.mark, **environment},
            cwd=log_dir.parent,
            stdin=subprocess.DEVNULL,
            stdout=self.console,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its process group is what Ctrl-C in a terminal reaches
        )
        signal.signal(signal.SIGINT, handler)

    def log(self, name) -> str:
        path = self.log_dir / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def logs(self) -> str:
        """Of all processes and the console, for messages of tests."""
        said = [f"--- {path.name}\n{path.read_text()}" for path in sorted(self.log_dir.glob("*.log"))]
        return "\n".join([*said, "--- console", self.said()])

    def said(self) -> str:
        self.console.flush()
        return Path(self.console.name).read_text()

    def wait_for(self, text, ranks=(0,), seconds=150):
        deadline = time.monotonic() + seconds
        while not all(re.search(text, self.log(f"worker_{rank}")) for rank in ranks):
            assert time.monotonic() < deadline, f"ranks never said {text!r}\n{self.logs()}"
            time.sleep(0.05)

    def end(self, seconds) -> float:
        """Wait until nothing of it is left -> seconds that took"""
        start = time.monotonic()
        while self.process.poll() is None or self.processes():
            if time.monotonic() > start + seconds:
                left = self.processes()
                self.kill()
                raise AssertionError(f"after {seconds} s there are still {left}\n{self.logs()}")
            time.sleep(0.05)
        return time.monotonic() - start

    def kill(self):
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait()

    def processes(self) -> dict[int, str]:
        """Those that run: their numbers, and msrun, tail, or role and rank, as in "MS_WORKER 1"."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                settings = dict(one.split("=", 1) for one in (path / "environ").read_text().split("\0") if "=" in one)
                is_dead = (path / "stat").read_text().rpartition(") ")[2][0] == "Z"
                if settings.get("JOB_MARK") == self.mark and not is_dead:
                    words = [Path(word).name for word in (path / "cmdline").read_text().split("\0")]
                    role = f"{settings.get('MS_ROLE')} {settings.get('RANK_ID')}"
                    found[int(path.name)] = next((name for name in ("msrun", "tail") if name in words[:2]), role)
        return found

    def of_rank(self, rank) -> tuple[int, int]:
        """The process that msrun started as a rank, and the one which that started to do its work."""
        stand_in, work = sorted(one for one, name in self.processes().items() if name == f"MS_WORKER {rank}")
        return stand_in, work
