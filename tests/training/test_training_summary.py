"""The summary at the end of a training run. The trainer's tests run its command."""

import shlex
import sys
from pathlib import Path

import pytest

from ssd.training.logger import evaluation_command, training_summary
from ssd.training.records import EvalRecord

TRAIN = "examples/det/ssd/train.py"
EVAL = "examples/det/ssd/eval.py"


def command(*arguments, checkpoint="ckpt/best.ckpt"):
    """Return the arguments after the interpreter."""
    line = evaluation_command([TRAIN, *arguments], Path(checkpoint))
    python, *rest = shlex.split(line)
    assert python == sys.orig_argv[0]
    return rest


def test_the_command_takes_the_arguments_of_training():
    arguments = ["--config", "a.yaml", "--lr", "0.1", "--augment.flip_prob=0"]
    assert command(*arguments) == [EVAL, *arguments, "--ckpt_path", "ckpt/best.ckpt"]


@pytest.mark.parametrize(
    "given", [["--ckpt_path", "old.ckpt"], ["--ckpt_path=old.ckpt"], ["--ckpt-path", ""], ["--ckpt-path="]]
)
def test_another_checkpoint_is_replaced(given):
    expected = [EVAL, "-c", "a.yaml", "--lr", "1", "--ckpt_path", "ckpt/best.ckpt"]
    assert command("-c", "a.yaml", *given, "--lr", "1") == expected


def test_a_short_option_after_resume_stays():
    expected = [EVAL, "-c", "a.yaml", "--ckpt_path", "ckpt/best.ckpt"]
    assert command("--resume", "-c", "a.yaml") == command("--resume", "last.ckpt", "-c", "a.yaml") == expected


def test_other_paths_of_checkpoints_stay():
    arguments = ["-c", "a.yaml", "--backbone_ckpt_path", "", "--ckpt_save_dir=ckpt_path"]
    assert command(*arguments) == [EVAL, *arguments, "--ckpt_path", "ckpt/best.ckpt"]


def test_arguments_are_quoted_for_a_shell():
    arguments = ["-c", "my recipes/$a.yaml", "--classes", '["background", "it\'s"]', "--backbone_ckpt_path", ""]
    found = command(*arguments, checkpoint="my ckpt/best.ckpt")
    assert found == [EVAL, *arguments, "--ckpt_path", "my ckpt/best.ckpt"]


@pytest.mark.parametrize("script", ["", "-c", "notebook.py", "/somewhere/pytest"])
def test_outside_train_there_is_no_command(script):
    assert evaluation_command([script, "-c", "a.yaml"], Path("best.ckpt")) is None


@pytest.fixture
def argv(monkeypatch):
    monkeypatch.setattr(sys, "argv", [TRAIN, "-c", "a.yaml"])


@pytest.fixture
def folder(tmp_path):
    """A ckpt_save_dir with a space in its name and a checkpoint of each kind."""
    path = tmp_path / "my ckpt"
    path.mkdir()
    for name in ("ssd-7.ckpt", "best.ckpt"):
        (path / name).touch()
    return path


BEST = EvalRecord(epoch=7, step=70, metrics={"mAP": 0.40712, "AP50": 0.615}, is_best=True, images={})


def summarize(folder, epochs=20, seconds=3725, stopped_early=False, best=BEST):
    return training_summary(folder, epochs, seconds=seconds, stopped_early=stopped_early, best=best)


def test_the_best_detector_is_named(argv, folder):
    text = summarize(folder)
    for part in ("20 epochs", "1:02:05", "epoch 7", "0.4071", "0.6150", str(folder / "metrics.csv")):
        assert part in text
    assert f"tensorboard --logdir '{folder / 'tensorboard'}'" in text
    assert text.endswith(f"{sys.orig_argv[0]} {EVAL} -c a.yaml --ckpt_path '{folder / 'best.ckpt'}'")


def test_without_evaluations_the_newest_checkpoint_is_named(argv, folder):
    """best.ckpt may be that of a run with evaluations that this run resumed."""
    text = summarize(folder, epochs=1, best=None)
    assert "1 epoch in" in text and "--eval_while_train true" in text
    assert text.endswith(f"{EVAL} -c a.yaml --ckpt_path '{folder / 'ssd-7.ckpt'}'")


def test_early_stopping_is_reported(argv, folder):
    assert "early_stop_patience" in summarize(folder, stopped_early=True)
    assert "early_stop_patience" not in summarize(folder)


def test_outside_the_script_there_is_no_evaluation_command(monkeypatch, folder):
    monkeypatch.setattr(sys, "argv", ["notebook"])
    assert EVAL not in summarize(folder)
