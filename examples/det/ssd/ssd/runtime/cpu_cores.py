"""Compute the number of CPU cores that each rank may use, for example for its data loading threads.

A rank may run on the cores of its affinity mask. `taskset` and containers give all ranks the same mask, whereas
`msrun --bind_core=True` gives each rank its own. Therefore the ranks exchange their masks, and each core is divided by
the ranks of the same host whose masks contain the core. A cgroup may also limit the CPU time of its processes.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import math
import os
import platform
from collections.abc import Collection, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from .cgroups import PROC, find_cgroups

MAX_CORES = 8192  # maximum of Linux (CONFIG_NR_CPUS); a fixed number, so that all ranks send messages of one shape


@dataclasses.dataclass(frozen=True)
class CpuLimits:
    """CPU cores that one rank may use.

    host: number that identifies the host
    cores: indices of the cores in the affinity mask
    quota: CPU time that the cgroup grants, in cores; infinity without a limit
    cgroup: number that identifies the cgroup with this quota on the host, which other ranks may share; 0 without one
    """

    host: int
    cores: Collection[int]
    quota: float = math.inf
    cgroup: int = 0


def share_of_cores(rank: int, limits: Sequence[CpuLimits]) -> float:
    """Compute the number of cores that a rank may use without competing with other ranks.

    rank: index of the rank, 0..len(limits) - 1
    limits: limits of all ranks
    Returns the share in cores, above 0, not rounded.
    """
    own = limits[rank]
    same_host = [other for other in limits if other.host == own.host]
    ranks_on_core = collections.Counter(core for other in same_host for core in other.cores)
    share = float(sum(Fraction(1, ranks_on_core[core]) for core in own.cores))
    ranks_in_cgroup = sum(other.cgroup == own.cgroup for other in same_host)
    return min(share, own.quota / ranks_in_cgroup)


def available_cores() -> float:
    """Return the number of cores that this process may use if no other rank runs on the host."""
    return share_of_cores(0, [read_cpu_limits()])


def pack_limits(limits: CpuLimits) -> np.ndarray:
    """Pack limits into a message of fixed size.

    Returns (N,) int32: the bits of host (int64), cgroup (int64), quota (float64) and of one bit per core.
    """
    mask = np.zeros(MAX_CORES, np.uint8)
    mask[list(limits.cores)] = 1
    numbers = np.array([limits.host, limits.cgroup], np.int64), np.array([limits.quota], np.float64)
    return np.concatenate([part.view(np.int32) for part in (*numbers, np.packbits(mask))])


def unpack_limits(message: np.ndarray) -> CpuLimits:
    """Restore limits from a message that `pack_limits` returned."""
    message = np.ascontiguousarray(message, np.int32)
    host, cgroup = message[:4].view(np.int64).tolist()
    (quota,) = message[4:6].view(np.float64).tolist()
    cores = np.flatnonzero(np.unpackbits(message[6:].view(np.uint8)))
    return CpuLimits(host=host, cores=frozenset(cores.tolist()), quota=quota, cgroup=cgroup)


def read_cpu_limits() -> CpuLimits:
    """Read the limits of this process."""
    try:
        host = Path("/proc/sys/kernel/random/boot_id").read_text()  # containers of a host have equal ids
    except OSError:
        host = platform.node()
    quota, cgroup = min(cgroup_quotas(), default=(math.inf, 0))
    return CpuLimits(
        host=int.from_bytes(hashlib.sha256(host.encode()).digest()[:8], "little", signed=True),
        cores=os.sched_getaffinity(0),
        quota=quota,
        cgroup=cgroup,
    )


def cgroup_quotas(proc: Path = PROC) -> Iterator[tuple[float, int]]:
    """Find the CPU quotas of the cgroups that contain this process, and of their parent cgroups.

    proc: mount point of the proc file system
    Yields (quota in cores, inode of the cgroup's folder) for each quota.
    """
    for folder, is_v2 in find_cgroups("cpu", proc):
        try:
            if is_v2:
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if quota != "max" and int(quota) > 0:  # v1 writes -1 for no limit
                yield int(quota) / int(period), folder.stat().st_ino
        except (OSError, ValueError):
            continue  # the root cgroup has no quota


def worker_count(num_parallel_workers: int, num_cores: float | None = None) -> int:
    """Return the number of data loading threads of one device, at least 1.

    num_parallel_workers: requested number of threads; the result is at most num_cores, rounded down
    num_cores: number of CPU cores of this device's process; None for all cores that the process may use
    """
    return max(1, min(num_parallel_workers, int(available_cores() if num_cores is None else num_cores)))
