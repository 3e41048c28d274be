"""When a training is saved. Rank 0 alone does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from mindspore.train import Callback

from ..checkpoints.loading import LAST_NAME, STATE_KEY, link_checkpoint, save_checkpoint
from .resume import TrainingState


class CheckpointSaver(Callback):
    """Save all that a training needs to go on: after every epoch as ssd-EPOCH.ckpt, of which the last `keep` stay, and
    then and every `every_steps` steps as last.ckpt; and when the user wishes to end.

    start: the state before the first step; ending: true, as a condition, at the end of the last step
    words: kept in each checkpoint, too, by name
    """

    def __init__(
        self,
        folder: Path,
        keep: int,
        every_steps: int | None,
        start: TrainingState,
        ending,
        words: dict[str, str] | None = None,
    ):
        super().__init__()
        self.folder = folder
        self.keep = keep
        self.every_steps = every_steps
        self.start = start
        self.ending = ending
        self.words = words or {}
        self.saved = sorted(folder.glob("ssd-*.ckpt"), key=lambda path: path.stat().st_mtime_ns)

    def on_train_step_end(self, run_context):
        params = run_context.original_args()
        if self.ending:
            self._save(params, LAST_NAME)
        elif self.every_steps and not params.cur_step_num % self.every_steps and params.cur_step_num % params.batch_num:
            self._save(params, LAST_NAME)

    def on_train_epoch_end(self, run_context):
        params = run_context.original_args()
        path = self.folder / f"ssd-{params.cur_epoch_num}.ckpt"
        self._save(params, path.name)
        link_checkpoint(path, LAST_NAME)
        self.saved = [other for other in self.saved if other != path] + [path]
        while len(self.saved) > self.keep:
            self.saved.pop(0).unlink(missing_ok=True)

    def _save(self, params, name: str) -> None:
        state = dataclasses.replace(self.start, step=params.cur_step_num)
        save_checkpoint(params.train_network, self.folder / name, {STATE_KEY: state.to_json(), **self.words})


class StopOnSignal(Callback):
    """End the training by KeyboardInterrupt once its state is saved. Comes last, so that the step is recorded, too.

    ending: true, as a condition, at the end of the last step
    """

    def __init__(self, ending):
        super().__init__()
        self.ending = ending

    def on_train_step_end(self, run_context):
        if self.ending:
            raise KeyboardInterrupt
