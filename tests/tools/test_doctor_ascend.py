"""The doctor's checks of Ascend hardware and CANN on fake machines."""

import dataclasses

import pytest
from doctor_machines import HOME, NPU_SMI, with_environment, write_file

from doctor_checks import ascend, cann
from doctor_checks.finding import FAULT, NOT_APPLICABLE, OK, WARNING


def test_missing_manager_file_is_a_fault(machine):
    machine.path("/dev/devmm_svm").unlink()
    (finding,) = ascend.check_devices(machine)
    assert finding.status == FAULT and "/dev/devmm_svm" in finding.found and "--device" in finding.advice


def test_device_files_without_permission_are_a_fault(machine, monkeypatch):
    monkeypatch.setattr(ascend.os, "access", lambda path, mode: path.name != "davinci1")
    (finding,) = ascend.check_devices(machine)
    assert finding.status == FAULT and finding.what == "/dev/davinci1" and "HwHiAiUser" in finding.advice


@pytest.mark.parametrize("visible, status", [("1", OK), ("0, 1", OK), ("1,2", FAULT), ("", FAULT), ("all", FAULT)])
def test_visible_devices(machine, visible, status):
    finding = ascend.check_devices(with_environment(machine, ASCEND_RT_VISIBLE_DEVICES=visible))[-1]
    assert finding.what == "ASCEND_RT_VISIBLE_DEVICES" and finding.status == status


@pytest.mark.parametrize("health, status", [("Warning", WARNING), ("Alarm", FAULT), ("Critical", FAULT)])
def test_unhealthy_npu(machine, health, status):
    output = NPU_SMI.replace("910B3               | OK     ", f"910B3               | {health:7}", 1)
    write_file(machine.root, "/usr/local/sbin/npu-smi", f"#!/bin/sh\ncat <<'END'\n{output}END\n")
    finding = ascend.check_npu_smi(machine)
    assert finding.status == status and f"NPU 0 {health}" in finding.found and "NPU 1" not in finding.found


def test_npu_smi_that_fails_or_is_missing_is_a_warning(machine):
    write_file(machine.root, "/usr/local/sbin/npu-smi", "#!/bin/sh\necho dcmi module initialize failed; exit 255\n")
    finding = ascend.check_npu_smi(machine)
    assert finding.status == WARNING and finding.details == ("dcmi module initialize failed",)
    machine.path("/usr/local/sbin/npu-smi").unlink()
    assert ascend.check_npu_smi(machine).status == WARNING


def test_driver_older_than_cann_is_a_warning(machine):
    path = "/usr/local/Ascend/driver/version.info"
    for version, status in (("24.1.rc3", WARNING), ("25.5.0", OK), ("26.0.rc1", OK)):
        write_file(machine.root, path, f"Version={version}\n")
        driver, _ = ascend.check_driver(machine, "8.5.0")
        assert driver.status == status and version in driver.found


def test_driver_folder_is_that_of_the_installation(machine):
    write_file(machine.root, "/etc/ascend_install.info", "Driver_Install_Path_Param=/opt/Ascend\n")
    (missing,) = ascend.check_driver(machine, "8.5.0")
    assert missing.status == FAULT and "/opt/Ascend/driver/version.info" in missing.found
    write_file(machine.root, "/opt/Ascend/driver/lib64/libascend_hal.so", "")  # a container with mounted libraries
    (missing,) = ascend.check_driver(machine, "8.5.0")
    assert missing.status == WARNING


def test_firmware_outside_the_range_of_the_driver_is_a_fault(machine):
    path = "/usr/local/Ascend/firmware/version.info"
    for version, status in (("6.4.12.1.241", FAULT), ("7.0.0", OK), ("8.10.0", FAULT), ("8.9.9", OK)):
        write_file(machine.root, path, f"Version={version}\n")
        _, firmware = ascend.check_driver(machine, "8.5.0")
        assert firmware.status == status, version
    machine.path(path).unlink()
    assert ascend.check_driver(machine, "8.5.0")[1].status == NOT_APPLICABLE


def test_cann_without_variables_names_set_env(machine):
    machine = dataclasses.replace(machine, environment={})
    finding = cann.check_cann_version(machine, "2.10.0")
    assert finding.status == FAULT and "source /usr/local/Ascend/ascend-toolkit/set_env.sh" in finding.advice
    assert cann.check_environment(machine) == []  # one fault, not four
    machine.path("/usr/local/Ascend/ascend-toolkit/set_env.sh").unlink()
    assert "Install CANN" in cann.check_cann_version(machine, "2.10.0").advice


def test_home_without_cann_and_unknown_mindspore(machine):
    finding = cann.check_cann_version(with_environment(machine, ASCEND_HOME_PATH="/opt/cann"), "2.10.0")
    assert finding.status == FAULT and "/opt/cann/compiler/version.info" in finding.found
    assert cann.check_cann_version(machine, "3.0.0").status == WARNING
    assert cann.check_cann_version(machine, "2.7.2").status == OK


def test_te_without_a_wheel_needs_set_env(machine):
    machine = dataclasses.replace(machine, has_module=lambda name: name == "hccl")
    te, sympy = cann.check_modules(machine)
    assert te.status == sympy.status == FAULT and "set_env.sh" in te.advice and "pip install sympy" in sympy.advice


@pytest.mark.parametrize(
    "variables, what, status",
    [
        ({"ASCEND_OPP_PATH": None}, "ASCEND_OPP_PATH", FAULT),
        ({"ASCEND_OPP_PATH": "/opt/opp"}, "ASCEND_OPP_PATH", FAULT),
        ({"LD_LIBRARY_PATH": None}, "LD_LIBRARY_PATH", FAULT),
        ({"LD_LIBRARY_PATH": "/other/lib64"}, "LD_LIBRARY_PATH", FAULT),  # exists, of another CANN
        ({"LD_LIBRARY_PATH": f"/usr/local/Ascend/old/lib64:{HOME}/lib64"}, "LD_LIBRARY_PATH", WARNING),
        ({"LD_LIBRARY_PATH": f"{HOME}/lib64:{HOME}/tools/aml/lib64"}, "environment variables", OK),  # an optional part
        ({"LD_LIBRARY_PATH": f"/usr/local/Ascend/driver/lib64:{HOME}/lib64"}, "environment variables", OK),
        ({"PYTHONPATH": "/home"}, "PYTHONPATH", WARNING),
        ({"ASCEND_GLOBAL_LOG_LEVEL": "0"}, "ASCEND_GLOBAL_LOG_LEVEL", WARNING),
        ({"ASCEND_GLOBAL_LOG_LEVEL": "3"}, "environment variables", OK),
    ],
)
def test_variables_of_cann(machine, variables, what, status):
    write_file(machine.root, "/other/lib64/libgraph.so", "")
    (finding,) = cann.check_environment(with_environment(machine, **variables))
    assert (finding.what, finding.status) == (what, status)
