"""Read the memory that this host, and a container on the host, leave to this process."""

from __future__ import annotations

import resource
from pathlib import Path

from ..errors import UserError
from .cgroups import PROC, find_cgroups


def available_host_memory(proc: Path = PROC) -> int | None:
    """Return the memory in bytes that this process can use, or None if the system does not report it.

    The value is the minimum of the memory that the kernel reports as available, the limits of the cgroups of this
    process, and what `ulimit -v` leaves of its address space.

    proc: mount point of the proc file system
    """
    values = [_available_memory(proc / "meminfo"), *_cgroup_limits(proc), _free_address_space(proc / "self" / "statm")]
    return min((value for value in values if value is not None), default=None)


def _available_memory(meminfo: Path) -> int | None:
    """Return MemAvailable in bytes, or None if the file or the value is missing."""
    try:
        values = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return int(values["MemAvailable"].removesuffix("kB")) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _cgroup_limits(proc: Path) -> list[int]:
    """Return the memory limits in bytes of the cgroups of this process and of their parents."""
    limits = []
    for folder, is_v2 in find_cgroups("memory", proc):
        try:
            limits.append(int((folder / ("memory.max" if is_v2 else "memory.limit_in_bytes")).read_text()))
        except (OSError, ValueError):  # no such file, or "max" for no limit
            continue
    return limits


def require_memory(path: Path, num_bytes: int) -> None:
    """Raise UserError if reading a file may take more memory than is available. The system would end the process.

    num_bytes: memory that is needed
    """
    available = available_host_memory()
    if available is not None and num_bytes > available:
        raise UserError(
            f"{path}: reading the file may take {num_bytes / 2**30:,.1f} GiB of memory, but {available / 2**30:,.1f} "
            "GiB are available. Use a smaller file, or a machine with more memory."
        )


def _free_address_space(statm: Path) -> int | None:
    """Return the bytes that this process may still map, or None without a limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        return max(limit - int(statm.read_text().split()[0]) * resource.getpagesize(), 0)
    except (OSError, IndexError, ValueError):
        return limit
