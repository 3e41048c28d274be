"""Load and save checkpoints: files of MindSpore parameters, which are matched by name."""

from .loading import load_backbone, load_pretrained, load_weights
from .reading import read_checkpoint
from .saving import save_checkpoint

__all__ = ["load_backbone", "load_pretrained", "load_weights", "read_checkpoint", "save_checkpoint"]
