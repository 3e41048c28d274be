"""Read the memory that this host, and a container on the host, leave to this process."""

from __future__ import annotations

from pathlib import Path


def available_host_memory(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the memory in bytes that new allocations of this process can use, or None if the system does not say.

    The value is the smaller one of the memory that the kernel counts as available and the limits of the control groups
    (cgroups) of this process. Containers and batch systems limit the memory with cgroups, of version 1 or 2.

    proc: mount point of the proc file system
    cgroups: mount point of the cgroup file systems
    """
    values = [_available_memory(proc / "meminfo"), *_cgroup_limits(proc / "self" / "cgroup", cgroups)]
    return min((value for value in values if value is not None), default=None)


def _available_memory(meminfo: Path) -> int | None:
    """Return MemAvailable in bytes, or None if the file or the value is missing."""
    try:
        values = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return int(values["MemAvailable"].removesuffix("kB")) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _cgroup_limits(memberships: Path, cgroups: Path) -> list[int]:
    """Return the memory limits in bytes of the cgroups of this process and of their parents.

    Inside a container, the listed path of a cgroup may not exist. The limit is then at the mount point, a parent.

    memberships: file with a line "ID:CONTROLLERS:PATH" for each cgroup of this process
    cgroups: mount point of the cgroup file systems
    """
    limits = []
    try:
        lines = memberships.read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2 has a single hierarchy
            root, name = cgroups, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = cgroups / "memory", "memory.limit_in_bytes"
        else:
            continue
        folder = root / path.strip("/")
        for place in (folder, *folder.parents):
            if not place.is_relative_to(root):
                break
            try:
                limits.append(int((place / name).read_text()))
            except (OSError, ValueError):  # no such file, or "max" for no limit
                continue
    return limits
