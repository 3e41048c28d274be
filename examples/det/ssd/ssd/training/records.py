"""Records of a training: the values of a step and of an evaluation, as logs, progress bar and TensorBoard get them."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class StepRecord:
    """One training step, and averages since the previous record. Each field is a column of metrics.csv.

    epoch, step: counted from 1; steps count through all epochs
    loss: box_loss + class_loss of this device's batch
    learning_rate, loss_scale: of this step
    gradient_norm: global L2 norm of the gradients of all devices, before clipping; not finite if they overflowed; None
        in a step that only accumulates gradients
    skipped_steps: updates skipped since the previous record, because gradients overflowed
    images_per_second: of all devices together
    data_wait: share of the time, 0..1, in which the host waited for data; None with sunk data, which the device fetches
    memory_mib: resident memory of the process on CPU, peak allocated memory on another device; None if unknown
    """

    epoch: int
    step: int
    loss: float
    box_loss: float
    class_loss: float
    learning_rate: float
    gradient_norm: float | None
    loss_scale: float
    skipped_steps: int
    images_per_second: float
    data_wait: float | None
    memory_mib: float | None


@dataclasses.dataclass(frozen=True)
class EvalRecord:
    """An evaluation after an epoch.

    step: last step of that epoch
    metrics: {"mAP" and COCO's metric names: 0..1, or -1}; "mAP_raw" too if averaged weights were evaluated: the mAP of
        the weights that are not averaged
    is_best: whether its mAP exceeds that of all evaluations before
    images: {name: (H, W, 3) uint8 RGB}
    """

    epoch: int
    step: int
    metrics: dict[str, float]
    is_best: bool
    images: dict[str, np.ndarray]
