"""A fake root folder with the files of an Ascend 910B host, in which tests create faults."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from doctor_checks.machine import CommandResult, Machine, run_command
from doctor_checks.versions import read_pins

HOME = "/usr/local/Ascend/ascend-toolkit/latest"
# Output of `npu-smi info` on two NPUs, shortened.
NPU_SMI = """\
+------------------------------------------------------------------------------------------------+
| npu-smi 25.5.0                   Version: 25.5.0                                               |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     910B3               | OK            | 96.1        38                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          3159 / 65536         |
+===========================+===============+====================================================+
| 1     910B3               | OK            | 88.6        39                0    / 0             |
| 0                         | 0000:C2:00.0  | 0           0    / 0          3159 / 65536         |
+===========================+===============+====================================================+
"""
FILES = {
    "/dev/davinci0": "",
    "/dev/davinci1": "",
    "/dev/davinci_manager": "",
    "/dev/devmm_svm": "",
    "/dev/hisi_hdc": "",
    "/dev/shm/file": "",
    "/etc/ascend_install.info": "UserName=HwHiAiUser\nDriver_Install_Path_Param=/usr/local/Ascend\n",
    "/etc/hccn.conf": "address_0=192.168.100.101\nnetmask_0=255.255.255.0\naddress_1=192.168.101.101\n",
    "/usr/local/Ascend/driver/version.info": "Version=25.5.0\nascendhal_version=7.35.23\n"
    "compatible_version_fw=[7.0.0,8.9.9]\npackage_version=25.5.0\n",
    "/usr/local/Ascend/firmware/version.info": "Version=7.8.0.2.212\nfirmware_version=1.0\npackage_version=25.5.0\n",
    f"{HOME}/compiler/version.info": "Version=8.5.0\nversion_dir=8.5.0\n",
    f"{HOME}/opp/version.info": "Version=8.5.0\n",
    f"{HOME}/lib64/hccl-0.1.0-py3-none-any.whl": "",
    "/usr/local/Ascend/ascend-toolkit/set_env.sh": "",
    "/proc/cpuinfo": "processor : 0\nFeatures : fp asimd evtstrm\n",
    "/sys/class/net/eth0/mtu": "1500",
}
ENVIRONMENT = {
    "ASCEND_HOME_PATH": HOME,
    "ASCEND_OPP_PATH": f"{HOME}/opp",
    "LD_LIBRARY_PATH": f"{HOME}/lib64:",
    "PYTHONPATH": f"{HOME}/python/site-packages:{HOME}/opp/built-in/op_impl/ai_core/tbe",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}/usr/bin",
}


def write_file(root: Path, name: str, text: str) -> Path:
    """Write a file of the fake machine. name: absolute path on the machine"""
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def healthy_910b(root: Path) -> Machine:
    """Return a machine with two Ascend 910B, the pinned packages and CANN 8.5."""
    for name, text in FILES.items():
        write_file(root, name, text)
    npu_smi = write_file(root, "/usr/local/sbin/npu-smi", f"#!/bin/sh\ncat <<'END'\n{NPU_SMI}END\n")
    npu_smi.chmod(0o755)
    return Machine(root, ENVIRONMENT, find_version=read_pins().get, has_module=lambda name: True, run=compute)


def compute(command: Sequence[str], environment: Mapping[str, str], timeout: float) -> CommandResult:
    """Run npu-smi as it is, and let computations in MindSpore succeed."""
    if command[0] == sys.executable:
        return CommandResult("", "")
    return run_command(command, environment, timeout)


def with_environment(machine: Machine, **variables: str | None) -> Machine:
    """Return the machine with other environment variables. None removes a variable."""
    merged = {**machine.environment, **variables}
    return dataclasses.replace(machine, environment={key: value for key, value in merged.items() if value is not None})


def write_rank_table(path: Path, *addresses: str | None, server: str = "127.0.0.1") -> Path:
    """Write a rank table with one server. addresses: device_ip of each device, None to leave it out"""
    devices = [
        {"device_id": str(number), **({"device_ip": address} if address else {}), "rank_id": str(number)}
        for number, address in enumerate(addresses)
    ]
    servers = [{"server_id": server, "device": devices, "host_nic_ip": "reserve"}]
    path.write_text(json.dumps({"version": "1.0", "server_count": "1", "server_list": servers, "status": "completed"}))
    return path
