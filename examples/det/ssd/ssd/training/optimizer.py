"""Which weights learn, and by what rule."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore.nn as nn
import numpy as np
from mindspore import Parameter, Tensor


def create_optimizer(cfg, params: Sequence[Parameter], schedule: np.ndarray) -> nn.Optimizer:
    """Momentum, as published: weight decay on all but BatchNorm's gamma and beta; biases only if the recipe says so.

    cfg: Config; schedule: learning rate of every update
    """
    groups = group_by_decay(params, cfg.weight_decay, cfg.decay_bias)
    return nn.Momentum([*groups, {"order_params": list(params)}], Tensor(schedule), cfg.momentum)


def group_by_decay(params: Sequence[Parameter], weight_decay: float, decay_bias: bool) -> list[dict]:
    """Those that decay, and those that do not, in MindSpore's form of groups; none of them is empty."""
    without = ("gamma", "beta") if decay_bias else ("gamma", "beta", "bias")
    spared = [parameter.name.split(".")[-1] in without for parameter in params]
    groups = [
        {
            "params": [parameter for parameter, is_spared in zip(params, spared) if is_spared == spare],
            "weight_decay": rate,
        }
        for spare, rate in ((False, weight_decay), (True, 0.0))
    ]
    return [group for group in groups if group["params"]]


def freeze(detector: nn.Cell, what: str | None) -> None:
    """Keep parts of a detector as they are: None, backbone, or backbone_batch_norm. Before mixed precision is set up.

    Frozen BatchNorm normalises by its running statistics, in training too, and these do not move.
    """
    if what is None:
        return
    for _, cell in detector.backbone.cells_and_names():
        if isinstance(cell, nn.BatchNorm2d):
            cell.use_batch_statistics = False
            cell.gamma.requires_grad = cell.beta.requires_grad = False
    if what == "backbone":
        for parameter in detector.backbone.get_parameters():
            parameter.requires_grad = False
