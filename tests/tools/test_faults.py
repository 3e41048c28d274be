"""Tests of tools/faults.py: the library lets calls fail, and violations are recognized."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from fault_injection.client import Outcome
from fault_injection.judge import log_problems
from fault_injection.search import choose_calls
from fault_injection.shim import Fault, Mode, compile_shim
from ssd.errors import UserError

SCRIPT = """
import json, os, sys
from fault_injection.shim import Fault, LoadedShim, Mode
shim = LoadedShim()
results = []
for mode, first in json.loads(sys.argv[1]):
    folder = os.path.join(os.environ["FAULTS_FOLDER"], str(len(results)))
    shim.arm(Fault(Mode(mode), first))
    error = ""
    try:
        os.mkdir(folder)
        for name in ("a", "b"):
            descriptor = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT)
            written = os.write(descriptor, b"12345678")
            error = error or str(written)
            os.close(descriptor)
        os.rename(f"{folder}/a", f"{folder}/c")
    except OSError as caught:
        error = caught.strerror
    results.append([error, shim.where().replace(folder, ""), [call.replace(folder, "") for call in shim.trace()]])
open(os.environ["FAULTS_FOLDER"] + "-elsewhere", "w").write("not below the folder")
json.dump(results, sys.stdout)
"""
CALLS = ["mkdir ", "open /a", "write /a", "close /a", "open /b", "write /b", "close /b", "rename /c"]


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_chosen_call_fails_and_all_are_counted(tmp_path):
    library, folder = compile_shim(tmp_path), tmp_path / "watched"
    folder.mkdir()
    environment = {**os.environ, "LD_PRELOAD": str(library), "FAULTS_FOLDER": str(folder)}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    faults = [(Mode.COUNT, 0), (Mode.ERROR, 8), (Mode.ERROR, 4), (Mode.FULL, 2), (Mode.SHORT, 1), (Mode.ERROR, 9)]
    command = [sys.executable, "-c", SCRIPT, json.dumps(faults)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    none, rename, close, full, short, late = json.loads(result.stdout)
    assert none == late == ["8", "", CALLS]
    assert rename == ["Input/output error", "rename /c", CALLS]
    assert close == ["Input/output error", "close /a", CALLS[:4]]
    assert full == ["No space left on device", "open /a", ["mkdir ", "open /a"]]
    assert short == ["4", "write /a", ["write /a", "write /b"]]


def test_a_missing_compiler_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(UserError, match="^cc: "):
        compile_shim(tmp_path)


def test_calls_are_chosen_by_kind_and_name():
    calls = ["open /a/1", "write /a/1", "write /a/1", "write /a/2", "write /b", "open /a/3"]
    assert choose_calls(calls, None) == [1, 2, 3, 4, 5, 6]
    assert choose_calls(calls, 1) == [4, 5, 6]
    assert choose_calls(calls, 2) == [1, 2, 4, 5, 6]
    assert str(Fault(Mode.FULL, 3)) == "full at call 3"


@pytest.mark.parametrize(
    "code, log, is_fine",
    [
        (0, "done\n", True),
        (2, "error: out: cannot be written (no space left on device).\n", True),
        (2, "error: out: nothing is wrong with the disk.\n", False),
        (2, "error: a (input/output error)\nerror: b (input/output error)\n", False),
        (1, "", False),
        (0, "Traceback (most recent call last)\n", False),
        (-11, "", False),
        (None, "", False),
    ],
)
def test_violations(code, log, is_fine):
    assert (log_problems(Outcome(code, log=log, seconds=1, trace=[], where="")) == []) == is_fine
