"""Find the control groups (cgroups) of this process, with which containers and batch systems limit CPUs and memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

PROC = Path("/proc")


class Cgroup(NamedTuple):
    """Folder with the limits of a cgroup.

    folder: folder of the cgroup
    is_v2: True for cgroup version 2, False for version 1
    """

    folder: Path
    is_v2: bool


def find_cgroups(controller: str, proc: Path = PROC) -> list[Cgroup]:
    """Return the cgroups of this process that may limit a resource, and their parents.

    controller: "cpu" or "memory"
    proc: mount point of the proc file system
    Returns an empty list if the system has no cgroups, or if a sandbox writes other content to the files.
    """
    try:
        memberships = (proc / "self" / "cgroup").read_text()
        mounts = (proc / "self" / "mountinfo").read_text()
        return list(_list_cgroups(controller, memberships, mounts))
    except (OSError, ValueError):
        return []


def _list_cgroups(controller: str, memberships: str, mounts: str) -> Iterator[Cgroup]:
    """Yield the cgroups of a process and their parents. Raises ValueError if a text has another format.

    controller: "cpu" or "memory"
    memberships: content of /proc/PID/cgroup
    mounts: content of /proc/PID/mountinfo
    """
    paths = {}  # {True for the hierarchy of v2 or False for that of the controller in v1: path of the cgroup}
    for line in memberships.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            paths[not controllers] = path
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        is_v2 = kind == "cgroup2"
        if is_v2 not in paths or not (is_v2 or (kind == "cgroup" and controller in options.split(","))):
            continue
        root, mount = map(PurePosixPath, before.split(" ")[3:5])
        cgroup = PurePosixPath(paths[is_v2])
        # In a container, the path may be that of the host. The container then sees only its own cgroup, the mount.
        inside = cgroup.relative_to(root) if cgroup.is_relative_to(root) else PurePosixPath()
        for part in (inside, *inside.parents):
            yield Cgroup(Path(mount / part), is_v2)
