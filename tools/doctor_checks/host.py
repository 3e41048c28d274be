"""Checks of the host: CPU kernels, shared memory, disk, open files and clock."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import resource
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import ssd

from .finding import FAULT, NOT_APPLICABLE, OK, WARNING, Finding
from .machine import Machine

GB = 10**9
MIN_SHARED_MEMORY = 1 * GB  # bytes; Docker's default is 64 MB
MIN_FREE_DISK = 10 * GB  # bytes in the working folder, if no recipe says where checkpoints are written
MIN_OPEN_FILES = 4096
CLOCK_TOLERANCE = 60  # seconds by which the clock of a file server may be ahead
MAX_FILE_AGE = 10 * 365 * 86400  # seconds; older packages than this mean a clock far in the future
# Values of ONEDNN_MAX_CPU_ISA that keep oneDNN from its AVX-512 kernels.
ISA_BELOW_AVX512 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2")


def check_cpu_kernels(machine: Machine, device: str) -> Finding:
    """Check which kernels oneDNN uses for convolutions on the CPU.

    device: "CPU" or "Ascend", the device that trains
    """
    what = "CPU kernels"
    if "avx512f" not in (machine.read("/proc/cpuinfo") or "").split():
        return Finding(OK, what=what, found="oneDNN chooses them; this CPU has no AVX-512")
    isa = machine.environment.get("ONEDNN_MAX_CPU_ISA", "AVX2")  # ssd/__init__.py sets this default
    if isa.upper() in ISA_BELOW_AVX512:
        return Finding(OK, what=what, found=f"oneDNN's {isa} kernels, which are fast; ONEDNN_MAX_CPU_ISA={isa}")
    advice = (
        "Run `unset ONEDNN_MAX_CPU_ISA`. On AVX-512 CPUs, MindSpore 2.10 otherwise computes convolutions with oneDNN's "
        "reference kernels, about a hundred times slower."
    )
    status = WARNING if device == "CPU" else NOT_APPLICABLE
    return Finding(status, what=what, found=f"ONEDNN_MAX_CPU_ISA={isa}", expected="AVX2", advice=advice)


def check_shared_memory(size: int | None) -> Finding:
    """Check /dev/shm. size: its size in bytes, or None if it does not exist"""
    advice = (
        "Start the container with a larger one, for example `docker run --shm-size=8g`. HCCL and processes of "
        "MindSpore's data loader exchange data there."
    )
    if size is None:
        return Finding(WARNING, what="shared memory", found="no /dev/shm", advice=advice)
    found = f"{size / GB:.1f} GB in /dev/shm"
    if size < MIN_SHARED_MEMORY:
        expected = f"at least {MIN_SHARED_MEMORY / GB:g} GB"
        return Finding(WARNING, what="shared memory", found=found, expected=expected, advice=advice)
    return Finding(OK, what="shared memory", found=found)


def disk_size(folder: Path) -> int | None:
    """Return the size in bytes of the disk of a folder; None if the folder does not exist."""
    return shutil.disk_usage(folder).total if folder.is_dir() else None


def check_free_disk(free: int, folder: Path) -> Finding:
    """Check the disk of the working folder. free: free space in bytes; folder: the working folder"""
    found = f"{free / GB:.1f} GB free in {folder}"
    if free < MIN_FREE_DISK:
        expected = f"at least {MIN_FREE_DISK / GB:g} GB"
        advice = "Free some space, or set ckpt_save_dir to another disk. With --config, the need is computed."
        return Finding(WARNING, what="disk", found=found, expected=expected, advice=advice)
    return Finding(OK, what="disk", found=found)


def open_file_limit() -> int:
    """Return the maximum number of open files of this process."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def check_open_files(limit: int) -> Finding:
    """Check the limit of open files. limit: number of files, negative for no limit"""
    if 0 <= limit < MIN_OPEN_FILES:
        advice = "Run `ulimit -n 65536` before training. Data threads, shards and sockets of all ranks need files."
        expected = f"at least {MIN_OPEN_FILES:,}"
        return Finding(WARNING, what="open files", found=f"{limit:,}", expected=expected, advice=advice)
    return Finding(OK, what="open files", found="no limit" if limit < 0 else f"limit of {limit:,}")


def package_files() -> list[Path]:
    """Return the source files of this project and a file of MindSpore, whose times are those of the installation."""
    files = list(Path(ssd.__file__).parent.rglob("*.py"))
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        files.append(Path(str(importlib.metadata.distribution("mindspore").locate_file("mindspore/version.py"))))
    return files


def newest_time(files: Iterable[Path]) -> float:
    """Return the latest modification time of some files in seconds since 1970; 0 if no file exists."""
    return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)


def check_clock(newest: float, now: float | None = None) -> Finding:
    """Compare the clock with the times of files, because the newest checkpoint is found by its time.

    newest: modification time of the newest installed file or checkpoint, in seconds since 1970
    now: time of the clock, in seconds since 1970; None for the current time
    """
    now = time.time() if now is None else now
    texts = [f"{datetime.datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}" for seconds in (now, newest)]
    advice = (
        "Set the clock, for example with `timedatectl set-ntp true`. Training finds the newest checkpoint by its time."
    )
    if now < newest - CLOCK_TOLERANCE:
        found, expected = f"{texts[0]}, before the newest file", f"at least {texts[1]}"
        return Finding(FAULT, what="clock", found=found, expected=expected, advice=advice)
    if now > newest + MAX_FILE_AGE:
        found = f"{texts[0]}, ten years after the newest file"
        return Finding(WARNING, what="clock", found=found, expected=f"a time close to {texts[1]}", advice=advice)
    return Finding(OK, what="clock", found=f"{texts[0]}, later than all installed files")
