"""Memory that a training may use: of this host, of an NPU, and the minimum of all ranks."""

import types

import pytest
from mindspore import Tensor

from ssd.models.detector import create_detector
from ssd.runtime.device import Runtime
from ssd.training import memory as memory_module
from ssd.training.memory import available_memory, fit_to_memory, minimum_of_ranks


def test_ranks_share_the_memory_of_a_host(monkeypatch):
    monkeypatch.setattr(memory_module, "available_host_memory", lambda: 1000)
    assert available_memory("CPU", ranks_on_host=1) == 1000 and available_memory("CPU", ranks_on_host=3) == 333
    monkeypatch.setattr(memory_module, "available_host_memory", lambda: None)
    assert available_memory("CPU", ranks_on_host=2) is None


def test_memory_of_an_npu_is_that_of_its_properties_if_known(monkeypatch):
    assert available_memory("Ascend", ranks_on_host=8) is None  # this machine has no NPU
    monkeypatch.setattr(
        memory_module.ms.hal,
        "get_device_properties",
        lambda device_id, device_target: types.SimpleNamespace(total_memory=32),
    )
    assert available_memory("Ascend", ranks_on_host=8) == 32


@pytest.mark.parametrize(
    "memory, others, expected",
    [
        (900, (700, 800), 700),
        (600, (700, 800), 600),
        (None, (700, 800), 700),
        (None, (-1, -1), None),
        (900, (-1, 1), 1),
    ],
)
def test_ranks_use_the_minimum_of_their_memories(memory, others, expected, monkeypatch):
    """Numbers in MiB; -1 is unknown."""
    monkeypatch.setattr(memory_module, "AllGather", lambda: lambda own: Tensor([*own.asnumpy().tolist(), *others]))
    in_bytes = None if memory is None else memory * 2**20 + 5
    assert minimum_of_ranks(in_bytes, world_size=1) == in_bytes
    assert minimum_of_ranks(in_bytes, world_size=3) == (None if expected is None else expected * 2**20)


def test_ranks_of_one_host_share_its_memory_and_agree(tiny_recipe, shapes_records, monkeypatch, capsys):
    """Four ranks on two hosts: two ranks share 60 GB, and the ranks of the other host have less."""
    monkeypatch.setattr(memory_module, "available_host_memory", lambda: 60 * 2**30)
    gathered = []
    monkeypatch.setattr(memory_module, "AllGather", lambda: lambda own: gathered.append(own) or Tensor([8 * 2**10]))
    cfg = tiny_recipe(data_dir=str(shapes_records), num_classes=7, batch_size=2)
    fit_to_memory(cfg, create_detector(cfg), Runtime(world_size=4, ranks_on_host=2))
    assert gathered[0].asnumpy().tolist() == [30 * 2**10] and " of 8.6 GB" in capsys.readouterr().out
