"""Sample the memory and the open files of the processes of a job while they run."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from ssd.errors import count_noun
from ssd.runtime.processes import find_process

from .lines import fit_line
from .marked_processes import find_processes, name_ranks

SAMPLE_SECONDS = 5.0  # time between two samples
MIB_PER_PAGE = os.sysconf("SC_PAGE_SIZE") / 2**20
MIN_RISE_MIB, MIN_RISE_FILES = 16.0, 8.0  # smaller rises count as flat


@dataclasses.dataclass
class Life:
    """Samples of one process.

    name: role of the process, for example "rank 0"
    first: time.monotonic() of the first sample
    seconds: (N) times of the samples, counted from the first
    memory_mib: (N) resident memory in MiB
    files: (N) numbers of open files, sockets included
    """

    name: str
    first: float
    seconds: list[float] = dataclasses.field(default_factory=list)
    memory_mib: list[float] = dataclasses.field(default_factory=list)
    files: list[float] = dataclasses.field(default_factory=list)


class Samples:
    """Samples of the processes of one or more jobs; `lives` has one entry for each process."""

    def __init__(self) -> None:
        self.lives: dict[tuple[int, int], Life] = {}  # the keys are process id and start, because ids are used again

    @contextlib.contextmanager
    def watch(self, mark: str, is_ready: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Sample the processes of a job in a thread, until the block ends.

        mark: value of the variable that marks the processes
        is_ready: function that returns True when sampling may start, for example after a compilation
        """
        end = threading.Event()

        def run() -> None:
            while not (end.wait(SAMPLE_SECONDS) or is_ready()):
                pass
            while not end.wait(SAMPLE_SECONDS):
                self.take(mark)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()

    def take(self, mark: str) -> None:
        """Take a sample of each process of a job."""
        for number, name in name_ranks(find_processes(mark)).items():
            process, now = find_process(number), time.monotonic()
            with contextlib.suppress(OSError, ValueError, IndexError):  # the process has ended
                pages = int(Path(f"/proc/{number}/statm").read_text().split()[1])
                files = len(os.listdir(f"/proc/{number}/fd"))
                if process:
                    life = self.lives.setdefault((number, process.started), Life(name, first=now))
                    life.seconds.append(now - life.first)
                    life.memory_mib.append(pages * MIB_PER_PAGE)
                    life.files.append(files)

    def report(
        self, title: str, warm_up_seconds: float, known_growth: Mapping[str, float] = MappingProxyType({})
    ) -> list[str]:
        """Print the lines fitted to memory and open files by role, and return a text for each value that grows.

        title: name of the run, for the texts
        warm_up_seconds: time after the first sample of each process that is left out
        known_growth: {role: growth of its memory in MiB per hour that has a known cause}
        """
        faults = []
        for name in sorted({life.name for life in self.lives.values()}):
            lives = [life for life in self.lives.values() if life.name == name]
            memory = fit_line([(life.seconds, life.memory_mib) for life in lives], warm_up_seconds)
            files = fit_line([(life.seconds, life.files) for life in lives], warm_up_seconds)
            if memory is None or files is None:
                continue
            print(
                f"{title}, {name}: {memory.mean:.0f} MiB, {memory.per_hour:+.1f} ± {memory.error:.1f} MiB/h; "
                f"{files.mean:.0f} open files, {files.per_hour:+.1f} ± {files.error:.1f} per hour; "
                f"{count_noun(memory.processes, 'process', 'processes')}, {60 * memory.hours:.1f} minutes",
                flush=True,
            )
            if memory.grows(MIN_RISE_MIB, known_growth.get(name, 0)):
                faults.append(f"{title}: the memory of {name} grows by {memory.per_hour:.0f} MiB per hour")
            if files.grows(MIN_RISE_FILES):
                faults.append(f"{title}: the open files of {name} grow by {files.per_hour:.0f} per hour")
        return faults
