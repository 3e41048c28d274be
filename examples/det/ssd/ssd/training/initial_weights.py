"""Create a detector with its initial weights: random, of a backbone, or of a detector to fine-tune."""

from __future__ import annotations

import mindspore.nn as nn

from ..checkpoints.loading import load_backbone, load_pretrained
from ..config.schema import Config, model_metadata
from ..models.detector import create_detector, to_mixed_precision
from .optimizer import freeze


def create_initialized_detector(cfg: Config, *, is_resumed: bool) -> tuple[nn.Cell, str]:
    """Create the detector of a recipe with its initial weights.

    is_resumed: True if all weights will be restored from a checkpoint
    Returns the detector, and a description of the initialization for the log.
    """
    detector, initialization = create_detector(cfg), "randomly initialized backbone"
    if cfg.pretrained_detector and not is_resumed:
        names = load_pretrained(detector, cfg.pretrained_detector, use_ema=cfg.use_ema, metadata=model_metadata(cfg))
        layers = ", ".join(dict.fromkeys(name.rpartition(".")[0] for name in names))
        rest = f"randomly initialized: {layers}" if layers else "all layers, because the classes are the same"
        initialization = f"weights of {cfg.pretrained_detector}, {rest}"
    elif cfg.backbone_ckpt_path and not is_resumed:
        load_backbone(detector, cfg.backbone_ckpt_path)
        initialization = f"weights of {cfg.backbone_ckpt_path}"
    freeze(detector, cfg.freeze)
    return to_mixed_precision(detector, cfg.amp_level), initialization
