"""Options of MindSpore for NPUs, and errors that a device or a connection causes."""

import mindspore as ms
import pytest

from device_launches import MSRUN, RECIPES, arguments_of, set_up
from ssd.config.loading import find_device, load_config
from ssd.errors import UserError
from ssd.runtime import device as module
from ssd.runtime.device import create_runtime


def fail_with(error):
    def fail(*args, **kwargs):
        raise error

    return fail


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
