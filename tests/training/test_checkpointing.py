"""CheckpointSaver: when it writes checkpoints, which of them it keeps, and what they contain."""

import dataclasses
import errno
import json
from pathlib import Path

import pytest

from fakes import TinyNet, saved_weight, set_weight, step_end
from ssd.checkpoints.reading import read_checkpoint
from ssd.checkpoints.records import STATE_KEY
from ssd.errors import UserError
from ssd.training.checkpointing import CheckpointSaver, StopOnSignal
from ssd.training.resume import TrainingState

START = TrainingState(step=0, steps_per_epoch=10, images_per_step=4, seed=7)


@pytest.fixture
def net():
    return TinyNet()


def create_saver(net, folder, keep=9, every_steps=None, stop=False):
    return CheckpointSaver(net, folder, keep=keep, every_steps=every_steps, start=START, stop=stop)


def state_of(path):
    return TrainingState(**json.loads(read_checkpoint(path)[STATE_KEY]))


@pytest.mark.parametrize("keep, kept", [(2, ["ssd-4.ckpt", "ssd-5.ckpt"]), (1, ["ssd-5.ckpt"])])
def test_the_newest_checkpoints_are_kept(keep, kept, net, tmp_path):
    saver = create_saver(net, tmp_path / "ckpt", keep)
    for epoch in range(1, 6):
        set_weight(net, epoch)
        saver.on_epoch_end(step_end(10 * epoch))
        for name in (f"ssd-{epoch}.ckpt", "last.ckpt"):
            assert saved_weight(tmp_path / "ckpt" / name) == epoch
            assert state_of(tmp_path / "ckpt" / name) == dataclasses.replace(START, step=10 * epoch)
    assert sorted(path.name for path in (tmp_path / "ckpt").iterdir()) == ["last.ckpt", *kept]


def test_other_files_and_deleted_checkpoints_do_not_matter(net, tmp_path):
    saver = create_saver(net, tmp_path, 1)
    (tmp_path / "best.ckpt").touch()
    for epoch in (1, 2):
        saver.on_epoch_end(step_end(10 * epoch))
        if epoch == 1:
            (tmp_path / "ssd-1.ckpt").unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt", "ssd-2.ckpt"]


def test_a_resumed_training_counts_the_checkpoints_it_finds(net, tmp_path):
    for first in (1, 3):
        saver = create_saver(net, tmp_path, keep=2)
        for epoch in (first, first + 1):
            saver.on_epoch_end(step_end(10 * epoch))
    assert sorted(path.name for path in tmp_path.glob("ssd-*")) == ["ssd-3.ckpt", "ssd-4.ckpt"]


def test_a_failed_second_name_or_removal_loses_no_checkpoint(net, tmp_path, monkeypatch, capsys):
    """A file system without hard links needs space for the second name."""

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    saver = create_saver(net, tmp_path, keep=1)
    saver.on_epoch_end(step_end(10))
    with monkeypatch.context() as patch, pytest.raises(UserError, match="last.ckpt: .*no space left.*ssd-2.ckpt"):
        patch.setattr("os.link", fail)
        patch.setattr("shutil.copyfile", fail)
        saver.on_epoch_end(step_end(20))
    assert state_of(tmp_path / "ssd-2.ckpt").step == 20 and state_of(tmp_path / "last.ckpt").step == 10
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail)
        saver.on_epoch_end(step_end(30))
    assert capsys.readouterr().err.count("ssd-1.ckpt: ") == 1
    assert state_of(tmp_path / "last.ckpt").step == 30


@pytest.mark.parametrize(
    "every_steps, sink_size, expected",
    [
        (4, 1, [4, 8, 12, 16]),  # at 20 the epoch ends, and saves by itself
        (4, 2, [4, 8, 12, 16]),
        (4, 5, [5, 15]),  # at the first end of a group from a multiple of 4 on; 8 and 16 end up in the save of an epoch
        (3, 2, [4, 6, 12, 16, 18]),
        (7, 5, [15]),
        (4, 10, []),
        (None, 2, []),
    ],
)
def test_last_checkpoint_is_saved_within_epochs(every_steps, sink_size, expected, net, tmp_path):
    saver, saved = create_saver(net, tmp_path, every_steps=every_steps), []
    for step in range(sink_size, 21, sink_size):
        saver.on_step_end(step_end(step, previous=step - sink_size))
        if (tmp_path / "last.ckpt").exists():
            saved.append(step)
            assert state_of(tmp_path / "last.ckpt").step == step
            (tmp_path / "last.ckpt").unlink()
    assert saved == expected


def end_step(step, *callbacks):
    """Call the callbacks as TrainingEvents does."""
    event = step_end(step)
    for callback in callbacks:
        callback.on_step_end(event)
    if event.ends_epoch:
        for callback in callbacks:
            callback.on_epoch_end(event)


def test_a_training_stops_after_saving(net, tmp_path):
    saver = create_saver(net, tmp_path, stop=True)
    end_step(13, StopOnSignal(False))
    with pytest.raises(KeyboardInterrupt):
        end_step(13, saver, StopOnSignal(True))
    assert state_of(tmp_path / "last.ckpt").step == 13 and not list(tmp_path.glob("ssd-*"))


def test_a_training_that_stops_at_the_end_of_an_epoch_has_the_checkpoint_of_the_epoch(net, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        end_step(20, create_saver(net, tmp_path, stop=True), StopOnSignal(True))
    for name in ("ssd-2.ckpt", "last.ckpt"):
        assert state_of(tmp_path / name).step == 20
