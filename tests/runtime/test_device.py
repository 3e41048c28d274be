"""Device, launch and options of MindSpore, with a fake MindSpore in which an NPU works."""

import logging
import os
from types import SimpleNamespace

import mindspore as ms
import pytest

from ssd.config.loading import CONFIGS, find_device, load_config
from ssd.errors import UserError
from ssd.runtime import device as module
from ssd.runtime.cpu_cores import CpuLimits
from ssd.runtime.device import Runtime, create_runtime, set_up_runtime

RECIPES = CONFIGS.parent / "examples" / "det" / "ssd"
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
SCHEDULER = {"MS_SCHED_HOST": "10.0.0.1", "MS_SCHED_PORT": "8118"}
MSRUN = {"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "8", **SCHEDULER, "RANK_SIZE": "8", "RANK_ID": "3", "DEVICE_ID": "3"}
LIMITS = [CpuLimits(host, range(144)) for host in (7, 7, 7, 7, 7, 7, -8, -8)]  # six ranks and two ranks
RANK_TABLE = {"RANK_TABLE_FILE": "/tables/hccl_8p.json", "RANK_SIZE": "8", "RANK_ID": "3", "DEVICE_ID": "5"}
ALONE = {}
DEVICE_ERROR = """Unsupported device target Ascend. This process only supports one of the ['CPU']. Please check whether
the Ascend environment is installed correctly. For details, please refer to "Device load error message".

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


def set_up(device_target="Ascend", jit_level="", **options):
    return set_up_runtime(device_target=device_target, mode=0, jit_level=jit_level, seed=1, **options)


def arguments_of(calls, name):
    return [args or kwargs for called, args, kwargs in calls if called == name]


# --- device ---


@pytest.mark.parametrize(
    "variables, expected",
    [
        (ALONE, ("Ascend",)),
        ({"DEVICE_ID": "6"}, ("Ascend", 6)),
        ({"DEVICE_ID": ""}, ("Ascend",)),
        (RANK_TABLE, ("Ascend", 5)),
        (MSRUN, ("Ascend",)),  # the ranks agree on their devices
        ({"MS_ROLE": "MS_SCHED", "MS_WORKER_NUM": "1", "DEVICE_ID": "2"}, ("Ascend",)),
    ],
)
def test_the_launcher_or_the_user_selects_the_npu(variables, expected, calls, launch):
    launch(variables)
    set_up()
    assert arguments_of(calls, "set_device") == [expected]


def test_the_scheduler_of_msrun_sets_no_options_of_a_device(calls, launch):
    for variables, count in (({"MS_ROLE": "MS_SCHED", "MS_WORKER_NUM": "1"}, 0), (ALONE, 1)):
        launch(variables)
        calls.clear()
        set_up(execute_timeout_s=60)
        assert len(arguments_of(calls, "execute_timeout")) == count


def test_device_id_is_ignored_on_cpu(calls, launch):
    launch({"DEVICE_ID": "not a number"})
    set_up("CPU")
    assert arguments_of(calls, "set_device") == [("CPU",)]


@pytest.mark.parametrize("value", ["-1", "0,1", "npu", "1.0", "²"])
def test_a_device_id_that_is_not_a_number_is_refused(value, calls, launch):
    launch({"DEVICE_ID": value})
    with pytest.raises(UserError, match="DEVICE_ID: ") as error:
        set_up()
    assert repr(value) in str(error.value) and not arguments_of(calls, "set_device")


def test_ranks_of_a_rank_table_need_their_device_id(calls, launch):
    launch({name: value for name, value in RANK_TABLE.items() if name != "DEVICE_ID"})
    with pytest.raises(UserError, match="DEVICE_ID: .*3.*hccl_8p.json"):
        set_up()


def test_ranks_are_connected_after_the_device_is_set(calls, launch):
    launch(MSRUN)
    runtime = set_up()
    assert runtime == Runtime(3, world_size=8, num_cores=24.0, ranks_on_host=6) and not runtime.is_main
    names = [name for name, _, _ in calls]
    assert names.index("set_device") < names.index("init") < names.index("set_auto_parallel_context")
    assert arguments_of(calls, "set_auto_parallel_context")[0]["device_num"] == 8


@pytest.mark.parametrize(
    "variables, key",
    [
        ({"RANK_SIZE": "eight"}, "RANK_SIZE"),
        ({"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "-8"}, "MS_WORKER_NUM"),
        ({**RANK_TABLE, "RANK_ID": "first"}, "RANK_ID"),
        # left by another launch
        ({"RANK_SIZE": "8"}, "RANK_SIZE"),
        ({"RANK_SIZE": "8", "RANK_ID": "0"}, "RANK_SIZE"),
        ({"MS_WORKER_NUM": "8"}, "MS_WORKER_NUM"),
    ],
)
def test_ranks_that_no_launcher_started_are_refused(variables, key, calls, launch):
    launch(variables)
    with pytest.raises(UserError, match=f"^{key}: ") as error:
        set_up()
    assert f"unset {key}" in str(error.value) and not arguments_of(calls, "init")


def test_ranks_of_a_rank_table_need_npus(calls, launch):
    launch(RANK_TABLE)
    with pytest.raises(UserError, match="^RANK_TABLE_FILE: .*CPU"):
        set_up("CPU")


def test_one_process_connects_nothing(calls, launch):
    for variables in (ALONE, {"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "1"}, {**RANK_TABLE, "RANK_SIZE": "1"}):
        launch(variables)
        assert set_up().world_size == 1
    assert not arguments_of(calls, "init") + arguments_of(calls, "set_auto_parallel_context")


# --- rank table ---


@pytest.mark.parametrize(
    "variables, is_kept",
    [
        ({"RANK_TABLE_FILE": "/tables/old.json"}, False),
        ({"RANK_TABLE_FILE": "/tables/old.json", "RANK_ID": "0"}, False),
        ({"RANK_TABLE_FILE": "/tables/old.json", **MSRUN}, False),
        (RANK_TABLE, True),
    ],
)
def test_a_rank_table_of_another_launch_is_removed_before_the_device_is_set(
    variables, is_kept, calls, launch, monkeypatch
):
    warnings = []
    monkeypatch.setattr(module.log, "warning", warnings.append)
    launch(variables)
    set_up()
    assert arguments_of(calls, "table") == [(variables["RANK_TABLE_FILE"] if is_kept else None,)]
    assert len(warnings) == (not is_kept)
    for warning in warnings:
        assert warning.startswith("RANK_TABLE_FILE: ") and "/tables/old.json" in warning and "\n" not in warning


def test_without_a_rank_table_and_on_cpu_nothing_is_removed(calls, launch, caplog):
    set_up()
    launch({"RANK_TABLE_FILE": "/tables/old.json"})
    set_up("CPU")
    assert os.environ["RANK_TABLE_FILE"] == "/tables/old.json"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# --- options ---


def test_options_reach_mindspore(calls, launch, tmp_path):
    launch(MSRUN)
    options = {"conv_allow_hf32": False, "matmul_allow_hf32": True, "execute_timeout_s": 1800, "comm_fusion_mb": 16}
    values = {"device_target": "Ascend", "data_dir": str(tmp_path), "precision_mode": "force_fp32", **options}
    create_runtime(load_config(RECIPES / "ssd_mobilenetv2.yaml", values))
    for name, value in (
        ("conv_allow_hf32", False),
        ("matmul_allow_hf32", True),
        ("precision_mode", "force_fp32"),
        ("execute_timeout", 1800),
    ):
        assert arguments_of(calls, name) == [(value,)]
    fusion = {"comm_fusion": {"allreduce": {"mode": "size", "config": 16}}}
    assert arguments_of(calls, "set_auto_parallel_context")[1:] == [fusion]
    assert {"jit_config": {"jit_level": "O2"}} in arguments_of(calls, "set_context")


def test_runtime_fragment_of_ascend_sets_only_the_precision_mode(calls, launch, tmp_path):
    launch(MSRUN)
    create_runtime(load_config(RECIPES / "ssd_resnet50.yaml", {"device_target": "Ascend", "data_dir": str(tmp_path)}))
    assert arguments_of(calls, "precision_mode") == [("must_keep_origin_dtype",)]
    for name in ("conv_allow_hf32", "matmul_allow_hf32", "execute_timeout"):
        assert arguments_of(calls, name) == []
    assert arguments_of(calls, "set_auto_parallel_context")[1]["comm_fusion"]["allreduce"]["config"] == 32
    assert arguments_of(calls, "set_context") == [{"mode": 0}]  # no jit level


def test_options_for_npus_are_not_set_on_cpu(calls, launch):
    options = {"conv_allow_hf32": True, "matmul_allow_hf32": True, "precision_mode": "x", "execute_timeout_s": 1}
    set_up("CPU", jit_level="O1", **options)
    assert [name for name, _, _ in calls] == ["set_context", "set_device", "table", "set_context", "set_seed"]
    assert arguments_of(calls, "set_context") == [{"mode": 0}, {"jit_config": {"jit_level": "O1"}}]


def test_mindspore_has_the_functions_and_values_of_the_options():
    """Ranges of MindSpore 2.10, in which the functions reject other values also without an NPU."""
    precision, debug = ms.device_context.ascend.op_precision, ms.device_context.ascend.op_debug
    for function in (precision.conv_allow_hf32, precision.matmul_allow_hf32, precision.precision_mode):
        assert callable(function)
    with pytest.raises(TypeError):
        debug.execute_timeout("long")


# --- errors ---


def fail_with(error):
    def fail(*args, **kwargs):
        raise error

    return fail


def test_the_reason_of_a_missing_device_is_kept(calls, launch, monkeypatch):
    monkeypatch.setattr(ms, "set_device", fail_with(RuntimeError(DEVICE_ERROR)))
    with pytest.raises(UserError, match="^device_target: .*Ascend") as error:
        set_up()
    message = str(error.value)
    assert "libge_runner.so: cannot open shared object file" in message and "\n" not in message
    assert "---" not in message and "Call Stack" not in message and "ms_context.cc" not in message


@pytest.mark.parametrize("reason", ['"hccl" wheel was not installed correctly.', "one\n2.second reason\n" + 900 * "x"])
def test_the_reason_of_a_failed_connection_is_kept(reason, calls, launch, monkeypatch):
    launch(MSRUN)
    monkeypatch.setattr(module.communication, "init", fail_with(RuntimeError(reason)))
    with pytest.raises(UserError, match="^launch: .*8 ranks") as error:
        set_up()
    message = str(error.value)
    assert reason[-20:].strip(".") in message
    assert "\n" not in message and len(message) < 600


def test_a_second_value_of_an_option_is_an_error(calls, launch, monkeypatch):
    refused = fail_with(RuntimeError("The 'conv_allow_hf32' can not be set repeatedly."))
    monkeypatch.setattr(ms.device_context.ascend.op_precision, "conv_allow_hf32", refused)
    with pytest.raises(UserError, match="^conv_allow_hf32: .*False.*repeatedly"):
        set_up(conv_allow_hf32=False)


@pytest.mark.skipif(find_device() == "Ascend", reason="this machine has an NPU")
def test_mindspore_names_the_missing_library(launch, monkeypatch):
    monkeypatch.setattr(ms, "set_context", lambda **kwargs: None)
    with pytest.raises(UserError, match="^device_target: .*\\.so") as error:
        set_up()
    assert "\n" not in str(error.value)
