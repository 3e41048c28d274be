"""Resume a training run from a checkpoint as if the training had never stopped, and archive files of previous runs."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import mindspore.nn as nn

from ..checkpoints.choice import BEST_NAME, EPOCH_PATTERN, LAST_NAME, find_training_checkpoints, sort_by_step
from ..checkpoints.metadata import Metadata, read_metadata, refuse_mismatch
from ..checkpoints.reading import read_checkpoint
from ..checkpoints.records import EVALUATION_KEY, STATE_KEY, parse_record
from ..errors import UserError, os_reason
from ..runtime.archive import archive_files
from ..runtime.device import Runtime
from .accumulated_gradients import select_accumulated
from .logger import EVENTS_NAME, METRICS_NAME, read_metrics
from .records import EvalRecord

log = logging.getLogger(__name__)

# Parameters of a training step that are not restored. Learning rates follow the recipe, so that a training run can be
# extended to more epochs. The counter of non-finite losses restarts, so that a repeated failure is reported again.
NOT_RESTORED = ("learning_rate", "steps_since_non_finite_loss")
# {start of the names of parameters that a training step has only with a recipe key: the key}
KEYS_OF_PARAMETERS = {"accumulated": "accumulate_steps", "ema.": "ema_decay"}
OPTIMIZER_PARAMETERS = ("moments", "moment1", "moment2", "momentum", "beta1_power", "beta2_power")  # parts of names
# Parameters that only some devices have. If the checkpoint is from another device, the initial value is kept.
RESTORED_IF_PRESENT = ("accumulated_overflow",)


@dataclasses.dataclass(frozen=True)
class TrainingState:
    """Progress of a training run, and the values that determine its image order. Stored in each checkpoint.

    step: number of steps done in all epochs
    steps_per_epoch: number of steps in an epoch
    images_per_step: number of images in a step on all devices together
    seed: random seed of the recipe
    max_gt: maximum number of ground-truth boxes of a training image; None if all boxes are kept, as in checkpoints
        without this value
    """

    step: int
    steps_per_epoch: int
    images_per_step: int
    seed: int
    max_gt: int | None = None

    @property
    def epochs_done(self) -> int:
        return self.step // self.steps_per_epoch


def resume_training(
    step: nn.Cell,
    path: Path,
    *,
    initial_state: TrainingState,
    metadata: Metadata,
    runtime: Runtime | None = None,
) -> TrainingState:
    """Restore the weights, optimizer state and loss scale of a training step from a checkpoint.

    Call the function before the training step is compiled.

    step: training step
    path: path of the checkpoint
    initial_state: state at which this run would start without --resume
    metadata: metadata of the recipe
    runtime: rank of this device and number of devices; None for a single device
    Returns the state of the training in the checkpoint.
    Raises UserError if the checkpoint is damaged or from another recipe, or if the image order would differ.
    """
    state = _restore(step, path, metadata, runtime=runtime or Runtime())
    names = {
        "images_per_step": "images per step",
        "steps_per_epoch": "steps per epoch",
        "seed": "seed",
    }
    for name, text in names.items():
        stored, present = getattr(state, name), getattr(initial_state, name)
        if stored != present:
            raise UserError(
                f"--resume: {text}: got {present}, expected {stored} as in {path}. Use the data, the seed, and the "
                "total batch size (batch_size times devices) of the previous run."
            )
    return state


def warn_of_changed_max_gt(previous: int | None, present: int | None) -> None:
    """Log a warning if a resumed run derives another max_gt than the previous run, because the memory is different.

    previous: max_gt of the previous run; None if the run kept all boxes
    present: max_gt of this run
    """
    if previous != present:
        texts = ["all boxes" if number is None else f"up to {number:,} boxes" for number in (present, previous)]
        value = "the largest number of boxes in an image" if previous is None else previous
        log.warning(
            f"max_gt: this run keeps {texts[0]} of each training image, but the previous run kept {texts[1]}. "
            f"To train as before, set --max_gt to {value}."
        )


def refuse_completed(state: TrainingState, *, epochs: int, path: Path) -> None:
    """Raise UserError if a training is complete.

    state: state of the training in the checkpoint
    epochs: number of epochs of the whole run
    path: path of the checkpoint
    """
    if state.epochs_done >= epochs:
        raise UserError(
            f"--resume: the training in {path} has completed {state.epochs_done} of {epochs} epochs. "
            "Raise --epoch_size to train longer."
        )


def lacks_evaluation(folder: Path, state: TrainingState, due: Sequence[int]) -> bool:
    """Return True if a run was stopped between the end of an epoch and the end of the epoch's evaluation.

    folder: ckpt_save_dir of the recipe, whose metrics.csv has a row for each evaluation
    state: state of the training in the checkpoint
    due: epochs after which the detector is evaluated
    Returns True, too, if the row of the evaluation could not be written. The evaluation then runs again.
    Raises UserError if metrics.csv cannot be read.
    """
    if state.step % state.steps_per_epoch or state.epochs_done not in due:
        return False
    path = folder / METRICS_NAME
    if not path.is_file():
        return True
    try:
        rows = read_metrics(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({os_reason(error)}). Correct its permissions.") from None
    return not any(row["step"] == str(state.step) and row.get("mAP") for row in rows)


def refuse_unshared_file(path: Path, num_devices: int, *, world_size: int) -> None:
    """Raise UserError if devices read different contents from a file, and would then wait for each other forever.

    path: file in ckpt_save_dir
    num_devices: number of devices that read a certain content, for example a missing evaluation
    world_size: number of devices
    """
    if num_devices not in (0, world_size):
        raise UserError(
            f"--resume: {path} is not the same file on all hosts. Set --ckpt_save_dir to a folder that all hosts share."
        )


def _restore(step: nn.Cell, path: Path, metadata: Metadata, *, runtime: Runtime) -> TrainingState:
    """Load a checkpoint into a training step. Nothing is loaded if the checkpoint does not match.

    step: training step
    path: path of the checkpoint
    metadata: metadata of the recipe
    runtime: rank of this device and number of devices
    Returns the state of the training in the checkpoint.
    Raises UserError if the checkpoint is damaged, from another recipe, or without training state.
    """
    try:
        content = read_checkpoint(path)
    except UserError as error:
        paths = [other for other, _ in sort_by_step(find_training_checkpoints(path.parent))]
        older = paths[paths.index(path) + 1 :] if path in paths else []
        advice = f" Continue from the previous checkpoint with --resume {older[0]}." if older else ""
        raise UserError(f"{error}{advice}") from None
    state = content.pop(STATE_KEY, None)
    if state is None:
        raise UserError(
            f"{path}: the checkpoint does not contain a training state. Resume from {LAST_NAME} or ssd-EPOCH.ckpt of "
            "train.py, or start a new run from these weights with --pretrained_detector."
        )
    refuse_mismatch(metadata, read_metadata(path), path)
    optional = {name for name in RESTORED_IF_PRESENT if name not in content}
    skipped = optional.union(NOT_RESTORED)
    parameters = {name: value for name, value in step.parameters_dict().items() if name not in skipped}
    for name, value in parameters.items():
        if name not in content or content[name].shape != value.shape:
            key = next((key for start, key in KEYS_OF_PARAMETERS.items() if name.startswith(start)), None)
            if key and name not in content:
                raise UserError(
                    f"{path}: {key}: the previous run trained without this key. Remove {key}, or start a new run from "
                    "the weights with --pretrained_detector."
                )
            kind = name.partition(".")[0]
            if kind in OPTIMIZER_PARAMETERS and not any(other.partition(".")[0] == kind for other in content):
                raise UserError(
                    f"{path}: optimizer: the previous run trained with another optimizer. Set optimizer as in the "
                    "previous run, or start a new run from the weights with --pretrained_detector."
                )
            found = f"got shape {tuple(content[name].shape)}" if name in content else "the parameter is missing"
            raise UserError(
                f"{path}: {name}: {found}, expected shape {tuple(value.shape)}. "
                "Resume with the recipe that trained this checkpoint."
            )
    training_state = read_training_state(state, path)  # before parameters change
    content |= select_accumulated(content, rank=runtime.rank, world_size=runtime.world_size)
    for name, value in parameters.items():
        value.set_data(content[name])
    return training_state


def read_training_state(text: str, path: Path) -> TrainingState:
    """Parse the training state of a checkpoint.

    text: JSON record of the checkpoint
    Raises UserError if values are missing, invalid or unknown, for example those of a newer version.
    """
    try:
        return TrainingState(**parse_record(STATE_KEY, text))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path}: {STATE_KEY}: the training state cannot be read ({error}). Resume from another checkpoint."
        ) from None


def read_best(folder: Path, until: int | None = None) -> EvalRecord | None:
    """Read the evaluation that is stored in best.ckpt.

    folder: folder of best.ckpt
    until: last step to consider, or None to consider all steps
    Returns the evaluation, or None if best.ckpt is missing, cannot be read, or is from a later step.
    """
    try:
        text = read_checkpoint(folder / BEST_NAME).get(EVALUATION_KEY)
        best = EvalRecord(**parse_record(EVALUATION_KEY, text), is_best=True, images={}) if text else None
    except (ValueError, TypeError):  # UserError is a ValueError
        return None
    return None if best and until is not None and best.step > until else best


def archive_previous_run(folder: Path) -> Path | None:
    """Move the checkpoints and logs of a previous run to the subfolder earlier-N. Other files stay in the folder.

    folder: ckpt_save_dir of the recipe
    Returns the subfolder, or None if there was nothing to move.
    Raises UserError if a file cannot be moved.
    """
    patterns = (EPOCH_PATTERN, BEST_NAME, LAST_NAME, METRICS_NAME, EVENTS_NAME)
    paths = [path for pattern in patterns for path in folder.glob(pattern)]
    return archive_files(folder, paths, key="ckpt_save_dir")


def archive_later_checkpoints(folder: Path, *, resumed: Path, step: int) -> Path | None:
    """Move the checkpoints of steps after the resumed step to the subfolder earlier-N.

    folder: ckpt_save_dir of the recipe
    resumed: checkpoint from which the run resumes, which is never moved
    step: step at which the run resumes
    Returns the subfolder, or None if there was nothing to move.
    Raises UserError if a file cannot be moved.
    """
    later = [path for path, reached in sort_by_step(find_training_checkpoints(folder)) if reached > step]
    best = read_best(folder)
    if best and best.step > step:
        later.append(folder / BEST_NAME)
    paths = [path for path in later if not path.samefile(resumed)]
    return archive_files(folder, paths, key="ckpt_save_dir")
