"""Start a worker with the library of faults, and send it jobs."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssd.errors import UserError

from .shim import Fault, Mode

ROOT = Path(__file__).resolve().parents[2]
SSD = ROOT / "examples" / "det" / "ssd"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Result of a command.

    code: exit code, negative for a signal; None if the command was killed because it hung
    log: stdout and stderr
    seconds: duration
    trace: kind and path of each call
    where: kind and path of the faulty call; "" if there was none
    """

    code: int | None
    log: str
    seconds: float
    trace: list[str]
    where: str


class Worker:
    """Context manager of a worker process.

    library: path of the compiled shim
    folder: folder below which calls count
    modules: names of modules that the worker loads at its start
    log: file for the output of jobs
    timeout_s: seconds after which a command is killed, because it hangs
    """

    def __init__(self, library: Path, folder: Path, *, modules: Sequence[str], log: Path, timeout_s: int):
        self.log = log
        self.timeout_s = timeout_s
        paths = [str(SSD), str(ROOT / "tools"), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "FAULTS_FOLDER": str(folder),
            "PYTHONPATH": os.pathsep.join(paths),
            "TMPDIR": str(folder / "tmp"),
            "XDG_CACHE_HOME": str(folder / "cache"),
        }
        command = [sys.executable, str(Path(__file__).with_name("worker.py")), *modules]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def run(
        self, script: str, arguments: Sequence[str], *, fault: Fault, folder: Path, setup: str | None = None
    ) -> Outcome:
        """Run a script of examples/det/ssd with a fault, in the current folder `folder`."""
        reply = self._send(script=str(SSD / script), arguments=list(arguments), fault=fault, folder=folder, setup=setup)
        text = self.log.read_text(errors="replace")
        return Outcome(reply["code"], log=text, seconds=reply["seconds"], trace=reply["trace"], where=reply["where"])

    def call(self, function: str, *arguments: Any, folder: Path) -> Any:
        """Return the value of "module:function" of JSON arguments, computed without a fault.

        Raises UserError if the function fails; the message is the last line of its output.
        """
        reply = self._send(call=function, arguments=arguments, fault=Fault(Mode.COUNT), folder=folder)
        if reply["code"]:
            lines = self.log.read_text(errors="replace").strip().splitlines() or ["no output"]
            raise UserError(f"{function}: {lines[-1]}")
        return reply["value"]

    def _send(self, *, fault: Fault, folder: Path, **job: Any) -> dict[str, Any]:
        job |= {"mode": fault.mode, "first": fault.first, "folder": str(folder), "log": str(self.log)}
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({**job, "timeout_s": self.timeout_s}) + "\n")
        self.process.stdin.flush()
        reply = self.process.stdout.readline()
        if not reply:
            raise UserError(f"worker: the process ended with code {self.process.wait()}. Read its output above.")
        return json.loads(reply)
