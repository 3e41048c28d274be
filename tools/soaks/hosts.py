"""Two network namespaces of Linux that stand for two hosts."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path


class Host:
    """One of two network namespaces that stand for two hosts.

    node_rank: 0 or 1; the scheduler runs on host 0
    prefix: command line that starts a command on this host
    """

    SCHEDULER_ADDRESS = "10.97.31.1"

    def __init__(self, name: str, node_rank: int):
        self.node_rank = node_rank
        self.prefix = ["ip", "netns", "exec", name]


@contextlib.contextmanager
def two_hosts() -> Iterator[list[Host] | None]:
    """Yield two Hosts joined by a virtual cable, or None if this process may not create network namespaces."""
    names = [f"ssd{os.getpid()}{suffix}" for suffix in "ab"]  # an interface name has at most 15 characters

    def ip(arguments: str) -> bool:
        return subprocess.run(["ip", *arguments.split()], capture_output=True).returncode == 0

    def create() -> bool:
        first, second = names
        return (
            shutil.which("ip") is not None
            and all(ip(f"netns add {name}") for name in names)
            and ip(f"link add {first} netns {first} type veth peer {second} netns {second}")
            and all(ip(f"-n {name} addr add 10.97.31.{i}/24 dev {name}") for i, name in enumerate(names, 1))
            and all(ip(f"-n {name} link set {name} up") and ip(f"-n {name} link set lo up") for name in names)
        )

    remove_abandoned_hosts()
    try:
        yield [Host(name, node_rank) for node_rank, name in enumerate(names)] if create() else None
    finally:
        if shutil.which("ip"):
            for name in names:
                ip(f"netns del {name}")


def remove_abandoned_hosts() -> None:
    """Remove the namespaces of processes that were killed before they could do it."""
    for path in Path("/run/netns").glob("ssd*[ab]"):
        process = path.name[len("ssd") : -1]
        if process.isdecimal() and not Path("/proc", process).exists():
            subprocess.run(["ip", "netns", "del", path.name], capture_output=True)
