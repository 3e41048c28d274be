"""Choose a checkpoint: the one that was named, or the best or newest in a folder. File times are never used."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path

from ..errors import UserError
from .records import Progress, read_progress

BEST_NAME, LAST_NAME = "best.ckpt", "last.ckpt"
EPOCH_PATTERN = "ssd-*.ckpt"
NUMBERS = re.compile(r"\d+")
MAX_LISTED = 8  # number of file names in a message


def choose_checkpoint(given: str | None, ckpt_save_dir: str, *, option: str = "ckpt_path") -> Path:
    """Return a file that the user has named, or the best checkpoint of a folder, otherwise the newest.

    given: path of a checkpoint or of a folder with checkpoints, or None for the folder ckpt_save_dir
    ckpt_save_dir: folder of checkpoints that train.py wrote
    option: name of the option that has the path as its value
    Raises UserError if there is no such file, or if the folder does not contain a checkpoint.
    """
    folder = Path(given or ckpt_save_dir)
    if given and not folder.is_dir():
        return require_file(folder, option=option, folder=Path(ckpt_save_dir))
    path = find_checkpoint(folder)
    if path is None:
        reason = "" if given else "the key is not set, and "
        others = list_files(folder)
        advice = (
            f"{others}Name one of these files." if others else f"Train a detector, or set --{option} to a checkpoint."
        )
        raise UserError(f"{option}: {reason}{folder} does not contain a checkpoint of a training run. {advice}")
    return path


def choose_resume_checkpoint(given: str, ckpt_save_dir: str) -> Path:
    """Return the checkpoint from which a training run resumes: a file, or the newest checkpoint in a folder.

    given: path of a checkpoint or of a folder with checkpoints, or "" for the folder ckpt_save_dir
    ckpt_save_dir: folder of checkpoints that train.py wrote
    Raises UserError if there is no such file, or if the folder does not contain a checkpoint of a training run.
    """
    folder = Path(given or ckpt_save_dir)
    if given and not folder.is_dir():
        return require_file(folder, option="--resume", folder=Path(ckpt_save_dir))
    newest = sort_by_step(find_training_checkpoints(folder))
    if not newest:
        raise UserError(
            f"--resume: {folder} does not contain a checkpoint of a training run. Set --resume to the path of a "
            "checkpoint, or start without --resume."
        )
    return newest[0][0]


def require_file(path: Path, *, option: str, folder: Path) -> Path:
    """Return the path if it is a file.

    option: name of the option that has the path as its value
    folder: folder whose checkpoints the message lists if the folder of the path does not exist
    Raises UserError if the path is not a file.
    """
    if path.is_file():
        return path
    there = path.parent if path.parent != Path(".") and path.parent.is_dir() else folder
    advice = list_files(there) or f"{there} does not contain checkpoints. "
    raise UserError(f"{option}: {path} was not found. {advice}Correct the path.")


def find_checkpoint(folder: Path) -> Path | None:
    """Return best.ckpt of a folder, otherwise the newest checkpoint; None without a checkpoint."""
    return folder / BEST_NAME if (folder / BEST_NAME).is_file() else find_newest_checkpoint(folder)


def find_newest_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint of a folder with the most training steps; None without a checkpoint.

    If last.ckpt and ssd-EPOCH.ckpt have the same step, the latter is returned, because its name does not change.
    """
    newest = sort_by_step(find_training_checkpoints(folder))
    if not newest:
        return None
    (top, step), *others = newest
    same = [path for path, other in others if other == step and path.name != LAST_NAME]
    return same[0] if top.name == LAST_NAME and same else top


def find_training_checkpoints(folder: Path) -> list[Path]:
    """Return ssd-EPOCH.ckpt and last.ckpt of a folder, in the order of their names."""
    return sorted([*folder.glob(EPOCH_PATTERN), *folder.glob(LAST_NAME)])


def find_epoch_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints that train.py wrote at the ends of epochs, oldest first.

    Files with similar names, for example the user's copy "ssd-3 good.ckpt", are left out.
    """
    paths = [path for path in folder.glob(EPOCH_PATTERN) if path.stem.removeprefix("ssd-").isdecimal()]
    return [path for path, _ in reversed(sort_by_step(paths))]


def sort_by_step(paths: Iterable[Path]) -> list[tuple[Path, float]]:
    """Sort checkpoints by the step that they contain, newest first. last.ckpt precedes ssd-EPOCH.ckpt of the same step.

    A file without a step, for example a damaged file or a file of MindCV's example, counts as the epoch in its name.
    A damaged last.ckpt counts as the newest.
    Returns (path, step) of each checkpoint.
    """
    progress = {path: read_progress(path) for path in paths}
    known = [(path, found) for path, found in progress.items() if found and found.epoch]
    steps_per_epoch = max((found.step / (found.epoch or 1) for _, found in known), default=1)
    steps = {path: _step(path, found, steps_per_epoch) for path, found in progress.items()}
    return sorted(steps.items(), key=lambda item: (item[1], item[0].name == LAST_NAME, item[0].name), reverse=True)


def _step(path: Path, progress: Progress | None, steps_per_epoch: float) -> float:
    if progress is not None:
        return progress.step
    if path.name == LAST_NAME:
        return math.inf
    numbers = [int(number) for number in NUMBERS.findall(path.stem)]  # MindCV: ssd-EPOCH_STEP
    return numbers[0] * steps_per_epoch if numbers else 0


def describe_checkpoint(path: Path) -> str:
    """Return the path of a checkpoint, with its epoch and its mAP if known: "ckpt/best.ckpt, epoch 12, mAP 0.5383"."""
    progress = read_progress(path)
    if progress is None:
        return str(path)
    if progress.step_in_epoch:
        text = f"{path}, step {progress.step_in_epoch} of epoch {progress.epoch + 1}"
    else:
        text = f"{path}, epoch {progress.epoch}"
    return text if progress.mean_ap is None or progress.mean_ap < 0 else f"{text}, mAP {progress.mean_ap:.4f}"


def list_files(folder: Path) -> str:
    """Return a sentence that lists the checkpoints in a folder, ending with a space, or "" if there are none."""
    names = sorted((path.name for path in folder.glob("*.ckpt")), key=lambda name: [*map(int, NUMBERS.findall(name))])
    if not names:
        return ""
    shown = names if len(names) <= MAX_LISTED else [*names[:3], "…", *names[-4:]]
    return f"{folder} contains {', '.join(shown)}. "
