"""Read the environment variables with which launchers describe a job, before MindSpore is imported.

msrun sets MS_ROLE, and the number of ranks in MS_WORKER_NUM. A launch with a rank table sets RANK_TABLE_FILE, RANK_ID,
and the number of ranks in RANK_SIZE. Under any other launcher, MindSpore would run independent copies of the command.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError, count_noun, os_reason
from .read_json import read_json

LAUNCH_VARIABLES = (
    "MS_ROLE",
    "MS_WORKER_NUM",
    "MS_SCHED_HOST",
    "MS_SCHED_PORT",
    "MS_NODE_ID",
    "MS_TOPO_TIMEOUT",
    "RANK_SIZE",
    "RANK_ID",
    "RANK_TABLE_FILE",
)
# {variable with the number of processes: launcher that sets it}. SLURM sets SLURM_NTASKS also in a batch script that
# runs once, so the number of a step of srun is read.
OTHER_LAUNCHERS = {
    "OMPI_COMM_WORLD_SIZE": "mpirun",
    "PMI_SIZE": "mpirun",
    "SLURM_STEP_NUM_TASKS": "srun",
    "WORLD_SIZE": "torchrun",
}


def number_of_ranks(device_target: str) -> int:
    """Return the number of ranks that a launcher started, or 1 without a launcher.

    device_target: "Ascend" or "CPU"
    Raises UserError if a number is invalid or was left in the environment by another launch, or if another launcher
    than msrun started several processes.
    """
    if os.environ.get("MS_ROLE"):
        return number_of_msrun_ranks()
    name = "MS_WORKER_NUM" if os.environ.get("MS_WORKER_NUM") else "RANK_SIZE"
    num_ranks = max(1, environment_number(name, "a number of ranks") or 1)
    if num_ranks == 1:
        _refuse_other_launchers()
        return 1
    if name != "RANK_SIZE" or not {"RANK_TABLE_FILE", "RANK_ID"} <= set(os.environ):
        raise UserError(
            f"{name}: the environment says {num_ranks} ranks, but no launcher has started this process. Run: unset "
            f"{name}, or start the ranks with msrun."
        )
    if device_target != "Ascend":
        raise UserError(
            f"RANK_TABLE_FILE: a launch with a rank table needs NPUs, but device_target is {device_target}. Start the "
            "ranks with msrun."
        )
    environment_number("RANK_ID", "the number of a rank")
    return num_ranks


def number_of_msrun_ranks() -> int:
    """Return the number of ranks in the variables of msrun. Raises UserError if a variable is missing or invalid."""
    advice = "Start the ranks with msrun, or run: unset MS_ROLE"
    role = os.environ["MS_ROLE"]
    if role not in ("MS_SCHED", "MS_WORKER"):
        raise UserError(f"MS_ROLE: {role!r} is neither MS_SCHED nor MS_WORKER. {advice}")
    num_ranks = environment_number("MS_WORKER_NUM", "a number of ranks")
    if num_ranks is None:
        raise UserError(f"MS_WORKER_NUM: MS_ROLE is set, but the number of ranks is not. {advice}")
    if num_ranks > 1:
        port = environment_number("MS_SCHED_PORT", "a port")
        if not os.environ.get("MS_SCHED_HOST") or port is None:
            raise UserError(
                f"MS_SCHED_HOST: MS_ROLE is set, but the scheduler's host or MS_SCHED_PORT is not. {advice}"
            )
        if not 0 < port < 2**16:
            raise UserError(f"MS_SCHED_PORT: {port} is not a port from 1 to 65535. Set msrun's --master_port.")
    return max(1, num_ranks)


def check_launch(device_target: str) -> None:
    """Check how this process was launched. Call the function before the slow import of MindSpore.

    device_target: "Ascend" or "CPU"
    Raises UserError for the reasons of `number_of_ranks`, or if the rank table does not list this rank.
    """
    num_ranks = number_of_ranks(device_target)
    if num_ranks > 1 and not os.environ.get("MS_ROLE"):
        check_rank_table(os.environ["RANK_TABLE_FILE"], num_ranks)


def leave_launch() -> None:
    """Remove the variables of a launch from the environment of a command that runs as a single process.

    Another launch may have left them in the shell. The command and MindSpore would wait for other ranks.
    Raises UserError if msrun has started this process, because each process would write the same files.
    """
    if started_by_msrun():
        raise UserError("launch: msrun has started a command that runs as a single process. Start it without msrun.")
    for name in LAUNCH_VARIABLES:
        os.environ.pop(name, None)


def started_by_msrun() -> bool:
    """Return True if msrun has started this process. MS_ROLE alone may be left in the shell by another launch."""
    if not os.environ.get("MS_ROLE"):
        return False
    try:
        parent = Path(f"/proc/{os.getppid()}/cmdline").read_text(errors="replace").split("\0")
        output = Path(os.readlink("/proc/self/fd/1")).name  # msrun without --join may have ended already
    except OSError:  # not Linux
        return True
    return is_msrun(parent) or output == "scheduler.log" or (output.startswith("worker_") and output.endswith(".log"))


def is_msrun(arguments: Sequence[str]) -> bool:
    """Return True if a command line is one of msrun: its script, or its module with `python -m`."""
    return any(Path(argument).name in ("msrun", "mindspore.parallel.cluster.run") for argument in arguments[:3])


def environment_number(name: str, meaning: str) -> int | None:
    """Return the value of an environment variable as a number, or None if it is not set or empty.

    meaning: noun for the value in the message of the UserError
    Raises UserError if the value is not a non-negative integer.
    """
    text = os.environ.get(name)
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        raise UserError(f"{name}: {text!r} is not {meaning}. Correct it, or run: unset {name}")
    return int(text)


def _refuse_other_launchers() -> None:
    """Raise UserError if another launcher started several processes, which would not know of each other."""
    for name, launcher in OTHER_LAUNCHERS.items():
        number = environment_number(name, "a number of processes") or 1
        if number == 1 or (name == "WORLD_SIZE" and not {"RANK", "LOCAL_RANK"} & set(os.environ)):
            continue
        raise UserError(
            f"{name}: {launcher} has started {count_noun(number, 'process', 'processes')}, and each would do the whole "
            f"work alone. Use msrun --worker_num {number} in place of {launcher}, or run: unset {name}"
        )


def check_rank_table(path: str, num_ranks: int) -> None:
    """Check that a rank table lists this rank. tools/rank_table.py checks everything else.

    path: path of the rank table, the value of RANK_TABLE_FILE
    num_ranks: number of ranks of the launch
    Raises UserError if the table cannot be read, or if its ranks or devices differ from the environment.
    """
    rank = environment_number("RANK_ID", "the number of a rank")
    advice = "Write a rank table with tools/rank_table.py, and start the ranks with ascend8p.sh."
    try:
        servers = read_json(Path(path))["server_list"]
        devices = {
            int(device["rank_id"]): int(device["device_id"]) for server in servers for device in server["device"]
        }
    except OSError as error:
        raise UserError(f"RANK_TABLE_FILE: {path} cannot be read ({os_reason(error)}). {advice}") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise UserError(f"RANK_TABLE_FILE: {path} is not a rank table. {advice}") from None
    if len(devices) != num_ranks or rank not in devices:
        raise UserError(
            f"RANK_TABLE_FILE: {path} lists {count_noun(len(devices), 'rank')}, but RANK_ID is {rank} and RANK_SIZE is "
            f"{num_ranks}. {advice}"
        )
    device = environment_number("DEVICE_ID", "the number of an NPU, from 0")
    if device is not None and device != devices[rank]:
        raise UserError(
            f"RANK_TABLE_FILE: {path} lists rank {rank} on device {devices[rank]}, but DEVICE_ID is {device}. The "
            f"table may be that of another host. {advice}"
        )
