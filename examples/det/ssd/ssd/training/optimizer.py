"""Create the optimizer, select the parameters with weight decay, and freeze parts of the detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import mindspore.nn as nn
import numpy as np
from mindspore import Parameter, Tensor

if TYPE_CHECKING:
    from ..config.schema import Config


def create_optimizer(cfg: Config, params: Sequence[Parameter], schedule: np.ndarray) -> nn.Optimizer:
    """Create the optimizer of a recipe: SGD with momentum.

    params: trainable parameters of the detector
    schedule: (U,) float32, learning rate of each update
    """
    groups = group_by_decay(params, weight_decay=cfg.weight_decay, decay_bias=cfg.decay_bias)
    return nn.Momentum([*groups, {"order_params": list(params)}], Tensor(schedule), cfg.momentum)


def group_by_decay(params: Sequence[Parameter], weight_decay: float, decay_bias: bool) -> list[dict]:
    """Split parameters into a group with weight decay and a group without weight decay.

    BatchNorm's gamma and beta never have weight decay.

    params: parameters to split
    weight_decay: weight decay of the first group
    decay_bias: True to apply weight decay to biases too
    Returns MindSpore's parameter groups, {"params": list, "weight_decay": value} each, without empty groups.
    """
    names_without_decay = ("gamma", "beta") if decay_bias else ("gamma", "beta", "bias")
    with_decay: list[Parameter] = []
    without_decay: list[Parameter] = []
    for parameter in params:
        is_spared = parameter.name.split(".")[-1] in names_without_decay
        (without_decay if is_spared else with_decay).append(parameter)
    groups = [{"params": with_decay, "weight_decay": weight_decay}, {"params": without_decay, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


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
