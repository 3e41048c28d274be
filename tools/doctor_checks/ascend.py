"""Checks of the Ascend hardware: devices, npu-smi, driver and firmware."""

from __future__ import annotations

import os
import re

from ssd.errors import count_noun

from .compatibility import expected_driver, major_minor
from .finding import FAULT, NOT_APPLICABLE, OK, WARNING, Finding
from .machine import Machine, last_error, read_key

# Character devices of the driver that a process needs besides those of the NPUs.
MANAGER_FILES = ("/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc")
CONTAINER_ADVICE = "In a container, pass the device files of the host, for example with `docker run --device`."
DRIVER_ADVICE = "Install the driver and firmware package (Ascend HDK) of this NPU."
NPU_SMI_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin")
NPU_SMI_SECONDS = 60


def find_devices(machine: Machine) -> list[int]:
    """Return the ids N of the NPUs, which have the files /dev/davinciN."""
    names = [path.name for path in machine.path("/dev").glob("davinci*")]
    return sorted(int(name[len("davinci") :]) for name in names if name[len("davinci") :].isdigit())


def check_devices(machine: Machine) -> list[Finding]:
    """Check the device files of NPUs and driver, and the selection in ASCEND_RT_VISIBLE_DEVICES."""
    devices = find_devices(machine)
    if not devices:
        advice = f"{DRIVER_ADVICE} {CONTAINER_ADVICE} Without an NPU, train on the CPU with --device_target CPU."
        what, expected = "/dev/davinci*", "a device file for each NPU"
        return [Finding(FAULT, what=what, found="not found", expected=expected, advice=advice)]
    findings = []
    needed = [f"/dev/davinci{device}" for device in devices] + list(MANAGER_FILES)
    missing = [file for file in needed if not machine.path(file).exists()]
    closed = [file for file in needed if file not in missing and not _is_accessible(machine, file)]
    if missing:
        found, advice = f"{' and '.join(missing)} not found", f"{CONTAINER_ADVICE} On a host, reinstall the driver."
        findings.append(Finding(FAULT, what="device files of the driver", found=found, advice=advice))
    if closed:
        advice = "Add the user to the group of the driver with `sudo usermod -aG HwHiAiUser $USER`, and log in again."
        what, expected = " ".join(closed), "read and write permission"
        findings.append(Finding(FAULT, what=what, found="not permitted", expected=expected, advice=advice))
    if not findings:
        numbers = " ".join(map(str, devices))
        findings.append(Finding(OK, what="/dev/davinci*", found=f"{count_noun(len(devices), 'NPU')} ({numbers})"))
    visible = machine.environment.get("ASCEND_RT_VISIBLE_DEVICES")
    if visible is not None:
        findings.append(_check_visible_devices(visible, devices))
    return findings


def _is_accessible(machine: Machine, file: str) -> bool:
    return os.access(machine.path(file), os.R_OK | os.W_OK)


def _check_visible_devices(visible: str, devices: list[int]) -> Finding:
    """Check ASCEND_RT_VISIBLE_DEVICES. visible: its value; devices: ids of the NPUs."""
    what = "ASCEND_RT_VISIBLE_DEVICES"
    parts = [part.strip() for part in visible.split(",")]
    absent = [part for part in parts if not part.isdigit() or int(part) not in devices]
    if absent:
        advice = f"Correct the list, or run `unset {what}` to use all NPUs."
        expected = f"ids out of {','.join(map(str, devices))}"
        return Finding(FAULT, what=what, found=repr(visible), expected=expected, advice=advice)
    return Finding(OK, what=what, found=f"{visible}; MindSpore numbers these NPUs from 0")


