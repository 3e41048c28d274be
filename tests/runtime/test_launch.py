"""Variables of launchers: who started this process, and mistakes that end with one line before MindSpore loads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssd.errors import UserError
from ssd.runtime.launch import LAUNCH_VARIABLES, OTHER_LAUNCHERS, check_launch, is_msrun, leave_launch, number_of_ranks

ROOT = Path(__file__).resolve().parents[2]
MSRUN = {"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "2", "MS_SCHED_HOST": "127.0.0.1", "MS_SCHED_PORT": "8118"}
TABLE = {"server_list": [{"server_id": "a", "device": [{"rank_id": "0", "device_id": "4"}]}]}
RANK_OF_TABLE = {"RANK_ID": "1", "RANK_SIZE": "2", "DEVICE_ID": "5"}


@pytest.fixture
def launch(monkeypatch):
    """launch(variables) sets the environment variables of a launch, and removes those of others."""

    def set_variables(variables):
        for name in (*LAUNCH_VARIABLES, *OTHER_LAUNCHERS, "RANK", "LOCAL_RANK", "DEVICE_ID"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_variables


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({}, 1),
        (MSRUN, 2),
        ({**MSRUN, "MS_ROLE": "MS_SCHED"}, 2),
        ({"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "1"}, 1),  # without a scheduler
        ({**MSRUN, "OMPI_COMM_WORLD_SIZE": "2"}, 2),  # mpirun starts msrun on each host
        ({"OMPI_COMM_WORLD_SIZE": "1", "PMI_SIZE": "", "WORLD_SIZE": "1", "RANK": "0"}, 1),
        ({"WORLD_SIZE": "8"}, 1),  # without a rank, a variable of something else
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, 1),  # a batch script, which runs once
    ],
)
def test_number_of_ranks(variables, expected, launch):
    launch(variables)
    assert number_of_ranks("CPU") == expected


@pytest.mark.parametrize(
    "variables, key, launcher",
    [
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"}, "OMPI_COMM_WORLD_SIZE", "mpirun"),
        ({"PMI_SIZE": "4", "PMI_RANK": "0"}, "PMI_SIZE", "mpirun"),
        ({"WORLD_SIZE": "4", "RANK": "0", "LOCAL_RANK": "0"}, "WORLD_SIZE", "torchrun"),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "1"}, "SLURM_STEP_NUM_TASKS", "srun"),
    ],
)
def test_other_launchers_are_told_to_use_msrun(variables, key, launcher, launch):
    launch(variables)
    with pytest.raises(UserError, match=f"^{key}: {launcher} .*msrun --worker_num 4 ") as error:
        check_launch("CPU")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changed, key",
    [
        ({"MS_WORKER_NUM": "junk"}, "MS_WORKER_NUM"),
        ({"MS_WORKER_NUM": ""}, "MS_WORKER_NUM"),
        ({"MS_SCHED_PORT": "http"}, "MS_SCHED_PORT"),
        ({"MS_SCHED_PORT": "70000"}, "MS_SCHED_PORT"),
        ({"MS_SCHED_HOST": ""}, "MS_SCHED_HOST"),
        ({"MS_ROLE": "worker"}, "MS_ROLE"),
    ],
)
def test_invalid_variables_of_msrun(changed, key, launch):
    launch({**MSRUN, **changed})
    with pytest.raises(UserError, match=f"^{key}: "):
        check_launch("CPU")


@pytest.mark.parametrize(
    "content, environment, text",
    [
        (None, {}, "no such file"),
        ("{", {}, "not a rank table"),
        ("[" * 10_000, {}, "not a rank table"),
        (json.dumps({"server_list": [{"device": "none"}]}), {}, "not a rank table"),
        (json.dumps(TABLE).replace('"rank_id": "0"', '"rank_id": Infinity'), {}, "not a rank table"),
        (json.dumps(TABLE), {}, "1 rank, but RANK_ID is 1 and RANK_SIZE is 2"),
        (
            json.dumps(TABLE).replace("]}]", ', {"rank_id": "1", "device_id": "7"}]}]'),
            {},
            "device 7, but DEVICE_ID is 5",
        ),
    ],
)
def test_a_rank_table_of_another_job_is_refused(content, environment, text, launch, tmp_path):
    path = tmp_path / "hccl.json"
    launch({**RANK_OF_TABLE, "RANK_TABLE_FILE": str(path)})
    if content:
        path.write_text(content)
    with pytest.raises(UserError, match=f"^RANK_TABLE_FILE: {path} ") as error:
        check_launch("Ascend")
    assert text in str(error.value) and "\n" not in str(error.value)


def test_the_right_rank_table_is_accepted(launch, tmp_path):
    path = tmp_path / "hccl.json"
    path.write_text(json.dumps(TABLE).replace("]}]", ', {"rank_id": "1", "device_id": "5"}]}]'))
    launch({**RANK_OF_TABLE, "RANK_TABLE_FILE": str(path)})
    check_launch("Ascend")


def test_commands_of_one_process_ignore_what_a_shell_has_left(launch):
    left = {**MSRUN, "MS_NODE_ID": "0", "RANK_SIZE": "8", "RANK_ID": "3", "RANK_TABLE_FILE": "/tables/old.json"}
    launch({**left, "DEVICE_ID": "3"})
    leave_launch()
    assert not set(left) & set(os.environ) and os.environ["DEVICE_ID"] == "3"  # the user selects an NPU with DEVICE_ID


@pytest.mark.parametrize("log", ["worker_0.log", "scheduler.log"])
def test_commands_of_one_process_refuse_msrun(log, tmp_path):
    """msrun without --join has ended when the command asks for its parent, so the name of the log decides."""
    code = "from ssd.runtime.launch import leave_launch; leave_launch()"
    environment = {**os.environ, **MSRUN, "PYTHONPATH": str(ROOT / "examples" / "det" / "ssd")}
    with open(tmp_path / log, "w") as output:
        process = subprocess.run([sys.executable, "-c", code], env=environment, stdout=output, stderr=subprocess.PIPE)
    assert process.returncode == 1 and b"UserError: launch: msrun " in process.stderr


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["python", "/usr/bin/msrun", "--worker_num", "2"], True),
        (["msrun", "train.py"], True),
        (["python", "-m", "mindspore.parallel.cluster.run", "train.py"], True),
        (["bash", "run.sh", "one", "msrun"], False),
        ([], False),
    ],
)
def test_msrun_is_recognized_by_its_command_line(arguments, expected):
    assert is_msrun(arguments) is expected


@pytest.mark.parametrize(
    "command, options, start",
    [
        ("train", [], "error: RANK_SIZE: 'eight' "),
        ("eval", [], "error: RANK_SIZE: 'eight' "),
        ("eval", ["--output_dir", f"{__file__}/folder"], "error: output_dir: "),
        ("train", ["--ckpt_save_dir", f"{__file__}/folder"], "error: ckpt_save_dir: "),
    ],
)
def test_mistakes_are_reported_before_mindspore_loads(command, options, start):
    """The exit code is 3 if MindSpore is loaded when the command ends."""
    folder = ROOT / "examples" / "det" / "ssd"
    code = f"""
import sys, {command}
sys.argv = ["x", "--config", {str(ROOT / "tests" / "tiny.yaml")!r}, "--data_dir", "nowhere", *{options}]
try:
    {command}.main()
finally:
    if "mindspore" in sys.modules:
        sys.exit(3)
"""
    environment = {**os.environ, "PYTHONPATH": str(folder), "RANK_SIZE": "1" if options else "eight"}
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert process.returncode == 2 and process.stderr.startswith(start)
    assert process.stderr.count("\n") == 1
