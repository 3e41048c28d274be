"""Which checkpoint of a folder is taken: by the step inside, never by file times."""

import os
import random

import mindspore as ms
import mindspore.nn as nn
import pytest

from ssd.checkpoints.choice import (
    choose_checkpoint,
    choose_resume_checkpoint,
    describe_checkpoint,
    find_checkpoint,
    find_epoch_checkpoints,
    find_training_checkpoints,
    sort_by_step,
)
from ssd.checkpoints.records import EVALUATION_KEY, STATE_KEY
from ssd.checkpoints.saving import save_checkpoint
from ssd.errors import UserError


class TinyNet(nn.Cell):
    def __init__(self):
        super().__init__()
        self.weight = ms.Parameter(ms.Tensor([1.0]), "weight")


def write_step(path, step, *, steps_per_epoch=10):
    save_checkpoint(TinyNet(), path, {STATE_KEY: {"step": step, "steps_per_epoch": steps_per_epoch}})


def write_best(path, *, epoch=2, mean_ap=0.5383):
    evaluation = {"step": 10 * epoch, "epoch": epoch, "metrics": {"mAP": mean_ap}}
    save_checkpoint(TinyNet(), path, {EVALUATION_KEY: evaluation})


@pytest.fixture
def folder(tmp_path):
    """Folder of a run of 13 epochs whose file times are in any order, as after `cp -r`."""
    times = list(range(1, 15))
    random.Random(0).shuffle(times)
    for epoch in (2, 9, 10, 13):
        write_step(tmp_path / f"ssd-{epoch}.ckpt", 10 * epoch)
        os.utime(tmp_path / f"ssd-{epoch}.ckpt", (times[epoch], times[epoch]))
    write_step(tmp_path / "last.ckpt", 130)
    os.utime(tmp_path / "last.ckpt", (0, 0))
    (tmp_path / "other-99.ckpt").touch()
    return tmp_path


def test_the_step_inside_decides(folder):
    assert find_checkpoint(folder).name == "ssd-13.ckpt"
    assert choose_resume_checkpoint("", str(folder)).name == "last.ckpt"
    assert choose_resume_checkpoint(str(folder), "elsewhere").name == "last.ckpt"
    ordered = sort_by_step(find_training_checkpoints(folder))
    assert [(path.name, step) for path, step in ordered] == [
        ("last.ckpt", 130),
        ("ssd-13.ckpt", 130),
        ("ssd-10.ckpt", 100),
        ("ssd-9.ckpt", 90),
        ("ssd-2.ckpt", 20),
    ]


def test_a_stopped_epoch_is_newer_than_the_epoch_before(folder):
    write_step(folder / "last.ckpt", 134)
    assert find_checkpoint(folder).name == "last.ckpt"


def test_the_name_does_not_count_if_the_step_is_known(folder):
    (folder / "last.ckpt").unlink()
    (folder / "ssd-13.ckpt").rename(folder / "ssd-1.ckpt")
    assert find_checkpoint(folder).name == "ssd-1.ckpt"


def test_the_best_is_preferred(folder):
    write_best(folder / "best.ckpt")
    assert find_checkpoint(folder).name == "best.ckpt"
    assert choose_checkpoint(None, str(folder)).name == "best.ckpt"
    assert choose_checkpoint(str(folder), "elsewhere").name == "best.ckpt"
    assert choose_checkpoint(str(folder / "ssd-2.ckpt"), str(folder)).name == "ssd-2.ckpt"


def test_files_without_a_step_count_as_the_epoch_in_their_name(folder):
    """Damaged files stay in the order, so that a run does not resume from an older file without a word."""
    (folder / "last.ckpt").unlink()
    for name in ("ssd-11.ckpt", "ssd-14_9.ckpt"):  # the second name is one of MindCV's example
        (folder / name).write_bytes(b"damaged")
    ordered = [(path.name, step) for path, step in sort_by_step(find_training_checkpoints(folder))]
    assert ordered[:3] == [("ssd-14_9.ckpt", 140), ("ssd-13.ckpt", 130), ("ssd-11.ckpt", 110)]
    (folder / "last.ckpt").write_bytes(b"damaged")
    assert choose_resume_checkpoint("", str(folder)).name == "last.ckpt"


def test_files_of_other_names_are_listed(tmp_path):
    (tmp_path / "ssd_mobilenetv2-5bbd7411.ckpt").touch()
    with pytest.raises(UserError, match=f"{tmp_path} contains ssd_mobilenetv2-5bbd7411.ckpt"):
        choose_checkpoint(str(tmp_path), "elsewhere")


def test_copies_of_the_user_are_no_epoch_checkpoints(folder):
    for name in ("ssd-3 good.ckpt", "ssd-best.ckpt", "ssd-13_copy.ckpt"):
        (folder / name).write_bytes((folder / "ssd-9.ckpt").read_bytes())
    names = [path.name for path in find_epoch_checkpoints(folder)]
    assert names == ["ssd-2.ckpt", "ssd-9.ckpt", "ssd-10.ckpt", "ssd-13.ckpt"]


def test_an_empty_folder_has_no_checkpoint(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert find_checkpoint(folder) is None
        with pytest.raises(UserError, match=f"^--resume: {folder} "):
            choose_resume_checkpoint("", str(folder))
        with pytest.raises(UserError, match=f"^ckpt_path: .*{folder} "):
            choose_checkpoint(None, str(folder))
    (tmp_path / ".unfinished-ssd-11.ckpt").mkdir()
    (tmp_path / ".unfinished-ssd-11.ckpt" / "ssd-11.ckpt").touch()
    assert find_checkpoint(tmp_path) is None


@pytest.mark.parametrize("typed", ["{folder}/ssd-14.ckpt", "{folder}/sub/ssd-13.ckpt", "ssd-14.ckpt"])
def test_a_mistyped_file_is_answered_with_the_files_that_are_there(typed, folder):
    path = typed.format(folder=folder)
    files = f"{folder} contains last.ckpt, ssd-2.ckpt, ssd-9.ckpt, ssd-10.ckpt, ssd-13.ckpt, other-99.ckpt"
    for option, choose in (("--resume", choose_resume_checkpoint), ("ckpt_path", choose_checkpoint)):
        with pytest.raises(UserError) as error:
            choose(path, str(folder))
        assert str(error.value).startswith(f"{option}: {path} ") and files in str(error.value)


def test_a_long_list_of_files_is_shortened(tmp_path):
    for epoch in range(1, 31):
        (tmp_path / f"ssd-{epoch}.ckpt").touch()
    with pytest.raises(UserError, match="ssd-1.ckpt, ssd-2.ckpt, ssd-3.ckpt, …, ssd-27.ckpt.* ssd-30.ckpt"):
        choose_checkpoint("ssd-31.ckpt", str(tmp_path))


def test_descriptions_tell_epoch_and_mean_ap(folder):
    write_best(folder / "best.ckpt")
    assert describe_checkpoint(folder / "best.ckpt") == f"{folder / 'best.ckpt'}, epoch 2, mAP 0.5383"
    assert describe_checkpoint(folder / "ssd-9.ckpt") == f"{folder / 'ssd-9.ckpt'}, epoch 9"
    write_step(folder / "last.ckpt", 134)
    assert describe_checkpoint(folder / "last.ckpt") == f"{folder / 'last.ckpt'}, step 4 of epoch 14"
    write_best(folder / "best.ckpt", mean_ap=-1.0)
    assert describe_checkpoint(folder / "best.ckpt") == f"{folder / 'best.ckpt'}, epoch 2"
    assert describe_checkpoint(folder / "other-99.ckpt") == str(folder / "other-99.ckpt")
