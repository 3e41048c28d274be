"""Learning rate of every step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import UserError


def warmup_cosine(
    lr: float, lr_init: float, lr_end_rate: float, warmup_epochs: int, epoch_size: int, steps_per_epoch: int
) -> np.ndarray:
    """Linear warm-up from lr_init to lr, then half a cosine down to lr * lr_end_rate.

    -> (epoch_size * steps_per_epoch,) float32
    """
    total, warmup = epoch_size * steps_per_epoch, warmup_epochs * steps_per_epoch
    step = np.arange(total)
    end = lr * lr_end_rate
    rising = lr_init + (lr - lr_init) * step / max(warmup, 1)
    falling = end + (lr - end) * (1 + np.cos(np.pi * (step - warmup) / max(total - warmup, 1))) / 2
    return np.where(step < warmup, rising, falling).astype(np.float32)


def warmup_steps(
    lr: float,
    lr_init: float,
    milestones: Sequence[int],
    factor: float,
    warmup_epochs: int,
    epoch_size: int,
    steps_per_epoch: int,
) -> np.ndarray:
    """Linear warm-up from lr_init to lr, then lr times `factor` for each of the milestones that have passed.

    milestones: numbers of epochs after which the rate falls -> (epoch_size * steps_per_epoch,) float32
    """
    warmup = warmup_epochs * steps_per_epoch
    step = np.arange(epoch_size * steps_per_epoch)
    rising = lr_init + (lr - lr_init) * step / max(warmup, 1)
    passed = np.searchsorted(np.array(milestones) * steps_per_epoch, step, side="right")
    return np.where(step < warmup, rising, lr * np.power(factor, passed)).astype(np.float32)


def create_schedule(cfg, steps_per_epoch: int, world_size: int = 1) -> np.ndarray:
    """The learning rate of every update of a recipe. cfg: Config; steps_per_epoch: batches; world_size: number of devices.

    An update of several batches has the rate of the last of them. Raises UserError if there is no update at all.
    """
    lengths = (cfg.warmup_epochs, cfg.epoch_size, steps_per_epoch)
    if cfg.schedule == "steps":
        rates = warmup_steps(cfg.lr, cfg.lr_init, cfg.milestones, cfg.lr_factor, *lengths)
    else:
        rates = warmup_cosine(cfg.lr, cfg.lr_init, cfg.lr_end_rate, *lengths)
    if cfg.accumulate_steps > len(rates):
        raise UserError(
            f"accumulate_steps: got {cfg.accumulate_steps}, expected at most the {len(rates)} steps of the training; "
            "lower it"
        )
    if cfg.lr_reference_batch:  # the linear rule of Goyal et al., 2017
        rates = rates * np.float32(cfg.batch_size * world_size * cfg.accumulate_steps / cfg.lr_reference_batch)
    return rates[cfg.accumulate_steps - 1 :: cfg.accumulate_steps]
