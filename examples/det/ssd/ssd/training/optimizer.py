"""Create the optimizer, select the parameters with weight decay, and freeze parts of the detector."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import mindspore.nn as nn
import numpy as np
from mindspore import Parameter, Tensor

if TYPE_CHECKING:
    from ..config.schema import Config

log = logging.getLogger(__name__)

MAX_ADAMW_RATE = 0.01  # AdamW moves each weight by about the learning rate in each update


def create_optimizer(cfg: Config, params: Sequence[Parameter], schedule: np.ndarray) -> nn.Optimizer:
    """Create the optimizer of a recipe, SGD with momentum or Adam, without loss scale and weight decay.

    The training step applies the loss scale and the weight decay.

    params: parameters to train
    schedule: (U,) float32, learning rate of each update
    """
    if cfg.optimizer == "adamw":
        # MindSpore adds epsilon after the bias correction of the learning rate, and PyTorch's AdamW before. The results
        # differ only for gradients below about 1e-6.
        return nn.Adam(params, Tensor(schedule))
    return nn.Momentum(params, Tensor(schedule), cfg.momentum)


def warn_of_high_rate(cfg: Config, schedule: np.ndarray) -> None:
    """Log a warning if a learning rate only suits SGD, but the optimizer is AdamW.

    schedule: (U,) float32, learning rate of each update
    """
    highest = float(schedule.max())
    if cfg.optimizer == "adamw" and highest > MAX_ADAMW_RATE * (1 + 1e-6):  # the rates are rounded to float32
        log.warning(
            f"lr: the highest learning rate is {highest:.3g}, which may destroy the weights with the optimizer AdamW. "
            "Rates of 0.0005 to 0.005 are usual. Lower --lr, or set --optimizer momentum."
        )


def split_by_decay(params: Sequence[Parameter], decay_bias: bool) -> tuple[list[Parameter], list[Parameter]]:
    """Split parameters into parameters with weight decay and parameters without weight decay.

    BatchNorm's gamma and beta never have weight decay.

    params: parameters to split
    decay_bias: True to apply weight decay to biases too
    Returns both lists, in the order of `params`.
    """
    names_without_decay = ("gamma", "beta") if decay_bias else ("gamma", "beta", "bias")
    with_decay: list[Parameter] = []
    without_decay: list[Parameter] = []
    for parameter in params:
        is_spared = parameter.name.split(".")[-1] in names_without_decay
        (without_decay if is_spared else with_decay).append(parameter)
    return with_decay, without_decay


def freeze(detector: nn.Cell, part: str | None) -> None:
    """Exclude a part of a detector from training. Call `freeze` before the conversion to mixed precision.

    Frozen BatchNorm layers normalize with their running statistics in training too, and the statistics do not change.

    detector: detector, which is changed in place
    part: "backbone", "backbone_batch_norm" for the BatchNorm layers of the backbone, or None for nothing
    """
    if part is None:
        return
    for _, cell in detector.backbone.cells_and_names():
        if isinstance(cell, nn.BatchNorm2d):
            cell.use_batch_statistics = False
            cell.gamma.requires_grad = cell.beta.requires_grad = False
    if part == "backbone":
        for parameter in detector.backbone.get_parameters():
            parameter.requires_grad = False
