"""Accumulated gradients of all devices in the checkpoints of rank 0.

Each device accumulates the gradients of its own images until the next update. All other parameters of a training step
are equal on all devices. Rank 0 alone writes checkpoints, so it first gathers the gradients of the other devices.
"""

from __future__ import annotations

from collections.abc import Mapping

import mindspore.nn as nn
import numpy as np
from mindspore import Parameter, Tensor

from ..runtime.collectives import AllGather
from .callbacks import Flag
from .events import StepEnd, TrainingCallback

OWN, OF_DEVICES = "accumulated.", "accumulated.of_devices."  # prefixes of names in checkpoints
CHUNK = 2**22  # number of values that are exchanged at a time, so that devices need little memory


class GatherAccumulatedGradients(TrainingCallback):
    """Gather the accumulated gradients of all devices before a checkpoint is saved between two updates.

    step: training step that accumulates gradients
    is_main: True on rank 0
    every_steps: number of steps between saves within an epoch; None disables these saves
    stop: flag that is true on all devices if the run stops after the current step

    `gathered` is {name in the checkpoint: (R, ...) float32, gradients of the R devices} until the next step. It is
    empty on other ranks, and after an update, when the accumulated gradients are zero.
    """

    def __init__(self, step: nn.Cell, *, is_main: bool, every_steps: int | None, stop: Flag):
        self.step = step
        self.is_main = is_main
        self.every_steps = every_steps
        self.stop = stop
        self.gathered: dict[str, np.ndarray] = {}
        self.all_gather = AllGather()
        self.size = min(CHUNK, sum(gradient.size for gradient in step.accumulated))
        self.is_compiled = False

    def on_epoch_begin(self) -> None:
        # The compile cache needs the same order of compilations in each run, so do not wait for the first save:
        if not self.is_compiled:
            self.all_gather(Tensor(np.zeros((1, self.size), np.float32)))
            self.is_compiled = True

    def on_step_begin(self) -> None:
        self.gathered.clear()

    def on_step_end(self, event: StepEnd) -> None:
        is_saved = self.stop or event.ends_epoch or event.passes(self.every_steps)
        if is_saved and int(self.step.batches.asnumpy()):
            self.gather()

    def gather(self) -> None:
        """Exchange the accumulated gradients. All devices must call the function at the same time."""
        gradients = list(self.step.accumulated)
        own = np.concatenate([gradient.asnumpy().ravel() for gradient in gradients])
        parts = []
        for chunk in np.pad(own, (0, -len(own) % self.size)).reshape(-1, self.size):
            part = self.all_gather(Tensor(chunk[None])).asnumpy()
            if self.is_main:
                parts.append(part)
        if self.is_main:
            rows = np.concatenate(parts, axis=1)
            ends = np.cumsum([gradient.size for gradient in gradients])
            for gradient, end in zip(gradients, ends):
                values = rows[:, end - gradient.size : end].reshape(-1, *gradient.shape)
                self.gathered[gradient.name.replace(OWN, OF_DEVICES, 1)] = values


def select_accumulated(content: Mapping[str, Parameter], *, rank: int, world_size: int) -> dict[str, Tensor]:
    """Return {name: accumulated gradient of a device} for the gradients that a checkpoint has of all devices.

    content: parameters of the checkpoint
    rank: rank of the device
    world_size: number of devices. If it has changed, each device gets the mean, so that the update is the same.
    """
    selected = {}
    for name, parameter in content.items():
        if name.startswith(OF_DEVICES):
            values = parameter.asnumpy()
            value = values[rank] if len(values) == world_size else values.mean(axis=0)
            selected[name.replace(OF_DEVICES, OWN, 1)] = Tensor(value)
    return selected
