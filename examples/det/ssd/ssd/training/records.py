"""Records of training steps and evaluations, for the progress bar, metrics.csv and TensorBoard."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class StepRecord:
    """Values of a training step, and averages since the previous record. Each field is a column of metrics.csv.

    The three losses are means over the steps since the previous record, because the loss of a single batch jumps by a
    factor of two or three. After a resume, the first mean has only the steps of the resumed run. With data sinking, the
    host sees only the last step of each group of steps, and the means are over these steps.

    epoch: epoch of the step, counted from 1
    step: number of the step, counted from 1 through all epochs
    loss: mean loss of this device's batches, box_loss + class_loss
    box_loss: mean box regression loss
    class_loss: mean classification loss
    learning_rate: learning rate of the step
    gradient_norm: global L2 norm, before clipping, of the gradients averaged over devices; not finite after an
        overflow; None in a step that only accumulates gradients
    loss_scale: loss scale of the step
    skipped_steps: number of updates skipped since the previous record because gradients overflowed
    images_per_second: average number of images per second on all devices together
    data_wait: fraction of the time, 0..1, in which the host waited for data; None with data sinking
    memory_mib: memory in MiB: resident memory of the process on CPU, otherwise peak memory allocated on the device;
        None if unknown
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
    """Result of an evaluation after an epoch.

    epoch: epoch of the evaluation, counted from 1
    step: last step of the epoch, counted from 1 through all epochs
    metrics: {metric name: value} with "mAP" and COCO's metrics, 0..1, or -1 if undefined. If averaged weights were
        evaluated, "mAP_raw" is the mAP of the weights without averaging.
    is_best: True if the mAP exceeds the mAP of all previous evaluations
    images: {name: image}, example images (H, W, 3) uint8 RGB with drawn boxes
    """

    epoch: int
    step: int
    metrics: dict[str, float]
    is_best: bool
    images: dict[str, np.ndarray]
