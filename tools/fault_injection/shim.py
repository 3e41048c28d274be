"""Compile the C library of injected faults, and control it in a process that has loaded it."""

from __future__ import annotations

import ctypes
import dataclasses
import enum
import os
import shutil
import subprocess
from pathlib import Path

from ssd.errors import UserError

SOURCE = Path(__file__).with_name("shim.c")
KINDS = ("open", "write", "fsync", "rename", "mkdir", "truncate", "remove", "close")  # order of the enum in shim.c


class Mode(enum.IntEnum):
    """What happens at a counted call; the values are those of shim.c."""

    COUNT = 0
    ERROR = 1  # the call fails with EIO
    FULL = 2  # the call and all later ones fail with ENOSPC, as on a full disk
    SHORT = 3  # the call writes half of the data
    SLOW = 4  # the call takes a second longer


# Kinds of calls that a mode can affect. A full disk still closes, renames and removes files.
KINDS_OF_MODE = {
    Mode.COUNT: KINDS,
    Mode.ERROR: KINDS,
    Mode.FULL: ("open", "write", "fsync", "mkdir"),
    Mode.SHORT: ("write",),
    Mode.SLOW: KINDS,
}


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault at one call.

    mode: kind of fault
    first: number of the first faulty call among the calls that the mode can affect, from 1
    """

    mode: Mode
    first: int = 0

    def __str__(self) -> str:
        return f"{self.mode.name.lower()} at call {self.first}"


def compile_shim(folder: Path) -> Path:
    """Compile the library with the C compiler of the system. Returns the path of the library in `folder`.

    Raises UserError if there is no compiler, or if the compiler fails.
    """
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise UserError("cc: no C compiler was found. Install one, for example with: sudo apt-get install -y gcc")
    library = folder / "shim.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"{SOURCE}: {compiler} cannot compile the file ({reason}). Use GCC or Clang on Linux.")
    return library


class LoadedShim:
    """The library in this process, which was started with LD_PRELOAD."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(os.environ["LD_PRELOAD"])
        self.library.faults_where.restype = self.library.faults_trace.restype = ctypes.c_char_p
        self.library.faults_count.restype = ctypes.c_long
        self.library.faults_trace.argtypes = [ctypes.c_long]
        self.library.faults_arm.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_uint]

    def arm(self, fault: Fault) -> None:
        """Set the counters to zero, and let the fault happen from now on, also in processes forked before."""
        bits = sum(1 << KINDS.index(kind) for kind in KINDS_OF_MODE[fault.mode])
        self.library.faults_arm(fault.mode, fault.first, bits)

    def trace(self) -> list[str]:
        """Return kind and path of each counted call since `arm`, for example "write /folder/last.ckpt"."""
        return [
            self.library.faults_trace(number).decode(errors="replace") for number in range(self.library.faults_count())
        ]

    def where(self) -> str:
        """Return kind and path of the faulty call, or "" if no call was faulty."""
        return self.library.faults_where().decode(errors="replace")
