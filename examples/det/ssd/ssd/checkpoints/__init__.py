"""Checkpoints: files of MindSpore parameters, loaded by name, with nothing dropped in silence."""

from .loading import load_backbone, load_pretrained, load_weights, read_checkpoint, save_checkpoint

__all__ = ["load_backbone", "load_pretrained", "load_weights", "read_checkpoint", "save_checkpoint"]
