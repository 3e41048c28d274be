"""Checks of Python and its packages. Versions are read without importing packages, because imports may fail."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from ssd.errors import count_noun

from .compatibility import major_minor
from .finding import FAULT, OK, WARNING, Finding
from .machine import MAX_DETAIL_LINES, Machine, last_error

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
INSTALL = "Run `pip install -e .` in the root of this repository."
OPTIONAL = {"simplejpeg": "Without it, OpenCV decodes JPEGs, which takes a third longer."}
COMPUTATION_SECONDS = 300  # a first import from a network file system takes minutes


def read_pins(path: Path = PYPROJECT) -> dict[str, str]:
    """Return {package: version} of the dependencies that pyproject.toml pins."""
    # Python 3.10 has no TOML parser in its standard library.
    section = path.read_text(encoding="utf-8").partition("\ndependencies = [")[2].partition("\n]")[0]
    return dict(re.findall(r'"([\w.-]+)==([\w.]+)"', section))


def check_python(version: tuple[int, int] | None = None) -> Finding:
    """Check the version of Python. version: major and minor number; None for this Python."""
    version = version or (sys.version_info.major, sys.version_info.minor)
    text = f"{version[0]}.{version[1]}"
    if (3, 10) <= version <= (3, 12):
        return Finding(OK, what="Python", found=f"{text}, {sys.executable}")
    advice = "MindSpore has packages only for these versions. Create the environment with another Python."
    return Finding(FAULT, what="Python", found=text, expected="3.10 to 3.12", advice=advice)


def check_packages(machine: Machine, pins: dict[str, str]) -> list[Finding]:
    """Check that packages are installed in versions that work together.

    pins: {package: version} with which this project is tested
    """
    findings: list[Finding] = []
    missing: list[str] = []
    as_pinned = 0
    for package, pinned in pins.items():
        version = machine.find_version(package)
        number = major_minor(version or "")
        if version is None:
            missing.append(package)
        elif package == "numpy" and number and number >= (2, 0):
            advice = f"MindSpore's native modules are compiled for NumPy 1.x. Run `pip install numpy=={pinned}`."
            findings.append(Finding(FAULT, what=package, found=version, expected="below 2", advice=advice))
        elif version != pinned and package == "opencv-python-headless" and number and number >= (4, 12):
            advice = f"Newer releases require NumPy 2. Run `pip install {package}=={pinned}`."
            findings.append(Finding(WARNING, what=package, found=version, expected=pinned, advice=advice))
        elif version != pinned:
            advice = f"This project is tested with {pinned} only. {INSTALL}"
            findings.append(Finding(WARNING, what=package, found=version, expected=pinned, advice=advice))
        elif package in ("mindspore", "mindcv", "numpy"):
            findings.append(Finding(OK, what=package, found=version))
        else:
            as_pinned += 1
    for package in set(missing) & set(OPTIONAL):
        missing.remove(package)
        advice = f"{OPTIONAL[package]} {INSTALL}"
        findings.append(Finding(WARNING, what=package, found="not installed", expected=pins[package], advice=advice))
    if missing:
        findings.append(Finding(FAULT, what="packages", found=f"{', '.join(missing)} not installed", advice=INSTALL))
    if as_pinned:
        found = f"{count_noun(as_pinned, 'package')} in the versions of pyproject.toml"
        findings.append(Finding(OK, what="other packages", found=found))
    return findings


def check_computation(machine: Machine, device: str) -> Finding:
    """Import MindSpore and add two numbers on a device, in a process of its own; keep MindSpore's message if it fails.

    device: "CPU" or "Ascend"; DEVICE_ID selects the NPU, as in the training
    With NumPy 2, the import of MindSpore 2.10 succeeds and the first addition fails.
    """
    number = machine.environment.get("DEVICE_ID") if device == "Ascend" else None
    if number and not (number.isascii() and number.isdigit()):
        advice = "Set DEVICE_ID to the number of an NPU, from 0, or run `unset DEVICE_ID`."
        return Finding(FAULT, what="DEVICE_ID", found=repr(number), expected="a device number", advice=advice)
    arguments = f"{device!r}, {int(number)}" if number else repr(device)
    code = f"import mindspore as ms; ms.set_device({arguments}); (ms.Tensor([1.0]) + 1).asnumpy()"
    result = machine.run_python(code, COMPUTATION_SECONDS)
    what = f"MindSpore on {device}"
    if not result.problem:
        messages = [line for line in result.output.splitlines() if line.startswith(("[ERROR]", "[CRITICAL]"))]
        if messages:
            advice = "Correct the other faults of this report. MindSpore's messages are:"
            details = tuple(messages[-MAX_DETAIL_LINES:])
            return Finding(WARNING, what=what, found="computed, but logged errors", advice=advice, details=details)
        return Finding(OK, what=what, found="computed a sum")
    return Finding(
        FAULT,
        what=what,
        found=f"the computation of a sum {result.problem}",
        advice="Correct the other faults of this report, the packages first. MindSpore's message is:",
        details=last_error(result.output),
    )
