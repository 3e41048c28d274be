"""Device, launch and options of MindSpore, with a fake MindSpore in which an NPU works."""

import logging
import os

import pytest

from device_launches import ALONE, MSRUN, RANK_TABLE, arguments_of, set_up
from ssd.errors import UserError
from ssd.runtime import device as module
from ssd.runtime.device import Runtime

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
