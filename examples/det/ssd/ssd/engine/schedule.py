"""Learning rate of every step."""

from __future__ import annotations

import numpy as np


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


def create_schedule(cfg, steps_per_epoch: int) -> np.ndarray:
    """The learning rates of a recipe. cfg: Config."""
    return warmup_cosine(cfg.lr, cfg.lr_init, cfg.lr_end_rate, cfg.warmup_epochs, cfg.epoch_size, steps_per_epoch)
