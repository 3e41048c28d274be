"""Checks of CANN, the software platform of Ascend: version, Python modules and environment variables."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from .ascend import find_driver_folder
from .compatibility import alternatives, expected_cann, major_minor
from .finding import FAULT, OK, WARNING, Finding
from .machine import Machine, read_key

# Folders with a set_env.sh in CANN's default locations. $HOME/Ascend is the default of users without root access.
SET_ENV_FOLDERS = ("ascend-toolkit", "cann", "nnae")
TBE_FOLDER = "opp/built-in/op_impl/ai_core/tbe"  # AscendEnvChecker of MindSpore 2.10 expects it in PYTHONPATH
MODULES = {
    "te": "MindSpore compiles kernels with it",
    "hccl": "without it, distributed training stops with '\"hccl\" wheel was not installed correctly'",
    "sympy": "te imports it",
}
# Debugging settings that make training slow: {variable: value}.
SLOW_SETTINGS = {"ASCEND_GLOBAL_LOG_LEVEL": "0", "MS_DEV_LAUNCH_BLOCKING": "1"}


def find_set_env(machine: Machine) -> str | None:
    """Return the path of the script set_env.sh of an installed CANN, or None."""
    home = machine.environment.get("ASCEND_HOME_PATH")
    user_folder = f"{machine.environment.get('HOME', '/root')}/Ascend"
    folders = [home, str(PurePosixPath(home).parent)] if home else []
    folders += [f"{base}/{name}" for base in ("/usr/local/Ascend", user_folder) for name in SET_ENV_FOLDERS]
    files = [f"{folder}/set_env.sh" for folder in folders]
    return next((file for file in files if machine.path(file).is_file()), None)


def _set_up_advice(machine: Machine) -> str:
    """Return the sentence that tells how to set CANN's environment variables."""
    set_env = find_set_env(machine)
    return f"Run `source {set_env}`." if set_env else "Install CANN, and source its set_env.sh."


def find_cann_version(machine: Machine) -> str | None:
    """Return the version of the CANN that ASCEND_HOME_PATH selects; None if it cannot be read.

    Until CANN 8.1, components have versions of their own, such as 7.6 in CANN 8.0. version.cfg lists both.
    """
    home = machine.environment.get("ASCEND_HOME_PATH")
    version = read_key(machine.read(f"{home}/compiler/version.info") or "", "Version") if home else None
    if version and version.startswith("7."):
        public = re.search(r"\[[^\]:]*:(\d[^\]:]*)", machine.read(f"{home}/version.cfg") or "")
        return public[1] if public else version
    return version


def check_cann_version(machine: Machine, mindspore: str | None) -> Finding:
    """Check the version of CANN in the file that MindSpore reads, $ASCEND_HOME_PATH/compiler/version.info.

    mindspore: version of MindSpore, or None if it is not installed
    """
    expected = expected_cann(mindspore or "")
    text = f"{alternatives(expected)} for MindSpore {mindspore}" if expected else ""
    home = machine.environment.get("ASCEND_HOME_PATH")
    if not home:
        found = "not set up in this shell (ASCEND_HOME_PATH is not set)"
        return Finding(FAULT, what="CANN", found=found, expected=text, advice=_set_up_advice(machine))
    version = find_cann_version(machine)
    if version is None:
        advice = f"ASCEND_HOME_PATH selects no CANN. {_set_up_advice(machine)}"
        found = f"no version in {home}/compiler/version.info"
        return Finding(FAULT, what="CANN", found=found, expected=text, advice=advice)
    if not expected:
        advice = "No version of CANN is known to work with this MindSpore. Install the pinned MindSpore."
        return Finding(WARNING, what="CANN", found=f"{version} with MindSpore {mindspore}", advice=advice)
    if major_minor(version) not in [major_minor(other) for other in expected]:
        advice = f"Install CANN {expected[-1]}, and source its set_env.sh."
        return Finding(FAULT, what="CANN", found=f"{version} in {home}", expected=text, advice=advice)
    return Finding(OK, what="CANN", found=f"{version} in {home}")


