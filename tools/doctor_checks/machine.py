"""Access of the checks to a machine: files, environment variables, Python packages and commands."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

MAX_DETAIL_LINES = 12


class CommandResult(NamedTuple):
    """Result of a command.

    problem: how the command failed, for example "exited with code 1"; "" after exit code 0
    output: stdout and stderr together
    """

    problem: str
    output: str


def find_version(package: str) -> str | None:
    """Return the version of an installed Python package without importing it; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def has_module(name: str) -> bool:
    """Return True if Python finds a top-level module. The module is not imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def run_command(command: Sequence[str], environment: Mapping[str, str], timeout: float) -> CommandResult:
    """Run a command, and return its output.

    environment: environment variables of the command
    timeout: seconds after which the command is killed
    """
    try:
        result = subprocess.run(
            list(command),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
        text = output.decode(errors="replace") if isinstance(output, bytes) else output
        return CommandResult(f"did not finish within {timeout:g} s", text)
    except OSError as error:
        return CommandResult(f"could not be started ({error.strerror})", "")
    if result.returncode < 0:
        return CommandResult(f"was killed by {signal.Signals(-result.returncode).name}", result.stdout)
    return CommandResult(f"exited with code {result.returncode}" if result.returncode else "", result.stdout)


@dataclasses.dataclass(frozen=True)
class Machine:
    """The machine to check. Tests replace fields to describe a fake machine.

    root: folder that stands for the root folder
    environment: environment variables
    find_version: function that returns the version of a Python package, or None
    has_module: function that returns True if Python finds a module
    run: function that runs a command, with the arguments of `run_command`
    """

    root: Path = Path("/")
    environment: Mapping[str, str] = dataclasses.field(default_factory=lambda: dict(os.environ))
    find_version: Callable[[str], str | None] = find_version
    has_module: Callable[[str], bool] = has_module
    run: Callable[[Sequence[str], Mapping[str, str], float], CommandResult] = run_command

    def path(self, absolute: str | Path) -> Path:
        """Return the path of a file of the machine. absolute: path on the machine, for example "/dev/davinci0"."""
        return self.root / str(absolute).lstrip("/")

    def read(self, absolute: str | Path) -> str | None:
        """Return the text of a file of the machine; None if the file cannot be read."""
        try:
            return self.path(absolute).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def run_python(self, code: str, timeout: float) -> CommandResult:
        """Run Python code in a process of its own, because broken packages can crash the process."""
        return self.run([sys.executable, "-c", code], self.environment, timeout)

    def find_program(self, name: str, folders: Sequence[str]) -> str | None:
        """Return the path of a program in one of some folders of the machine or on PATH; None if it is missing.

        PATH is searched only if `root` is the real root folder.
        """
        for folder in folders:
            if self.path(f"{folder}/{name}").is_file():
                return str(self.path(f"{folder}/{name}"))
        return shutil.which(name, path=self.environment.get("PATH")) if self.root == Path("/") else None


def read_key(text: str, key: str) -> str | None:
    """Return the value of the first line `key=value` of a text; None if the text has no such line."""
    match = re.search(rf"^[ \t]*{re.escape(key)}[ \t]*=[ \t]*(\S.*?)[ \t\r]*$", text, re.MULTILINE)
    return match[1] if match else None


def last_error(output: str) -> tuple[str, ...]:
    """Return the last lines of the output of a failed Python program, without tracebacks and MindSpore's call stack."""
    text = output.partition("- C++ Call Stack")[0]
    noise = r"\s|[- ]*$|Traceback \(|The above exception|During handling of"  # indented lines are those of tracebacks
    lines = [line.rstrip() for line in text.splitlines() if not re.match(noise, line)]
    return tuple(line for line in lines if line)[-MAX_DETAIL_LINES:]