def check_npu_smi(machine: Machine) -> Finding:
    """Run `npu-smi info`, and check the health of the NPUs."""
    what = "npu-smi"
    program = machine.find_program(what, NPU_SMI_FOLDERS)
    if program is None:
        advice = "It comes with the driver. In a container, mount it from the host to see the health of the NPUs."
        return Finding(WARNING, what=what, found="not found", advice=advice)
    result = machine.run([program, "info"], machine.environment, NPU_SMI_SECONDS)
    if result.problem:
        advice = "Run `npu-smi info` as root. If that fails too, reinstall the driver. Its message is:"
        found = f"`npu-smi info` {result.problem}"
        return Finding(WARNING, what=what, found=found, advice=advice, details=last_error(result.output))
    # | 0     910B3               | OK            | 96.1        38                0    / 0             |
    rows = re.findall(r"^\|\s*(\d+)\s+(\S+)\s*\|\s*([A-Za-z]+)\s*\|", result.output, re.MULTILINE)
    names = " and ".join(dict.fromkeys(name for _, name, _ in rows))
    unhealthy = [f"NPU {number} {health}" for number, _, health in rows if health != "OK"]
    if unhealthy:
        status = WARNING if all(text.endswith("Warning") for text in unhealthy) else FAULT
        advice = "Run `npu-smi info -t health -i ID` for the cause, and reset or replace the NPU."
        return Finding(status, what=what, found=f"health of {', '.join(unhealthy)}", expected="OK", advice=advice)
    if not rows:
        return Finding(WARNING, what=what, found="the list of NPUs is empty", advice=f"{DRIVER_ADVICE}")
    return Finding(OK, what=what, found=f"{len(rows)} x {names}, health OK")


def find_driver_folder(machine: Machine) -> str:
    """Return the folder that contains driver and firmware, by default /usr/local/Ascend."""
    return read_key(machine.read("/etc/ascend_install.info") or "", "Driver_Install_Path_Param") or "/usr/local/Ascend"


def check_driver(machine: Machine, cann: str | None) -> list[Finding]:
    """Check the versions of driver and firmware against CANN and against each other.

    cann: version of CANN, or None if CANN is missing
    """
    folder = find_driver_folder(machine)
    path = f"{folder}/driver/version.info"
    text = machine.read(path)
    version = read_key(text or "", "package_version") or read_key(text or "", "Version")
    if text is None or version is None:
        found = f"no version in {path}"
        if machine.path(f"{folder}/driver/lib64").is_dir():
            advice = "In a container, mount this file from the host. Otherwise its version cannot be checked."
            return [Finding(WARNING, what="driver", found=found, advice=advice)]
        advice = f"{DRIVER_ADVICE} In a container, mount {folder}/driver from the host."
        return [Finding(FAULT, what="driver", found=f"{found}, and no {folder}/driver/lib64", advice=advice)]
    return [_check_driver_version(version, cann), _check_firmware(machine, folder, driver_text=text)]


def _check_driver_version(version: str, cann: str | None) -> Finding:
    """Compare the version of the driver with the version that was published with CANN."""
    published = expected_driver(cann) if cann else None
    found, wanted = major_minor(version), major_minor(published or "")
    if found and wanted and found < wanted:
        advice = f"Update driver and firmware; {published} was published with CANN {cann} or the release before it."
        expected = f"at least {published}"
        return Finding(WARNING, what="driver", found=version, expected=expected, advice=advice)
    return Finding(OK, what="driver", found=version)


def _check_firmware(machine: Machine, folder: str, driver_text: str) -> Finding:
    """Check that the firmware is in the range that the driver lists in compatible_version_fw=[LOWEST,HIGHEST].

    folder: folder that contains the firmware
    driver_text: text of the driver's version.info
    """
    text = machine.read(f"{folder}/firmware/version.info") or ""
    version, package = read_key(text, "Version"), read_key(text, "package_version")
    if version is None:
        found = f"no version in {folder}/firmware, which is usual in a container"
        return Finding(NOT_APPLICABLE, what="firmware", found=found)
    limits = re.findall(r"[\d.]+", read_key(driver_text, "compatible_version_fw") or "")
    if len(limits) == 2 and not _numbers(limits[0]) <= _numbers(version) <= _numbers(limits[1]):
        expected = f"{limits[0]} to {limits[1]}, the range of the driver"
        advice = "Install the firmware of the same release as the driver, and restart the machine."
        return Finding(FAULT, what="firmware", found=version, expected=expected, advice=advice)
    return Finding(OK, what="firmware", found=f"{version}{f' of release {package}' if package else ''}")


def _numbers(version: str) -> list[int]:
    """Return the numbers of a version, [7, 5, 0] for "7.5.0"."""
    return [int(part) for part in re.findall(r"\d+", version)]
