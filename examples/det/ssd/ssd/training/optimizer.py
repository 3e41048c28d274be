"""The optimizer: which parameters are trained, and with which weight decay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import mindspore.nn as nn
import numpy as np
from mindspore import Parameter, Tensor

if TYPE_CHECKING:
    from ..config.schema import Config


def create_optimizer(cfg: Config, params: Sequence[Parameter], schedule: np.ndarray) -> nn.Optimizer:
    """Create SGD with momentum, as published. schedule: learning rate of each update"""
    groups = group_by_decay(params, weight_decay=cfg.weight_decay, decay_bias=cfg.decay_bias)
    return nn.Momentum([*groups, {"order_params": list(params)}], Tensor(schedule), cfg.momentum)


def group_by_decay(params: Sequence[Parameter], weight_decay: float, decay_bias: bool) -> list[dict]:
    """Split parameters into those with and without weight decay, in MindSpore's form of parameter groups.

    BatchNorm's gamma and beta never decay; biases decay if decay_bias is true. Empty groups are left out.
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
    """Exclude part of a detector from training. Call it before mixed precision is set up.

    part: None, backbone, or backbone_batch_norm. Frozen BatchNorm layers normalize by their running statistics in
    training too, and these do not change.
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
