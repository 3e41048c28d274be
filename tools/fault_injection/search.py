"""Run a command once for each file operation, with a fault there."""

from __future__ import annotations

import collections
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from ssd.errors import UserError
from ssd.runtime.progress import Progress

from .client import Outcome, Worker
from .commands import Command
from .inputs import create_inputs
from .judge import last_line, log_problems, result_problems
from .shim import KINDS_OF_MODE, Fault, Mode
from .snapshots import leftovers


class Search:
    """Search for faults that a command does not survive.

    folder: working folder
    library: path of the compiled shim
    timeout_s: seconds after which a command hangs
    """

    def __init__(self, folder: Path, *, library: Path, timeout_s: int):
        self.folder = folder
        self.library = library
        self.timeout_s = timeout_s
        self.inputs, self.live = folder / "inputs", folder / "live"

    def create_inputs(self) -> None:
        create_inputs(self.inputs)

    def run(self, kind: type[Command], modes: Sequence[Mode], *, per_file: int | None) -> int:
        """Run a command with a fault at each chosen call. Prints the results, and returns the number of violations.

        per_file: see choose_calls
        Raises UserError if the command fails without a fault.
        """
        command, template = kind(self.inputs, self.live), self.folder / "template"
        shutil.rmtree(self.live, ignore_errors=True)
        (self.live / "tmp").mkdir(parents=True)
        with Worker(
            self.library, self.live, modules=kind.modules, log=self.folder / "log.txt", timeout_s=self.timeout_s
        ) as worker:
            command.prepare(worker)
            shutil.rmtree(template, ignore_errors=True)
            self.live.rename(template)
            command.restore(template)
            before = command.state(worker)
            outcome = command.run(worker, Fault(Mode.COUNT))
            complete, trace = command.state(worker), outcome.trace
            if outcome.code or before == complete:
                raise UserError(f"{command.name}: failed without a fault: {last_line(outcome)}")
            calls = collections.Counter(call.partition(" ")[0] for call in trace)
            print(f"{command.name}: {', '.join(f'{number} {kind}' for kind, number in calls.items())}", flush=True)
            violations = 0
            for mode in modes:
                affected = [call for call in trace if call.partition(" ")[0] in KINDS_OF_MODE[mode]]
                counts: collections.Counter[str] = collections.Counter()
                chosen = choose_calls(affected, per_file)
                with Progress(len(chosen), f"  {mode.name.lower()}", "calls") as progress:
                    for first in chosen:
                        command.restore(template)
                        outcome = command.run(worker, Fault(mode, first))
                        problems = log_problems(outcome)
                        problems += result_problems(
                            command,
                            outcome,
                            state=command.state(worker),
                            before=before,
                            complete=complete,
                            leftover=leftovers(self.live),
                        )
                        counts[_classify(outcome, problems)] += 1
                        for problem in problems:
                            progress.bar.write(f"  {mode.name.lower()} {first} ({outcome.where}): {problem}")
                        violations += bool(problems)
                        progress.update()
                results = ", ".join(f"{number} {text}" for text, number in sorted(counts.items()))
                print(f"  {mode.name.lower()}: {len(chosen)} of {len(affected)} calls: {results}", flush=True)
        return violations


def choose_calls(calls: Sequence[str], per_file: int | None) -> list[int]:
    """Return the numbers of the calls to try, from 1.

    calls: kind and path of each call
    per_file: number of calls of a kind on files whose paths differ only in digits: the first ones and the last one;
        None for all calls
    """
    groups: dict[str, list[int]] = {}
    for number, call in enumerate(calls, start=1):
        groups.setdefault(re.sub(r"\d+|(?<=predict-)\w+|(?<=run-)\w+|(?<=/tmp)\w+", "0", call), []).append(number)
    if per_file is None:
        return list(range(1, len(calls) + 1))
    return sorted({number for group in groups.values() for number in [*group[: per_file - 1], group[-1]]})


def _classify(outcome: Outcome, problems: Sequence[str]) -> str:
    if problems:
        return "violations"
    if not outcome.where:
        return "without the call"  # the order of calls of threads differs from run to run
    return "went on" if outcome.code == 0 else "ended with the cause"
