"""Checkpoints of rank 0 contain the accumulated gradients of all devices, from which each device takes its own."""

import dataclasses

import numpy as np
import pytest
from mindspore import Tensor, nn

from fakes import WeightedSum, step_end
from ssd.checkpoints.reading import read_checkpoint
from ssd.checkpoints.records import STATE_KEY
from ssd.checkpoints.saving import save_checkpoint
from ssd.runtime.device import Runtime
from ssd.training import accumulated_gradients
from ssd.training.accumulated_gradients import GatherAccumulatedGradients
from ssd.training.resume import TrainingState, resume_training
from ssd.training.train_step import TrainStep

START = TrainingState(step=0, steps_per_epoch=10, images_per_step=4, seed=0)


def create_step(gradient=(0, 0), batches=0):
    net = WeightedSum()
    optimizer = nn.Momentum(net.trainable_params(), learning_rate=0.5, momentum=0.9)
    step = TrainStep(net, optimizer, nn.FixedLossScaleUpdateCell(1.0), accumulate=3)
    step.accumulated[0].set_data(Tensor(np.array(gradient, np.float32)))
    step.batches.set_data(Tensor(batches, dtype=step.batches.dtype))
    return step


def create_gather(step, is_main=True, every_steps=2, stop=False):
    """Return the callback of one of two devices. The other device has ten times its gradients."""
    gather = GatherAccumulatedGradients(step, is_main=is_main, every_steps=every_steps, stop=stop)
    gather.shapes = []

    def all_gather(rows):
        gather.shapes.append(rows.shape)
        return Tensor(np.concatenate([rows.asnumpy(), 10 * rows.asnumpy()]))

    gather.all_gather = all_gather
    return gather


@pytest.mark.parametrize("chunk", [1, 2, 2**22])
def test_gradients_of_all_devices_are_gathered_between_updates(chunk, monkeypatch):
    monkeypatch.setattr(accumulated_gradients, "CHUNK", chunk)
    step = create_step(gradient=(3, 4), batches=1)
    gather = create_gather(step)
    gather.on_step_end(step_end(1))
    assert gather.gathered == {}  # nothing is saved after this step
    gather.on_step_end(step_end(2))
    assert {name: value.tolist() for name, value in gather.gathered.items()} == {
        "accumulated.of_devices.weight": [[3, 4], [30, 40]]
    }
    gather.on_step_begin()
    assert gather.gathered == {}
    step.batches.set_data(Tensor(0, dtype=step.batches.dtype))
    gather.on_step_end(step_end(4))
    assert gather.gathered == {}  # an update has just used the gradients


def test_the_exchange_is_compiled_before_the_first_step():
    """Otherwise the order of compilations would depend on signals, and the compile cache would mix graphs."""
    gather = create_gather(create_step(gradient=(3, 4), batches=1))
    gather.on_epoch_begin()
    gather.on_epoch_begin()
    assert gather.shapes == [(1, 2)] and gather.gathered == {}
    gather.on_step_end(step_end(2))
    assert gather.shapes == [(1, 2), (1, 2)]


@pytest.mark.parametrize("event, stop", [(step_end(10), False), (step_end(3), True)])
def test_gradients_are_gathered_at_the_end_of_an_epoch_and_of_a_run(event, stop):
    gather = create_gather(create_step(gradient=(3, 4), batches=2), every_steps=None, stop=stop)
    gather.on_step_end(event)
    assert len(gather.gathered) == 1


def test_other_ranks_keep_nothing():
    gather = create_gather(create_step(gradient=(3, 4), batches=1), is_main=False)
    gather.on_step_end(step_end(2))
    assert gather.gathered == {}


@pytest.mark.parametrize(
    "runtime, gradient",
    [
        (Runtime(rank=0, world_size=2), [3, 4]),
        (Runtime(rank=1, world_size=2), [30, 40]),
        (None, [16.5, 22]),  # the mean, which gives the same update
        (Runtime(rank=3, world_size=4), [16.5, 22]),
    ],
)
def test_each_device_resumes_with_its_own_gradients(runtime, gradient, tmp_path):
    saved, restored = create_step(gradient=(3, 4), batches=1), create_step()
    gather = create_gather(saved)
    gather.on_step_end(step_end(2))
    path, records = tmp_path / "last.ckpt", {STATE_KEY: dataclasses.asdict(dataclasses.replace(START, step=2))}
    save_checkpoint(saved, path, records, arrays=gather.gathered)
    assert read_checkpoint(path)["accumulated.weight"].asnumpy().tolist() == [3, 4]  # older versions read this one
    resume_training(restored, path, initial_state=START, metadata={}, runtime=runtime)
    assert restored.accumulated[0].asnumpy().tolist() == gradient and restored.batches.asnumpy() == 1


def test_a_checkpoint_without_gradients_of_all_devices_still_resumes(tmp_path):
    restored, records = create_step(), {STATE_KEY: dataclasses.asdict(START)}
    save_checkpoint(create_step(gradient=(3, 4), batches=1), tmp_path / "last.ckpt", records)
    runtime = Runtime(rank=1, world_size=2)
    resume_training(restored, tmp_path / "last.ckpt", initial_state=START, metadata={}, runtime=runtime)
    assert restored.accumulated[0].asnumpy().tolist() == [3, 4]
