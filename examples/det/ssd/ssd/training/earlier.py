"""What other runs left in ckpt_save_dir, moved aside, so that a run neither loses nor picks it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ..checkpoints.loading import BEST_NAME, LAST_NAME, STATE_KEY, read_checkpoint
from ..errors import UserError
from .logger import EVENTS_NAME, METRICS_NAME
from .validation import read_best


def archive_previous_run(folder: Path) -> Path | None:
    """Move the checkpoints and figures of an earlier run to folder/earlier-N, and not what else a user keeps there.

    -> the folder they went to, None if there were none. Raises UserError if they cannot be moved.
    """
    names = ("ssd-*.ckpt", BEST_NAME, LAST_NAME, METRICS_NAME, EVENTS_NAME)
    return _move(folder, [path for name in names for path in folder.glob(name)])


def archive_later_checkpoints(folder: Path, resumed: Path, step: int, steps_per_epoch: int) -> Path | None:
    """Move the checkpoints from after a step at which a run goes on; as archive_previous_run. resumed: stays"""
    later = [path for path in folder.glob("ssd-*.ckpt") if _epoch(path) * steps_per_epoch > step]
    last, best = folder / LAST_NAME, read_best(folder)
    if last.is_file() and not last.samefile(resumed) and _step(last) > step:
        later.append(last)
    if best and best.step > step:
        later.append(folder / BEST_NAME)
    return _move(folder, [path for path in later if path.resolve() != resumed.resolve()])


def _epoch(path: Path) -> int:
    number = path.stem.removeprefix("ssd-")
    return int(number) if number.isdigit() else 0


def _step(path: Path) -> float:
    """How far a training was; for ever if its file cannot be read."""
    try:
        return json.loads(read_checkpoint(path)[STATE_KEY])["step"]
    except (UserError, KeyError):
        return float("inf")


def _move(folder: Path, paths: Sequence[Path]) -> Path | None:
    if not paths:
        return None
    number = 1
    while (folder / f"earlier-{number}").exists():
        number += 1
    target = folder / f"earlier-{number}"
    try:
        target.mkdir()
        for path in paths:
            path.rename(target / path.name)
    except OSError as error:
        raise UserError(
            f"ckpt_save_dir: got {folder}, where an earlier run cannot be moved aside ({error.strerror}), expected a "
            "folder of yours; choose another"
        ) from None
    return target
