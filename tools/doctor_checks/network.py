"""Checks of distributed training: variables of launchers, rank tables, and settings of HCCL."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from rank_table import read_hccn_addresses
from rank_table_check import check_table, read_table
from ssd.errors import UserError

from .finding import FAULT, NOT_APPLICABLE, OK, WARNING, Finding
from .machine import Machine

HCCN_CONF = "/etc/hccn.conf"
RANK_TABLE_REASON = (
    "ascend8p.sh uses this table instead of its own one. All other commands ignore the variable, because MindSpore "
    "would otherwise compile at jit_level O2 and connect the NPUs by the table."
)
# Ranges of CANN's environment variable reference: {variable: (lowest value, highest value, unit)}.
HCCL_NUMBERS = {
    "HCCL_CONNECT_TIMEOUT": (120, 7200, "seconds"),
    "HCCL_EXEC_TIMEOUT": (0, 2147483647, "seconds"),
    "HCCL_IF_BASE_PORT": (1024, 65520, "as a port number"),
    "HCCL_BUFFSIZE": (1, 2**32 - 1, "MB"),
}


def check_launch_variables(machine: Machine) -> list[Finding]:
    """Check that no variables of a launcher are left in the shell, because a run on one device would refuse or wait."""
    findings = []
    for name in ("RANK_SIZE", "MS_WORKER_NUM", "MS_ROLE"):
        value = machine.environment.get(name)
        if value in (None, "", "1"):
            continue
        advice = (
            f"Run `unset {name}`. Launchers set it themselves. On one device, train.py and eval.py would refuse to "
            "start, or wait for other ranks."
        )
        findings.append(Finding(FAULT, what=name, found=f"set to {value} in this shell", advice=advice))
    return findings


def check_python_on_path(machine: Machine) -> Finding:
    """Check that `python` on PATH is the Python of this environment."""
    what = "python on PATH"
    found = shutil.which("python", path=machine.environment.get("PATH", ""))
    if found and Path(found).parent.resolve() == Path(sys.executable).parent.resolve():
        return Finding(OK, what=what, found=found)
    advice = f"msrun and ascend8p.sh start it. Run `source {Path(sys.executable).parent}/activate` before them."
    expected = f"the Python of this environment in {Path(sys.executable).parent}"
    return Finding(WARNING, what=what, found=found or "not found", expected=expected, advice=advice)


def check_rank_tables(machine: Machine, folder: Path) -> list[Finding]:
    """Check the rank table in RANK_TABLE_FILE, and the rank tables that ascend8p.sh finds.

    folder: folder of ascend8p.sh, in which the tables are called hccl_*.json
    """
    findings = []
    selected = machine.environment.get("RANK_TABLE_FILE")
    if selected:
        findings.append(_check_selected_table(machine, selected))
    for path in sorted(folder.glob("hccl_*.json")):
        problem = find_table_problem(machine, path)
        if problem:
            advice = f"Delete {path.name}, and write a new one with `python tools/rank_table.py` before ascend8p.sh."
            findings.append(Finding(WARNING, what="rank table", found=problem, advice=advice))
        else:
            findings.append(Finding(OK, what="rank table", found=f"{path.name}, {_comparison(machine)}"))
    if not findings:
        found = "none; msrun needs none, and `python tools/rank_table.py` writes one for ascend8p.sh"
        findings.append(Finding(NOT_APPLICABLE, what="rank table", found=found))
    return findings


def _check_selected_table(machine: Machine, selected: str) -> Finding:
    """Check RANK_TABLE_FILE, which should not be set in a shell. selected: its value"""
    what = "RANK_TABLE_FILE"
    advice = f"Run `unset {what}`. {RANK_TABLE_REASON}"
    path = machine.path(selected) if selected.startswith("/") else Path(selected)
    problem = find_table_problem(machine, path)
    if problem:
        return Finding(FAULT, what=what, found=problem, advice=advice)
    return Finding(WARNING, what=what, found=f"set to {selected}, {_comparison(machine)}", advice=advice)


def _comparison(machine: Machine) -> str:
    if machine.path(HCCN_CONF).is_file():
        return f"which agrees with {HCCN_CONF}"
    return f"which cannot be compared, because there is no {HCCN_CONF}"


def find_table_problem(machine: Machine, path: Path) -> str | None:
    """Check a rank table, and compare it with hccn.conf.

    path: path of the rank table
    Returns a description of the first problem, or None. In a table with several servers, the server that agrees best
    with hccn.conf is compared.
    """
    try:
        table = read_table(path)
        check_table(table, str(path))
    except UserError as error:
        return str(error).partition(". ")[0]
    if not machine.path(HCCN_CONF).is_file():
        return None
    addresses = read_hccn_addresses(machine.path(HCCN_CONF))
    assert isinstance(table, dict)  # check_table has verified the structure
    differences = [_compare_server(server, addresses) for server in table["server_list"]]
    best = min(differences, key=len)
    return f"{path.name}: stale, {best[0]}" if best else None


def _compare_server(server: dict, addresses: dict[int, str]) -> list[str]:
    """Return a text for each device of a server whose address differs from hccn.conf.

    server: entry of server_list in a rank table
    addresses: {device id: IP address} of hccn.conf
    Devices without an address are equal, because HCCL needs no addresses on a single server.
    """
    differences = []
    for device in server["device"]:
        number, listed = int(device["device_id"]), device.get("device_ip")
        actual = addresses.get(number, "no address")
        if listed is not None and actual not in listed.split(","):
            differences.append(f"device {number} has {listed} in the table and {actual} in {HCCN_CONF}")
    return differences


def check_hccl_settings(machine: Machine) -> list[Finding]:
    """Check the values of HCCL's environment variables."""
    settings = {name: value for name, value in machine.environment.items() if name.startswith("HCCL_")}
    findings = []
    for name, (lowest, highest, unit) in HCCL_NUMBERS.items():
        value = settings.get(name)
        if value is not None and not (value.isdecimal() and lowest <= int(value) <= highest):
            expected, advice = f"{lowest} to {highest} {unit}", f"Correct it, or run `unset {name}` for the default."
            findings.append(Finding(FAULT, what=name, found=repr(value), expected=expected, advice=advice))
    if settings.get("HCCL_WHITELIST_DISABLE") == "0":
        file = settings.get("HCCL_WHITELIST_FILE", "")
        if not file or not machine.path(file).is_file():
            what, found = "HCCL_WHITELIST_FILE", f"{file} does not exist" if file else "not set"
            advice = "HCCL_WHITELIST_DISABLE=0 needs this file. Run `export HCCL_WHITELIST_DISABLE=1` to do without it."
            findings.append(Finding(FAULT, what=what, found=found, advice=advice))
    findings += _check_interfaces(machine, settings.get("HCCL_SOCKET_IFNAME"))
    if findings:
        return findings
    found = ", ".join(f"{name}={value}" for name, value in settings.items()) or "none, so HCCL's defaults apply"
    return [Finding(OK, what="HCCL settings", found=found)]


def _check_interfaces(machine: Machine, value: str | None) -> list[Finding]:
    """Check HCCL_SOCKET_IFNAME, a list of prefixes of network interfaces; "=" selects whole names, "^" excludes."""
    if not value or value.startswith("^"):
        return []
    folder = machine.path("/sys/class/net")
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    wanted = value.removeprefix("=").split(",")
    if any(name == other if value.startswith("=") else name.startswith(other) for name in names for other in wanted):
        return []
    expected = f"one of {', '.join(names) or 'the interfaces of this host'}"
    advice = "Set it to the interface that connects the hosts, or run `unset HCCL_SOCKET_IFNAME`."
    return [Finding(FAULT, what="HCCL_SOCKET_IFNAME", found=repr(value), expected=expected, advice=advice)]
