"""Files of previous runs are archived, and no others."""

from pathlib import Path

import pytest

from fakes import TinyNet
from ssd.checkpoints.records import EVALUATION_KEY, STATE_KEY
from ssd.checkpoints.saving import link_checkpoint, save_checkpoint
from ssd.errors import UserError
from ssd.training.resume import archive_later_checkpoints, archive_previous_run


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_each_previous_run_gets_an_archive(tmp_path):
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


def test_without_a_previous_run_nothing_is_moved(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert archive_previous_run(tmp_path) is None
    assert archive_previous_run(tmp_path / "nowhere") is None
    assert contents(tmp_path) == {"notes.txt": "mine"} and not (tmp_path / "nowhere").exists()


@pytest.fixture
def run(tmp_path):
    """The folder of a training run of 4 epochs of 10 steps that was best in epoch 3."""
    net = TinyNet()
    for epoch in (1, 2, 3, 4):
        save_checkpoint(net, tmp_path / f"ssd-{epoch}.ckpt", {STATE_KEY: {"step": 10 * epoch, "steps_per_epoch": 10}})
    link_checkpoint(tmp_path / "ssd-4.ckpt", "last.ckpt")
    evaluation = {"epoch": 3, "step": 30, "metrics": {"mAP": 0.5}}
    save_checkpoint(net, tmp_path / "best.ckpt", {EVALUATION_KEY: evaluation})
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
def test_checkpoints_after_the_resumed_step_are_archived(resumed, step, moved, run):
    before = set(names(run))
    target = archive_later_checkpoints(run, resumed=run / resumed, step=step)
    assert (names(target) if target else None) == moved
    assert {*names(run), *(moved or [])} - {"earlier-1"} == before


def test_a_best_checkpoint_of_repeated_steps_is_archived(run):
    """A kill between an evaluation and the checkpoint of its epoch leaves one."""
    save_checkpoint(TinyNet(), run / "last.ckpt", {STATE_KEY: {"step": 25, "steps_per_epoch": 10}})
    for epoch in (3, 4):
        (run / f"ssd-{epoch}.ckpt").unlink()
    archive = archive_later_checkpoints(run, resumed=run / "last.ckpt", step=25)
    assert names(archive) == ["best.ckpt"]


def test_an_unreadable_last_checkpoint_is_archived(run):
    (run / "last.ckpt").unlink()
    (run / "last.ckpt").write_bytes(b"cut off")
    archive = archive_later_checkpoints(run, resumed=run / "ssd-4.ckpt", step=40)
    assert names(archive) == ["last.ckpt"]


def test_resuming_from_another_folder_moves_nothing_older(run, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "ssd-4.ckpt"
    other.write_bytes((run / "ssd-4.ckpt").read_bytes())
    assert archive_later_checkpoints(run, resumed=other, step=40) is None


def test_files_that_cannot_be_moved_are_reported(run, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)  # not os.mkdir, which pathlib of Python 3.10 looks up only at import
    with pytest.raises(UserError, match=r"^ckpt_save_dir: .*permission denied"):
        archive_previous_run(run)
