"""The doctor's checks of versions, and its access to packages and commands."""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import pytest

from doctor_checks import versions
from doctor_checks.compatibility import ACCEPTED_CANN, expected_cann, expected_driver, major_minor
from doctor_checks.finding import FAULT, OK, WARNING
from doctor_checks.machine import CommandResult, Machine, has_module, last_error, run_command


def test_accepted_cann_is_that_of_the_installed_mindspore():
    package = Path(importlib.util.find_spec("mindspore").origin).parent
    tree = ast.parse((package / "run_check" / "_check_version.py").read_text())
    (checker,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "AscendEnvChecker"]
    values = [
        ast.literal_eval(node.value)
        for node in ast.walk(checker)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "self.version"
    ]
    assert values == [list(ACCEPTED_CANN["2.10"])]


def test_versions_that_were_published_together():
    assert expected_cann("2.10.0") == ("8.2", "8.3", "8.5", "9.0", "9.1")
    assert expected_cann("2.7.1") == ("8.3",) and expected_cann("2.9.1") == ("9.0",)
    assert expected_cann("2.7.9") == ("8.5", "8.3", "8.2")
    assert expected_cann("1.9.0") == () and expected_cann("") == ()
    assert expected_driver("8.3.RC2") == "25.3.RC1" and expected_driver("9.1.0") == "26.0.RC1"
    assert expected_driver("8.4") == "25.3.RC1" and expected_driver("7.6") is None
    assert major_minor("24.1.rc2.2") == (24, 1) and major_minor("none") is None


def test_pins_are_read_from_pyproject():
    pins = versions.read_pins()
    assert pins["numpy"] == "1.26.4" and pins["mindspore"] == "2.10.0" and pins["opencv-python-headless"]
    assert "pytest" not in pins and "torch" not in pins


@pytest.mark.parametrize("version, status", [((3, 9), FAULT), ((3, 10), OK), ((3, 12), OK), ((3, 13), FAULT)])
def test_python(version, status):
    assert versions.check_python(version).status == status


def test_other_versions_than_the_pinned_ones():
    installed = {"numpy": "1.25.0", "opencv-python-headless": "4.12.0.88", "mindspore": "2.10.0", "tqdm": "4.70.1"}
    machine = Machine(find_version=installed.get)
    pins = {"numpy": "1.26.4", "opencv-python-headless": "4.11.0.86", "mindspore": "2.10.0", "tqdm": "4.70.1"}
    findings = versions.check_packages(machine, {**pins, "simplejpeg": "1.9.0", "pyyaml": "6.0.3"})
    assert [(finding.status, finding.what) for finding in findings] == [
        (WARNING, "numpy"),
        (WARNING, "opencv-python-headless"),
        (OK, "mindspore"),
        (WARNING, "simplejpeg"),
        (FAULT, "packages"),
        (OK, "other packages"),
    ]
    assert "NumPy 2" in findings[1].advice and "pyyaml" in findings[4].found and "1 package " in findings[5].found


def test_errors_that_mindspore_only_logs_are_a_warning():
    code = "print('[ERROR] a'); print('[WARNING] b'); print('[CRITICAL] c')"
    machine = Machine(run=lambda command, *rest: run_command([sys.executable, "-c", code], *rest))
    finding = versions.check_computation(machine, "Ascend")
    assert finding.status == WARNING and finding.details == ("[ERROR] a", "[CRITICAL] c")


def test_computation_runs_on_the_npu_of_the_training():
    codes = []
    for device, variables in (("Ascend", {}), ("Ascend", {"DEVICE_ID": "3"}), ("CPU", {"DEVICE_ID": "3"})):
        run = lambda command, *rest: codes.append(command[-1]) or CommandResult("", "")  # noqa: E731
        assert versions.check_computation(Machine(environment=variables, run=run), device).status == OK
    assert [re.search(r"set_device\((.*?)\)", code)[1] for code in codes] == ["'Ascend'", "'Ascend', 3", "'CPU'"]
    finding = versions.check_computation(Machine(environment={"DEVICE_ID": "0,1"}), "Ascend")
    assert (finding.status, finding.what, finding.found) == (FAULT, "DEVICE_ID", "'0,1'")


def test_run_command():
    def run(code, timeout=60):
        return run_command([sys.executable, "-c", code], {"NAME": "value"}, timeout)

    assert run("import os; print(os.environ['NAME'])") == ("", "value\n")
    assert run("import sys; print('out', flush=True); sys.exit('err')") == ("exited with code 1", "out\nerr\n")
    assert run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)").problem == "was killed by SIGSEGV"
    slow = run("import time; print('started', flush=True); time.sleep(60)", timeout=2)
    assert "2 s" in slow.problem and slow.output == "started\n"
    assert "could not be started" in run_command(["/nowhere"], {}, 1).problem


def test_has_module():
    assert has_module("json") and not has_module("no_such_module")


def test_last_error_leaves_out_tracebacks():
    output = "Traceback (most recent):\n  File x\n    f()\nValueError: a\n\nThe above exception was …\nOSError: b\n"
    assert last_error(output) == ("ValueError: a", "OSError: b")
    assert last_error("a\n----\n- C++ Call Stack: (x)\nb.cc:1\n") == ("a",)
    assert last_error("") == () and len(last_error("a\n" * 99)) == 12
