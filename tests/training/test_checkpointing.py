"""CheckpointSaver: when it writes checkpoints, which of them it keeps, and what they contain."""

import dataclasses
import json

import pytest

from fakes import TinyNet, context, saved_weight, set_weight
from ssd.checkpoints.loading import read_checkpoint
from ssd.training.checkpointing import CheckpointSaver, StopOnSignal
from ssd.training.resume import STATE_KEY, TrainingState

START = TrainingState(step=0, steps_per_epoch=10, images_per_step=4, seed=7)


@pytest.fixture
def net():
    return TinyNet()


def create_saver(folder, keep=9, every_steps=None, stop=False):
    return CheckpointSaver(folder, keep=keep, every_steps=every_steps, start=START, stop=stop)


def state_of(path):
    return TrainingState(**json.loads(read_checkpoint(path)[STATE_KEY]))


@pytest.mark.parametrize("keep, kept", [(2, ["ssd-4.ckpt", "ssd-5.ckpt"]), (1, ["ssd-5.ckpt"])])
def test_the_newest_checkpoints_are_kept(keep, kept, net, tmp_path):
    saver = create_saver(tmp_path / "ckpt", keep)
    for epoch in range(1, 6):
        set_weight(net, epoch)
        saver.on_train_epoch_end(context(cur_epoch_num=epoch, cur_step_num=10 * epoch, train_network=net))
        for name in (f"ssd-{epoch}.ckpt", "last.ckpt"):
            assert saved_weight(tmp_path / "ckpt" / name) == epoch
            assert state_of(tmp_path / "ckpt" / name) == dataclasses.replace(START, step=10 * epoch)
    assert sorted(path.name for path in (tmp_path / "ckpt").iterdir()) == ["last.ckpt", *kept]


def test_other_files_and_deleted_checkpoints_do_not_matter(net, tmp_path):
    saver = create_saver(tmp_path, 1)
    (tmp_path / "best.ckpt").touch()
    for epoch in (1, 2):
        saver.on_train_epoch_end(context(cur_epoch_num=epoch, cur_step_num=10 * epoch, train_network=net))
        if epoch == 1:
            (tmp_path / "ssd-1.ckpt").unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt", "ssd-2.ckpt"]


def test_a_resumed_training_counts_the_checkpoints_it_finds(net, tmp_path):
    for first in (1, 3):
        saver = create_saver(tmp_path, keep=2)
        for epoch in (first, first + 1):
            saver.on_train_epoch_end(context(cur_epoch_num=epoch, cur_step_num=10 * epoch, train_network=net))
    assert sorted(path.name for path in tmp_path.glob("ssd-*")) == ["ssd-3.ckpt", "ssd-4.ckpt"]


def test_last_checkpoint_is_saved_within_epochs(net, tmp_path):
    saver, saved = create_saver(tmp_path, every_steps=4), []
    for step in range(1, 21):
        saver.on_train_step_end(context(cur_step_num=step, batch_num=10, train_network=net))
        if (tmp_path / "last.ckpt").exists():
            saved.append(step)
            assert state_of(tmp_path / "last.ckpt").step == step
            (tmp_path / "last.ckpt").unlink()
    assert saved == [4, 8, 12, 16]  # at 20 the epoch ends, and saves by itself


def test_a_training_stops_after_saving(net, tmp_path):
    saver, step = create_saver(tmp_path, stop=True), context(cur_step_num=13, batch_num=10, train_network=net)
    StopOnSignal(False).on_train_step_end(step)
    saver.on_train_step_end(step)
    with pytest.raises(KeyboardInterrupt):
        StopOnSignal(True).on_train_step_end(step)
    assert state_of(tmp_path / "last.ckpt").step == 13 and not list(tmp_path.glob("ssd-*"))
