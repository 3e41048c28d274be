"""Fixtures: jobs of several ranks, and a fake MindSpore in which an NPU works."""

import os
from types import SimpleNamespace

import mindspore as ms
import pytest

from msrun_job import Job
from ssd.runtime import device as module
from ssd.runtime.cpu_cores import CpuLimits

VARIABLES = (
    "DEVICE_ID",
    "MS_ROLE",
    "MS_SCHED_HOST",
    "MS_SCHED_PORT",
    "MS_WORKER_NUM",
    "RANK_ID",
    "RANK_SIZE",
    "RANK_TABLE_FILE",
)
LIMITS = [CpuLimits(host, range(144)) for host in (7, 7, 7, 7, 7, 7, -8, -8)]  # six ranks and two ranks


@pytest.fixture
def start(tmp_path):
    """start(command, **arguments of Job) starts a job. Its processes are killed after the test."""
    jobs = []

    def start_job(command, name="logs", **arguments):
        jobs.append(Job(tmp_path / name, command, **arguments))
        return jobs[-1]

    yield start_job
    for job in jobs:
        job.kill()


@pytest.fixture
def calls(monkeypatch):
    """Calls of MindSpore's functions as (name, arguments, keyword arguments), in order. No function does anything."""
    made = []

    def record(name, result=None):
        def call(*args, **kwargs):
            made.append((name, args, kwargs))
            made_at = os.environ.get("RANK_TABLE_FILE")
            if name == "set_device":
                made.append(("table", (made_at,), {}))
            return result

        return call

    for name in ("set_context", "set_device", "set_seed", "set_auto_parallel_context"):
        monkeypatch.setattr(ms, name, record(name))
    precision, debug = ms.device_context.ascend.op_precision, ms.device_context.ascend.op_debug
    for name in ("conv_allow_hf32", "matmul_allow_hf32", "precision_mode"):
        monkeypatch.setattr(precision, name, record(name))
    monkeypatch.setattr(debug, "execute_timeout", record("execute_timeout"))
    communication = {"init": None, "get_rank": 3, "get_group_size": 8}
    functions = {name: record(name, result) for name, result in communication.items()}
    monkeypatch.setattr(module, "communication", SimpleNamespace(**functions))
    monkeypatch.setattr(module, "_exchange_cpu_limits", lambda world_size: LIMITS)
    monkeypatch.setattr(module.np.random, "seed", lambda seed: None)
    return made


@pytest.fixture
def launch(monkeypatch):
    """launch(variables) sets the environment variables of a launch, and removes those of others."""

    def set_variables(variables):
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    set_variables({})
    return set_variables
