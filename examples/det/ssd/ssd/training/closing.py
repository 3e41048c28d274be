"""What a training says at its end: where the best detector is, and how to evaluate it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from .logger import EVENTS_NAME, METRICS_NAME, EvalRecord
from .progress_bar import format_duration


def training_summary(
    folder: Path, epochs: int, is_early: bool, seconds: float, best: EvalRecord | None, checkpoint: Path
) -> str:
    """One paragraph. folder: ckpt_save_dir; epochs: how many were made; is_early: whether more would have followed,
    had it become better; best: None if nothing was evaluated; checkpoint: what to evaluate"""
    lines = [f"trained {epochs} epoch{'s' * (epochs > 1)} in {format_duration(seconds)}"]
    if is_early:
        lines[0] += ", and ended early, because evaluations became no better (early_stop_patience)"
    if best is not None:
        scores = f"mAP {best.metrics['mAP']:.4f}, AP50 {best.metrics['AP50']:.4f}"
        lines.append(f"best: epoch {best.epoch} with {scores}, in {checkpoint}")
    else:
        lines.append(
            f"newest checkpoint: {checkpoint}; --eval_while_train true would have evaluated between epochs and kept "
            "the best"
        )
    lines.append(f"figures: {folder / METRICS_NAME}")
    lines.append(f"charts: {shlex.join(['tensorboard', '--logdir', str(folder / EVENTS_NAME)])}")
    command = evaluation_command(sys.argv, checkpoint)
    if command:
        lines.append(f"evaluation: {command}")
    return "\n".join(lines)


def evaluation_command(argv: Sequence[str], checkpoint: Path) -> str | None:
    """The line for a shell that evaluates `checkpoint` as train.py was called; None if that is not what runs.

    argv: sys.argv
    """
    script = Path(argv[0])
    if script.name != "train.py":
        return None
    words, rest = [], list(argv[1:])
    while rest:
        word = rest.pop(0)
        key, equals, _ = word.replace("-", "_").partition("=")
        if key not in ("__ckpt_path", "__resume"):
            words.append(word)
        elif not equals and rest and not rest[0].startswith("-"):
            del rest[:1]
    # By the name under which Python was started: what is on the path here is also where the user types.
    return shlex.join([sys.orig_argv[0], str(script.with_name("eval.py")), *words, "--ckpt_path", str(checkpoint)])
