"""What is said at the end of a training. That its command runs is tested with the trainer."""

import shlex
import sys
from pathlib import Path

import pytest

from ssd.training.closing import evaluation_command, training_summary
from ssd.training.logger import EvalRecord

TRAIN = "examples/det/ssd/train.py"
EVAL = "examples/det/ssd/eval.py"


def command(*words, checkpoint="ckpt/best.ckpt"):
    """The words after the interpreter."""
    line = evaluation_command([TRAIN, *words], Path(checkpoint))
    python, *rest = shlex.split(line)
    assert python == sys.orig_argv[0]
    return rest


def test_the_command_takes_the_arguments_of_training():
    words = ["--config", "a.yaml", "--lr", "0.1", "--augment.flip_prob=0"]
    assert command(*words) == [EVAL, *words, "--ckpt_path", "ckpt/best.ckpt"]


@pytest.mark.parametrize(
    "given", [["--ckpt_path", "old.ckpt"], ["--ckpt_path=old.ckpt"], ["--ckpt-path", ""], ["--ckpt-path="]]
)
def test_another_checkpoint_gives_way(given):
    expected = [EVAL, "-c", "a.yaml", "--lr", "1", "--ckpt_path", "ckpt/best.ckpt"]
    assert command("-c", "a.yaml", *given, "--lr", "1") == expected


def test_a_short_option_behind_resume_stays():
    expected = [EVAL, "-c", "a.yaml", "--ckpt_path", "ckpt/best.ckpt"]
    assert command("--resume", "-c", "a.yaml") == command("--resume", "last.ckpt", "-c", "a.yaml") == expected


def test_other_paths_of_checkpoints_stay():
    words = ["-c", "a.yaml", "--backbone_ckpt_path", "", "--ckpt_save_dir=ckpt_path"]
    assert command(*words) == [EVAL, *words, "--ckpt_path", "ckpt/best.ckpt"]


def test_words_are_quoted_for_a_shell():
    words = ["-c", "my recipes/$a.yaml", "--classes", '["background", "it\'s"]', "--backbone_ckpt_path", ""]
    found = command(*words, checkpoint="my ckpt/best.ckpt")
    assert found == [EVAL, *words, "--ckpt_path", "my ckpt/best.ckpt"]


@pytest.mark.parametrize("script", ["", "-c", "notebook.py", "/somewhere/pytest"])
def test_without_train_there_is_no_command(script):
    assert evaluation_command([script, "-c", "a.yaml"], Path("best.ckpt")) is None


@pytest.fixture
def argv(monkeypatch):
    monkeypatch.setattr(sys, "argv", [TRAIN, "-c", "a.yaml"])


def test_the_best_detector_is_named(argv):
    best = EvalRecord(7, 70, {"mAP": 0.40712, "AP50": 0.615}, True, {})
    assert training_summary(Path("my ckpt"), 20, False, 3725, best, Path("my ckpt/best.ckpt")).splitlines() == [
        "trained 20 epochs in 1:02:05",
        "best: epoch 7 with mAP 0.4071, AP50 0.6150, in my ckpt/best.ckpt",
        "figures: my ckpt/metrics.csv",
        "charts: tensorboard --logdir 'my ckpt/tensorboard'",
        f"evaluation: {sys.orig_argv[0]} {EVAL} -c a.yaml --ckpt_path 'my ckpt/best.ckpt'",
    ]


def test_without_evaluations_the_newest_checkpoint_is_named(argv):
    words = training_summary(Path("ckpt"), 1, False, 59, None, Path("ckpt/ssd-1.ckpt")).splitlines()
    assert words[:2] == [
        "trained 1 epoch in 0:00:59",
        "newest checkpoint: ckpt/ssd-1.ckpt; --eval_while_train true would have evaluated between epochs and kept "
        "the best",
    ]
    assert words[-1].endswith(f"{EVAL} -c a.yaml --ckpt_path ckpt/ssd-1.ckpt")


def test_an_early_end_is_told(argv):
    best = EvalRecord(7, 70, {"mAP": 0.4, "AP50": 0.6}, True, {})
    words = training_summary(Path("ckpt"), 9, True, 59, best, Path("ckpt/best.ckpt")).splitlines()
    assert words[0].startswith("trained 9 epochs in 0:00:59, and ended early") and "early_stop_patience" in words[0]


def test_outside_of_the_script_there_is_no_line_of_evaluation(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["notebook"])
    words = training_summary(Path("ckpt"), 1, False, 59, None, Path("ckpt/ssd-1.ckpt")).splitlines()
    assert words[-1] == "charts: tensorboard --logdir ckpt/tensorboard"
