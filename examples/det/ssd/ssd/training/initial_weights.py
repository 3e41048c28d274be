"""Create a detector with its initial weights: random, of a backbone, or of a detector to fine-tune."""

from __future__ import annotations

import mindspore.nn as nn

from ..checkpoints.choice import choose_checkpoint, describe_checkpoint
from ..checkpoints.loading import load_backbone, load_pretrained
from ..config.metadata import model_metadata
from ..config.schema import Config
from ..models.detector import create_detector, to_mixed_precision
from .optimizer import freeze


def create_initialized_detector(cfg: Config, *, is_resumed: bool) -> tuple[nn.Cell, str]:
    """Create the detector of a recipe with its initial weights.

    is_resumed: True if all weights will be restored from a checkpoint
    Returns the detector, and a description of the initialization for the log.
    """
    detector, initialization = create_detector(cfg), "randomly initialized backbone"
    if cfg.pretrained_detector and not is_resumed:
        path = choose_checkpoint(cfg.pretrained_detector, cfg.ckpt_save_dir, option="pretrained_detector")
        names = load_pretrained(detector, path, use_ema=cfg.use_ema, metadata=model_metadata(cfg))
        layers = ", ".join(dict.fromkeys(name.rpartition(".")[0] for name in names))
        rest = f"randomly initialized: {layers}" if layers else "all layers, because the classes are the same"
        initialization = f"weights of {describe_checkpoint(path)}, {rest}"
    elif cfg.backbone_ckpt_path and not is_resumed:
        load_backbone(detector, cfg.backbone_ckpt_path)
        initialization = f"weights of {cfg.backbone_ckpt_path}"
    freeze(detector, cfg.freeze)
    return to_mixed_precision(detector, cfg.amp_level), initialization
