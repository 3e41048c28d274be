"""Pytest plugin of tools/mutation.py: run the tests for each mutant in one process, and record which mutants survive.

mutmut has replaced each function of the changed files by a switch, which calls the mutant that an environment variable
names. Therefore one process runs all mutants: MindSpore is imported once, and a mutant costs no more than its tests.

The file of the environment variable MUTATION_RUN contains the names of mutants. A line of JSON for each mutant is
appended to the file beside it that ends in .results.
"""

import json
import os
import resource
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import ssd  # noqa: F401  first, because it sets environment variables that MindSpore reads when it loads

# isort: split
import mindspore as ms
import pytest
from _pytest.runner import runtestprotocol
from mutmut.state import state

MUTANT = "MUTANT_UNDER_TEST"  # mutmut's environment variable; empty for the original code
MIN_CPU_SECONDS = 20  # limit for the tests of a mutant; a longer time is an endless loop
CPU_FACTOR = 10  # limit for the tests of a mutant / time of the same tests with the original code
MAX_MEMORY = 8 << 30  # bytes; a mutant may allocate absurd arrays


class EndlessLoopError(BaseException):
    """Raised in a test that exceeds the limit of its time. Not an Exception, because tests may expect exceptions."""


class End(pytest.Item):
    """A test that never runs. As next test, it makes pytest tear down the fixtures of modules."""

    def runtest(self) -> None:
        """Do nothing: pytest demands this method, and never calls it."""


@pytest.fixture(autouse=True)
def pynative_mode(runtime):
    """Run networks without graphs, because MindSpore compiles a graph from the source, which has become a switch."""
    ms.set_context(mode=ms.PYNATIVE_MODE)


def pytest_runtestloop(session: pytest.Session) -> bool:
    """Find out which tests call which function, and run these tests for each mutant of the function."""
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY, MAX_MEMORY))
    signal.signal(signal.SIGVTALRM, _end_loop)
    path = Path(os.environ["MUTATION_RUN"])
    names = json.loads(path.read_text())
    loop = Loop(session)
    loop.run_original(record_calls=True)
    with open(path.with_suffix(".results"), "a") as results:
        for name in names:
            results.write(json.dumps({"name": name, **loop.run_mutant(name)}) + "\n")
            results.flush()
    loop.run_original(record_calls=False)  # a mutant may have left something behind, from which later tests fail
    return True


def _end_loop(*_) -> None:
    raise EndlessLoopError


class Loop:
    """Runs tests repeatedly. session: of pytest, with all collected tests"""

    def __init__(self, session: pytest.Session):
        self.session = session
        self.end = End.from_parent(session, name="end")
        self.seconds: dict[pytest.Item, float] = {}
        self.callers: dict[str, list[pytest.Item]] = {}  # {mutmut's name of a function: tests that call it}

    def run_original(self, record_calls: bool) -> None:
        """Run all tests with the original code. Ends pytest if a test fails."""
        for item in self.session.items:
            start = time.process_time()
            os.environ[MUTANT] = "stats" if record_calls else ""
            state()._stats.clear()
            failure = self._first_failure([item])
            if failure:
                pytest.exit(f"{item.nodeid} fails without a mutant: {failure}", returncode=1)
            if record_calls:
                self.seconds[item] = time.process_time() - start
                for function in state()._stats:
                    self.callers.setdefault(function, []).append(item)

    def run_mutant(self, name: str) -> dict[str, str]:
        """Run the tests that call the function of a mutant until one fails. Returns the status and that test."""
        items = self.callers.get(name.partition("__mutmut_")[0], [])
        if not items:
            return {"status": "not called"}
        seconds = sum(self.seconds[item] for item in items)
        os.environ[MUTANT] = name
        signal.setitimer(signal.ITIMER_VIRTUAL, MIN_CPU_SECONDS + CPU_FACTOR * seconds)
        failure = self._first_failure(sorted(items, key=lambda item: self.seconds[item]))
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        os.environ[MUTANT] = ""
        if failure is None:
            return {"status": "survived"}
        return {"status": "endless" if "EndlessLoopError" in failure else "killed"}

    def _first_failure(self, items: Iterable[pytest.Item]) -> str | None:
        """Run tests until one fails. Returns its traceback, or None if all pass."""
        for item in items:
            for report in runtestprotocol(item, nextitem=self.end, log=False):
                if report.failed:
                    return str(report.longrepr)
        return None
