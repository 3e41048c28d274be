"""Learning rate schedules: the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UserError, count_noun

if TYPE_CHECKING:
    from ..config.schema import Config

ROUNDING = 1e-6  # steps; 0.07 epochs of 100 steps are 7 steps, although the float product is above 7


def warmup_cosine(
    *, lr: float, lr_init: float, lr_end_rate: float, warmup_epochs: float, epoch_size: int, steps_per_epoch: int
) -> np.ndarray:
    """Compute a learning rate schedule with linear warm-up and cosine decay.

    The rate rises linearly from lr_init to lr, and then falls along half a cosine to lr * lr_end_rate.

    lr: peak learning rate
    lr_init: learning rate at the start of the warm-up
    lr_end_rate: ratio of the final learning rate to lr
    warmup_epochs: number of epochs of the warm-up, possibly a fraction; rounded down to steps
    epoch_size: number of epochs of the whole run
    steps_per_epoch: number of steps in an epoch
    Returns (epoch_size * steps_per_epoch,) float32, the learning rate of each step.
    """
    total, warmup = epoch_size * steps_per_epoch, math.floor(warmup_epochs * steps_per_epoch + ROUNDING)
    step = np.arange(total)
    end = lr * lr_end_rate
    rising = lr_init + (lr - lr_init) * step / max(warmup, 1)
    falling = end + (lr - end) * (1 + np.cos(np.pi * (step - warmup) / max(total - warmup, 1))) / 2
    return np.where(step < warmup, rising, falling).astype(np.float32)


def warmup_steps(
    *,
    lr: float,
    lr_init: float,
    milestones: Sequence[float],
    factor: float,
    warmup_epochs: float,
    epoch_size: int,
    steps_per_epoch: int,
) -> np.ndarray:
    """Compute a learning rate schedule with linear warm-up and step decay.

    The rate rises linearly from lr_init to lr, and then is multiplied by `factor` at each milestone.

    lr: peak learning rate
    lr_init: learning rate at the start of the warm-up
    milestones: epochs after which the rate drops, possibly fractions; rounded up to steps
    factor: number between 0 and 1 by which the rate is multiplied at each milestone
    warmup_epochs: number of epochs of the warm-up, possibly a fraction; rounded down to steps
    epoch_size: number of epochs of the whole run
    steps_per_epoch: number of steps in an epoch
    Returns (epoch_size * steps_per_epoch,) float32, the learning rate of each step.
    """
    warmup = math.floor(warmup_epochs * steps_per_epoch + ROUNDING)
    step = np.arange(epoch_size * steps_per_epoch)
    rising = lr_init + (lr - lr_init) * step / max(warmup, 1)
    drops = np.ceil(np.array(milestones) * steps_per_epoch - ROUNDING)
    num_passed = np.searchsorted(drops, step, side="right")
    return np.where(step < warmup, rising, lr * np.power(factor, num_passed)).astype(np.float32)


def create_schedule(cfg: Config, steps_per_epoch: int, world_size: int = 1) -> np.ndarray:
    """Compute the learning rate schedule of a recipe, one rate for each optimizer update.

    If gradients are accumulated, an update has the rate of its last batch.

    steps_per_epoch: number of batches in an epoch
    world_size: number of devices
    Returns (U,) float32, where U is the number of updates.
    Raises UserError if the training run has fewer steps than accumulate_steps.
    """
    if cfg.schedule == "steps":
        rates = warmup_steps(
            lr=cfg.lr,
            lr_init=cfg.lr_init,
            milestones=cfg.milestones,
            factor=cfg.lr_factor,
            warmup_epochs=cfg.warmup_epochs,
            epoch_size=cfg.epoch_size,
            steps_per_epoch=steps_per_epoch,
        )
    else:
        rates = warmup_cosine(
            lr=cfg.lr,
            lr_init=cfg.lr_init,
            lr_end_rate=cfg.lr_end_rate,
            warmup_epochs=cfg.warmup_epochs,
            epoch_size=cfg.epoch_size,
            steps_per_epoch=steps_per_epoch,
        )
    if cfg.accumulate_steps > len(rates):
        raise UserError(
            f"accumulate_steps: got {cfg.accumulate_steps}, but the whole training run has only "
            f"{count_noun(len(rates), 'step')}. Lower accumulate_steps, or raise epoch_size."
        )
    if cfg.lr_reference_batch:  # the linear scaling rule of Goyal et al. (arXiv:1706.02677)
        rates = rates * np.float32(cfg.batch_size * world_size * cfg.accumulate_steps / cfg.lr_reference_batch)
    return rates[cfg.accumulate_steps - 1 :: cfg.accumulate_steps]
