"""The report of doctor.py for fake machines, and its command on this machine."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from doctor_machines import HOME, with_environment, write_file, write_rank_table

import doctor
from doctor_checks.finding import FAULT, NOT_APPLICABLE, OK, WARNING, Finding, format_finding, summarize
from doctor_checks.machine import CommandResult

TOOL = Path(__file__).resolve().parents[2] / "tools" / "doctor.py"
# Output of MindSpore 2.10 on a machine without CANN.
NO_GE_RUNNER = """\
Traceback (most recent call last):
  File "<string>", line 1, in <module>
    MSContext.get_instance().set_device_target_inner(device_target)
RuntimeError: Unsupported device target Ascend. This process only supports one of the ['CPU'].

----------------------------------------------------
- Device load error message:
----------------------------------------------------
Load dynamic library: libmindspore_ascend.so.2 failed. libge_runner.so: cannot open shared object file
----------------------------------------------------
- C++ Call Stack: (For framework developers)
----------------------------------------------------
mindspore/core/utils/ms_context.cc:291 SetDeviceTargetFromInner
"""


@pytest.fixture
def examine(monkeypatch, tmp_path):
    """examine(machine) returns the findings; the folder of ascend8p.sh is tmp_path."""
    monkeypatch.setattr(doctor, "ROOT", tmp_path)

    def run(machine, device=None):
        return [finding for _, section in doctor.examine(machine, device) for finding in section]

    return run


def faults(findings):
    return {finding.what: finding for finding in findings if finding.status == FAULT}


def test_healthy_910b_has_no_fault(machine, examine):
    findings = examine(machine)
    assert not faults(findings)
    found = {finding.what: finding.found for finding in findings if finding.status == OK}
    assert found["CANN"].startswith("8.5.0") and found["driver"] == "25.5.0" and "2 x 910B3" in found["npu-smi"]
    assert found["firmware"] == "7.8.0.2.212 of release 25.5.0" and "(0 1)" in found["/dev/davinci*"]
    assert {"MindSpore on CPU", "MindSpore on Ascend", "Python modules of CANN", "environment variables"} <= set(found)


def test_missing_hccl_names_its_wheel(machine, examine):
    machine = dataclasses.replace(machine, has_module=lambda name: name != "hccl")
    (fault,) = faults(examine(machine)).values()
    assert "hccl" in fault.what and f"{HOME}/lib64/hccl-*.whl" in fault.advice


def test_wrong_cann_lists_the_versions_of_this_mindspore(machine, examine):
    write_file(machine.root, f"{HOME}/compiler/version.info", "Version=7.6.0.1.220\n")
    write_file(machine.root, f"{HOME}/version.cfg", "runtime_running_version=[7.6.0.1.220:8.0.0]\n")
    (fault,) = faults(examine(machine)).values()
    assert fault.what == "CANN" and "8.0.0" in fault.found
    assert "8.2, 8.3, 8.5, 9.0 or 9.1" in fault.expected and "CANN 9.1" in fault.advice


def test_stale_table_in_the_environment_is_a_fault(machine, examine):
    write_rank_table(machine.root / "table.json", "192.168.100.101", "192.168.101.99")
    machine = with_environment(machine, RANK_TABLE_FILE="/table.json")
    (fault,) = faults(examine(machine)).values()
    assert fault.what == "RANK_TABLE_FILE" and "device 1" in fault.found
    assert "192.168.101.99" in fault.found and "192.168.101.101" in fault.found
    assert "unset RANK_TABLE_FILE" in fault.advice and "O2" in fault.advice


def test_stale_table_of_ascend8p_is_a_warning(machine, examine, tmp_path):
    write_rank_table(tmp_path / "hccl_2p_01_127.0.0.1.json", "192.168.100.101", "192.168.101.99")
    findings = examine(machine)
    (warning,) = [finding for finding in findings if finding.status == WARNING]
    assert warning.what == "rank table" and "hccl_2p_01_127.0.0.1.json" in warning.found
    assert "tools/rank_table.py" in warning.advice and not faults(findings)


@pytest.fixture
def cpu_machine(tmp_path, machine):
    """A host without NPU and CANN, on which MindSpore computes on the CPU only."""

    def run(command, environment, timeout):
        return CommandResult("exited with code 1", NO_GE_RUNNER) if "Ascend" in command[-1] else CommandResult("", "")

    root = tmp_path / "cpu"
    write_file(root, "/dev/shm/file", "")
    return dataclasses.replace(machine, root=root, environment={}, has_module=lambda name: False, run=run)


def test_without_npu_ascend_is_not_applicable(cpu_machine, examine):
    findings = examine(cpu_machine)
    assert not faults(findings)
    assert [finding.what for finding in findings if finding.status == NOT_APPLICABLE] == ["NPU"]


def test_missing_npu_is_a_fault_if_ascend_is_selected(cpu_machine, examine):
    found = faults(examine(cpu_machine, "Ascend"))
    assert {"/dev/davinci*", "driver", "CANN", "Python module te", "Python module sympy"} <= set(found)
    # MindSpore's own words are kept, without tracebacks and its call stack.
    details = "\n".join(found["MindSpore on Ascend"].details)
    assert "libge_runner.so" in details and "Unsupported device target" in details
    assert "Traceback" not in details and "ms_context.cc" not in details


def test_npus_are_not_checked_if_the_cpu_is_selected(machine, examine):
    machine = dataclasses.replace(machine, has_module=lambda name: False, environment={})
    assert not faults(examine(machine, "CPU")) and faults(examine(machine))


def test_broken_numpy_is_reported_with_its_message(cpu_machine, examine):
    pinned = cpu_machine.find_version
    cpu_machine = dataclasses.replace(
        cpu_machine,
        find_version=lambda name: "2.2.6" if name == "numpy" else pinned(name),
        run=lambda *_: CommandResult("exited with code 1", "ImportError: numpy.core.multiarray failed to import\n"),
    )
    found = faults(examine(cpu_machine))
    assert set(found) == {"numpy", "MindSpore on CPU"}
    assert found["numpy"].found == "2.2.6" and "numpy==1.26.4" in found["numpy"].advice
    assert found["MindSpore on CPU"].details == ("ImportError: numpy.core.multiarray failed to import",)


def test_missing_packages_start_no_computation(cpu_machine, examine):
    machine = dataclasses.replace(cpu_machine, find_version=lambda name: None, run=None)
    (fault,) = faults(examine(machine)).values()
    assert "mindspore, mindcv, numpy" in fault.found and "pip install" in fault.advice


def test_report_text():
    finding = Finding(FAULT, what="CANN", found="7.6", expected="8.2", advice="Install CANN 8.2.", details=("a", "b"))
    assert format_finding(finding, None) == (
        "fault    CANN: 7.6, expected 8.2. Install CANN 8.2.\n         | a\n         | b"
    )
    assert format_finding(Finding(OK, what="CANN", found="8.5 in /usr/local"), width=24) == (
        "ok       CANN: 8.5 in\n         /usr/local"
    )
    ok, warning = Finding(OK, what="", found=""), Finding(WARNING, what="", found="")
    assert summarize([ok]) == "no faults" and summarize([ok, warning]) == "no faults, 1 warning"
    assert summarize([finding, finding, warning]) == "2 faults, 1 warning"


def run_command(*arguments):
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_command_finds_no_fault_on_this_machine():
    result = run_command("--device", "CPU")
    assert result.returncode == 0 and result.stderr == "", result.stdout + result.stderr
    assert result.stdout.splitlines()[-1].startswith("no faults")
    assert "MindSpore on CPU" in result.stdout and "1.26.4" in result.stdout


def test_exit_code_is_1_on_a_fault(monkeypatch, capsys, cpu_machine):
    monkeypatch.setattr(doctor, "Machine", lambda: cpu_machine)
    for arguments, code in (([], 0), (["--device", "Ascend"], 1), (["--device_target", "Ascend"], 1)):
        monkeypatch.setattr(sys, "argv", ["doctor.py", *arguments])
        with pytest.raises(SystemExit) as stop:
            doctor.main()
        assert stop.value.code == code, capsys.readouterr().out


def test_recipe_keys_without_a_recipe_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["doctor.py", "--batch_size", "8"])
    with pytest.raises(SystemExit) as stop:
        doctor.main()
    message = capsys.readouterr().err
    assert stop.value.code == 2 and "--batch_size" in message and "--config" in message