def check_modules(machine: Machine) -> list[Finding]:
    """Check that Python finds the modules that MindSpore imports on Ascend and pip does not install with it."""
    home = machine.environment.get("ASCEND_HOME_PATH") or "/usr/local/Ascend/ascend-toolkit/latest"
    findings = []
    for name, reason in MODULES.items():
        if machine.has_module(name):
            continue
        if name == "sympy":
            command = "Run `pip install sympy`."
        elif any(machine.path(f"{home}/lib64").glob(f"{name}-*.whl")):
            command = f"Run `pip install {home}/lib64/{name}-*.whl` in this environment."
        else:
            command = _set_up_advice(machine)
        advice = f"{command} Reason: {reason}."
        findings.append(
            Finding(FAULT, what=f"Python module {name}", found="not found in this environment", advice=advice)
        )
    return findings or [Finding(OK, what="Python modules of CANN", found=f"{', '.join(MODULES)} found")]


def check_environment(machine: Machine) -> list[Finding]:
    """Check CANN's environment variables, with the rules of AscendEnvChecker in MindSpore 2.10.

    Without ASCEND_HOME_PATH, which `check_cann_version` reports, set_env.sh has not set any of the variables.
    """
    environment = machine.environment
    if not environment.get("ASCEND_HOME_PATH"):
        return []
    set_up = _set_up_advice(machine)
    findings = []
    opp = environment.get("ASCEND_OPP_PATH")
    if not opp or not machine.path(opp).is_dir():
        found = f"{opp} is not a folder" if opp else "not set"
        advice = f"{set_up} MindSpore finds CANN's operators there."
        findings.append(Finding(FAULT, what="ASCEND_OPP_PATH", found=found, advice=advice))
    libraries = [part for part in environment.get("LD_LIBRARY_PATH", "").split(":") if part]
    home = environment["ASCEND_HOME_PATH"]
    missing = [part for part in libraries if "ascend" in part.lower() and not machine.path(part).is_dir()]
    # set_env.sh lists folders of optional parts of CANN and the driver, too.
    current = (home, f"{find_driver_folder(machine)}/driver")
    stale = [part for part in missing if not any(_is_below(part, folder, machine) for folder in current)]
    if not any(part.rstrip("/").endswith("lib64") and machine.path(part).is_dir() for part in libraries):
        found, expected = ("set" if libraries else "not set"), "CANN's folder lib64"
        advice = f"{set_up} MindSpore loads CANN's libraries from there."
        findings.append(Finding(FAULT, what="LD_LIBRARY_PATH", found=found, expected=expected, advice=advice))
    elif not any(_is_below(part, home, machine) for part in libraries):
        advice = f"Another CANN would be loaded. Open a new shell. {set_up}"
        found, expected = "no folder of the selected CANN", f"a folder below {home}"
        findings.append(Finding(FAULT, what="LD_LIBRARY_PATH", found=found, expected=expected, advice=advice))
    elif stale:
        advice = "Left over from another CANN or driver. Remove the entry from ~/.bashrc, and open a new shell."
        found = f"{stale[0]} is not a folder"
        findings.append(Finding(WARNING, what="LD_LIBRARY_PATH", found=found, advice=advice))
    if TBE_FOLDER not in environment.get("PYTHONPATH", ""):
        found, advice = f"no entry {TBE_FOLDER}", f"{set_up} MindSpore finds CANN's operators there."
        findings.append(Finding(WARNING, what="PYTHONPATH", found=found, advice=advice))
    for name, value in SLOW_SETTINGS.items():
        if environment.get(name) == value:
            advice = f"Training is slow with this debugging setting. Run `unset {name}`."
            findings.append(Finding(WARNING, what=name, found=value, advice=advice))
    variables = "ASCEND_OPP_PATH, LD_LIBRARY_PATH and PYTHONPATH contain CANN's folders"
    return findings or [Finding(OK, what="environment variables", found=variables)]


def _is_below(path: str, folder: str, machine: Machine) -> bool:
    """Return True if a path is inside a folder of the machine, with symbolic links resolved."""
    return machine.path(path).resolve().is_relative_to(machine.path(folder).resolve())
