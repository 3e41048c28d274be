"""Where a training stands, kept in each of its checkpoints, so that it goes on as if it had never stopped."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import mindspore.nn as nn

from ..checkpoints.loading import LAST_NAME, STATE_KEY, read_checkpoint
from ..checkpoints.metadata import read_metadata, refuse_mismatch
from ..errors import UserError

# Not taken over: rates are made anew from the recipe, so that a training can go on for more epochs than were planned,
# and a loss that was not finite is told again if it comes again.
NOT_RESTORED = ("learning_rate", "steps_since_bad_loss")


@dataclasses.dataclass(frozen=True)
class TrainingState:
    """step: how many were made, over all epochs; steps_per_epoch, images_per_step: on all devices together;
    seed: of the recipe"""

    step: int
    steps_per_epoch: int
    images_per_step: int
    seed: int

    @property
    def epochs_done(self) -> int:
        return self.step // self.steps_per_epoch

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))


def find_resume_checkpoint(folder: Path, given: str) -> Path:
    """The checkpoint to go on from: `given`, or the newest in a folder if that is empty. Raises UserError."""
    if given:
        return Path(given)
    paths = checkpoints_of_training(folder)
    if not paths:
        raise UserError(
            f"--resume: got {folder} without a checkpoint of a training, expected one; give its path, or start anew "
            "without --resume"
        )
    return paths[0]


def checkpoints_of_training(folder: Path) -> list[Path]:
    """Those a training can go on from, the newest first."""
    paths = [*folder.glob("ssd-*.ckpt"), *folder.glob(LAST_NAME)]
    return sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name == LAST_NAME), reverse=True)


def load_training_checkpoint(step: nn.Cell, path: Path, meaning: dict) -> TrainingState:
    """Load weights, optimiser and loss scale into a training step, before it is compiled. meaning: of its detector, by
    model_metadata. Raises UserError if the file is damaged, or not of such a training; then nothing is loaded."""
    try:
        content = read_checkpoint(path)
    except UserError as error:
        others = [
            other for other in checkpoints_of_training(path.parent) if other.stat().st_mtime < path.stat().st_mtime
        ]
        advice = f"; the one before it is {others[0]}: --resume {others[0]}" if path.is_file() and others else ""
        raise UserError(f"{error}{advice}") from None
    state = content.pop(STATE_KEY, None)
    if state is None:
        raise UserError(
            f"{path}: got a checkpoint without the state of a training, expected {LAST_NAME} or ssd-EPOCH.ckpt of "
            "train.py; start from its weights with another key, or train anew"
        )
    refuse_mismatch(meaning, read_metadata(content), path)
    wanted = {name: value for name, value in step.parameters_dict().items() if name not in NOT_RESTORED}
    for name, value in wanted.items():
        if name not in content or content[name].shape != value.shape:
            got = f"shape {tuple(content[name].shape)}" if name in content else "nothing"
            raise UserError(
                f"{path}: {name}: got {got}, expected shape {tuple(value.shape)}; resume with the recipe of that "
                "training"
            )
    for name, value in wanted.items():
        value.set_data(content[name])
    return TrainingState(**json.loads(state))


def resume_training(step: nn.Cell, fresh: TrainingState, path: Path, epochs: int, meaning: dict) -> TrainingState:
    """Load a checkpoint and tell where its training stands; refuse where the data would not come in the same order.

    fresh: the state that this run would start from; epochs: that it is to make; meaning: as in
    load_training_checkpoint. Raises UserError.
    """
    state = load_training_checkpoint(step, path, meaning)
    names = {
        "images_per_step": "images in a step on all devices",
        "steps_per_epoch": "steps in an epoch",
        "seed": "seed",
    }
    for name, words in names.items():
        was, is_now = getattr(state, name), getattr(fresh, name)
        if was != is_now:
            raise UserError(
                f"--resume: got {is_now} as {words}, expected {was} as in {path}; keep batch_size times devices, data "
                "and seed as they were"
            )
    if state.epochs_done >= epochs:
        raise UserError(
            f"--resume: got {path} with {state.epochs_done} of {epochs} epochs done, expected one that is not at its "
            "end; raise --epoch_size to train on"
        )
    return state
