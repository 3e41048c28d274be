"""Resume a training from a checkpoint as if it had never stopped, and archive checkpoints of previous runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import mindspore.nn as nn

from ..checkpoints.loading import BEST_NAME, LAST_NAME, read_checkpoint
from ..checkpoints.metadata import Metadata, read_metadata, refuse_mismatch
from ..errors import UserError, os_reason
from .logger import EVENTS_NAME, METRICS_NAME
from .records import EvalRecord

STATE_KEY = "training_state"  # JSON record of a TrainingState in a checkpoint
EVALUATION_KEY = "evaluation"  # JSON record in best.ckpt of the evaluation that it was saved for
# Parameters of a training step that are not restored: learning rates follow the recipe, so that a training can be
# extended to more epochs, and a loss that is not finite is reported again if it occurs again.
NOT_RESTORED = ("learning_rate", "steps_since_non_finite_loss")


@dataclasses.dataclass(frozen=True)
class TrainingState:
    """Position of a training, stored in each of its checkpoints.

    step: steps done, over all epochs; images_per_step: on all devices together; seed: of the recipe
    """

    step: int
    steps_per_epoch: int
    images_per_step: int
    seed: int

    @property
    def epochs_done(self) -> int:
        return self.step // self.steps_per_epoch


def find_resume_checkpoint(folder: Path, given: str) -> Path:
    """Return the checkpoint to resume from: `given`, or the newest in a folder if that is empty. Raises UserError."""
    if given:
        return Path(given)
    paths = list_resumable(folder)
    if not paths:
        raise UserError(
            f"--resume: {folder} has no checkpoint of a training. Give the path of one, or start without --resume."
        )
    return paths[0]


def list_resumable(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder that a training can resume from, the newest first."""
    paths = [*folder.glob("ssd-*.ckpt"), *folder.glob(LAST_NAME)]
    return sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name == LAST_NAME), reverse=True)


def resume_training(
    step: nn.Cell, path: Path, *, initial_state: TrainingState, epochs: int, metadata: Metadata
) -> TrainingState:
    """Restore weights, optimizer and loss scale of a training step, before it is compiled -> state of the training

    initial_state: of this run without --resume; epochs: to train in all; metadata: of the recipe
    Raises UserError if the file is damaged, of another recipe, or if the images would come in another order.
    """
    state = _restore(step, path, metadata)
    names = {
        "images_per_step": "images in a step",
        "steps_per_epoch": "steps in an epoch",
        "seed": "seed",
    }
    for name, text in names.items():
        stored, present = getattr(state, name), getattr(initial_state, name)
        if stored != present:
            raise UserError(
                f"--resume: {text}: got {present}, expected {stored} as in {path}. Keep batch_size times devices, the "
                "data and the seed as they were."
            )
    if state.epochs_done >= epochs:
        raise UserError(
            f"--resume: {path} has done {state.epochs_done} of {epochs} epochs. Raise --epoch_size to train longer."
        )
    return state


def _restore(step: nn.Cell, path: Path, metadata: Metadata) -> TrainingState:
    """Load a checkpoint into a training step; nothing is loaded if it does not fit. Raises UserError."""
    try:
        content = read_checkpoint(path)
    except UserError as error:
        older = [
            other for other in list_resumable(path.parent) if path.is_file() and _modified(other) < _modified(path)
        ]
        advice = f" The checkpoint before it is {older[0]}: --resume {older[0]}" if older else ""
        raise UserError(f"{error}{advice}") from None
    state = content.pop(STATE_KEY, None)
    if state is None:
        raise UserError(
            f"{path}: holds no training state. Resume from {LAST_NAME} or ssd-EPOCH.ckpt of train.py, or start from "
            "its weights with --pretrained_detector."
        )
    refuse_mismatch(metadata, read_metadata(content, metadata), path)
    parameters = {name: value for name, value in step.parameters_dict().items() if name not in NOT_RESTORED}
    for name, value in parameters.items():
        if name not in content or content[name].shape != value.shape:
            found = f"got shape {tuple(content[name].shape)}" if name in content else "missing"
            raise UserError(
                f"{path}: {name}: {found}, expected shape {tuple(value.shape)}. Resume with the same recipe."
            )
    for name, value in parameters.items():
        value.set_data(content[name])
    return TrainingState(**json.loads(state))


def read_best(folder: Path, until: int | None = None) -> EvalRecord | None:
    """Return the evaluation that best.ckpt in a folder was saved for; None if there is none, or none up to a step.

    until: last step to consider, None for all
    """
    try:
        text = read_checkpoint(folder / BEST_NAME).get(EVALUATION_KEY)
    except UserError:
        return None
    best = EvalRecord(**json.loads(text), is_best=True, images={}) if text else None
    return None if best and until is not None and best.step > until else best


def archive_previous_run(folder: Path) -> Path | None:
    """Move the checkpoints and logs of a previous run to folder/earlier-N; other files stay.

    Returns the archive, None if there was nothing to move. Raises UserError if files cannot be moved.
    """
    patterns = ("ssd-*.ckpt", BEST_NAME, LAST_NAME, METRICS_NAME, EVENTS_NAME)
    return _archive(folder, [path for pattern in patterns for path in folder.glob(pattern)])


def archive_later_checkpoints(folder: Path, *, resumed: Path, step: int, steps_per_epoch: int) -> Path | None:
    """Move the checkpoints from after the step at which a run resumes; as archive_previous_run.

    resumed: the checkpoint to resume from, which stays
    """
    later = [path for path in folder.glob("ssd-*.ckpt") if _epoch_in_name(path) * steps_per_epoch > step]
    last, best = folder / LAST_NAME, read_best(folder)
    if last.is_file() and not last.samefile(resumed) and _step_of(last) > step:
        later.append(last)
    if best and best.step > step:
        later.append(folder / BEST_NAME)
    return _archive(folder, [path for path in later if path.resolve() != resumed.resolve()])


def _archive(folder: Path, paths: Sequence[Path]) -> Path | None:
    if not paths:
        return None
    number = 1
    while (folder / f"earlier-{number}").exists():
        number += 1
    archive = folder / f"earlier-{number}"
    try:
        archive.mkdir()
        for path in paths:
            path.rename(archive / path.name)
    except OSError as error:
        raise UserError(
            f"ckpt_save_dir: the previous run in {folder} cannot be moved to {archive} ({os_reason(error)}). "
            "Choose another folder."
        ) from None
    return archive


def _epoch_in_name(path: Path) -> int:
    number = path.stem.removeprefix("ssd-")
    return int(number) if number.isdigit() else 0


def _step_of(path: Path) -> float:
    """Return the step of a training checkpoint; infinity if the file cannot be read."""
    try:
        return json.loads(read_checkpoint(path)[STATE_KEY])["step"]
    except (UserError, KeyError):
        return float("inf")


def _modified(path: Path) -> float:
    return path.stat().st_mtime
