"""What other runs left in a folder is moved aside, and nothing else."""

import json
import os

import pytest

from fakes import Tiny
from ssd.checkpoints.loading import EVALUATION_KEY, STATE_KEY, link_checkpoint, save_checkpoint
from ssd.errors import UserError
from ssd.training.earlier import archive_later_checkpoints, archive_previous_run


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_what_an_earlier_run_left_is_set_aside(tmp_path):
    for run in ("first", "second"):
        (tmp_path / "best.ckpt").write_text(f"best of the {run} run")
        (tmp_path / f"ssd-{run}.ckpt").write_text(run)
        (tmp_path / "metrics.csv").write_text(f"figures of the {run} run")
        (tmp_path / "tensorboard").mkdir()
        (tmp_path / "tensorboard" / "events").write_text(run)
        (tmp_path / "pretrained.ckpt").write_text("mine")
        assert archive_previous_run(tmp_path) == tmp_path / f"earlier-{1 if run == 'first' else 2}"
    assert contents(tmp_path) == {
        "pretrained.ckpt": "mine",
        "earlier-1/best.ckpt": "best of the first run",
        "earlier-1/ssd-first.ckpt": "first",
        "earlier-1/metrics.csv": "figures of the first run",
        "earlier-1/tensorboard/events": "first",
        "earlier-2/best.ckpt": "best of the second run",
        "earlier-2/ssd-second.ckpt": "second",
        "earlier-2/metrics.csv": "figures of the second run",
        "earlier-2/tensorboard/events": "second",
    }


def test_nothing_earlier_to_set_aside(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert archive_previous_run(tmp_path) is None
    assert archive_previous_run(tmp_path / "nowhere") is None
    assert contents(tmp_path) == {"notes.txt": "mine"} and not (tmp_path / "nowhere").exists()


@pytest.fixture
def run(tmp_path):
    """A folder with what a training of 4 epochs of 10 steps left that was best in epoch 3."""
    net = Tiny()
    for epoch in (1, 2, 3, 4):
        save_checkpoint(net, tmp_path / f"ssd-{epoch}.ckpt", {STATE_KEY: json.dumps({"step": 10 * epoch})})
    link_checkpoint(tmp_path / "ssd-4.ckpt", "last.ckpt")
    found = {"epoch": 3, "step": 30, "metrics": {"mAP": 0.5}}
    save_checkpoint(net, tmp_path / "best.ckpt", {EVALUATION_KEY: json.dumps(found)})
    (tmp_path / "metrics.csv").write_text("figures")
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    "resumed, step, moved",
    [
        ("last.ckpt", 40, None),
        ("ssd-4.ckpt", 40, None),
        ("ssd-3.ckpt", 30, ["last.ckpt", "ssd-4.ckpt"]),
        ("ssd-1.ckpt", 10, ["best.ckpt", "last.ckpt", "ssd-2.ckpt", "ssd-3.ckpt", "ssd-4.ckpt"]),
    ],
)
def test_what_comes_after_the_step_gone_on_from_is_set_aside(resumed, step, moved, run):
    before = set(names(run))
    target = archive_later_checkpoints(run, run / resumed, step, steps_per_epoch=10)
    assert (names(target) if target else None) == moved
    assert {*names(run), *(moved or [])} - {"earlier-1"} == before


def test_a_best_of_steps_that_are_made_again_is_set_aside(run):
    """As a kill leaves it between an evaluation and the checkpoint of its epoch."""
    save_checkpoint(Tiny(), run / "last.ckpt", {STATE_KEY: json.dumps({"step": 25})})
    for epoch in (3, 4):
        (run / f"ssd-{epoch}.ckpt").unlink()
    assert names(archive_later_checkpoints(run, run / "last.ckpt", 25, steps_per_epoch=10)) == ["best.ckpt"]


def test_a_last_checkpoint_that_cannot_be_read_is_set_aside(run):
    (run / "last.ckpt").unlink()
    (run / "last.ckpt").write_bytes(b"cut off")
    assert names(archive_later_checkpoints(run, run / "ssd-4.ckpt", 40, steps_per_epoch=10)) == ["last.ckpt"]


def test_a_file_from_elsewhere_moves_nothing_of_before_it(run, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "ssd-4.ckpt"
    other.write_bytes((run / "ssd-4.ckpt").read_bytes())
    assert archive_later_checkpoints(run, other, 40, steps_per_epoch=10) is None


def test_what_cannot_be_moved_is_told_in_one_line(run, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(UserError, match=r"ckpt_save_dir: got .*cannot be moved aside \(Permission denied\)"):
        archive_previous_run(run)
