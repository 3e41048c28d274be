"""Process that has loaded the slow modules once, and runs each command in a forked child with a fault.

A line of JSON on stdin is a job, and a line of JSON on stdout is its result. The process ends when stdin closes. Start
it with LD_PRELOAD and FAULTS_FOLDER, which shim.c describes.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Any

from fault_injection.shim import Fault, LoadedShim, Mode


def main() -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # prints of modules must not mix with the replies
    shim = LoadedShim()
    for module in sys.argv[1:]:
        importlib.import_module(module)
    gc.freeze()  # so that collections in the children do not copy all pages
    for line in sys.stdin:
        json.dump(run_job(json.loads(line), shim), replies)
        replies.write("\n")
        replies.flush()


def run_job(job: dict[str, Any], shim: LoadedShim) -> dict[str, Any]:
    """Run a job in a forked child.

    job:
        script, arguments: script to run as main module, and its arguments; or
        call, arguments: "module:function" and the arguments of its call, whose return value is JSON
        setup: "module:function" that is called before the script, or None
        mode, first: values of Fault
        folder: current folder
        log: path of the file for stdout and stderr
        timeout_s: seconds after which the child is killed
    Returns {"code": exit code, negative for a signal; None if killed, "seconds", "trace", "where", "value"}.
    """
    shim.arm(Fault(Mode(job["mode"]), job["first"]))
    value_path = Path(f"{job['log']}.json")
    value_path.unlink(missing_ok=True)
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _run_child(job, value_path)
    code = _wait(child, started + job["timeout_s"])
    trace, where = shim.trace(), shim.where()
    shim.arm(Fault(Mode.COUNT))
    value = json.loads(value_path.read_text()) if value_path.exists() else None
    return {"code": code, "seconds": time.monotonic() - started, "trace": trace, "where": where, "value": value}


def _wait(child: int, deadline: float) -> int | None:
    """Return the exit code of a child and None if it had to be killed at the deadline, with its own children."""
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _run_child(job: dict[str, Any], value_path: Path) -> None:
    """Run the job in this forked child, and end the process like a command of its own."""
    os.setpgid(0, 0)
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(job["folder"])
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))
    for name in ("stdout", "stderr"):  # as at the start of a process
        setattr(sys, f"__{name}__", getattr(sys, name))
    if job.get("call"):
        try:
            value_path.write_text(json.dumps(_find(job["call"])(*job["arguments"])))
        except Exception as error:  # reported by the client
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    sys.argv = [job["script"], *job["arguments"]]
    if job.get("setup"):
        _find(job["setup"])()
    runpy.run_path(job["script"], run_name="__main__")
    sys.exit(0)


def _find(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


if __name__ == "__main__":
    main()
