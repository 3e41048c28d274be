"""Conversion of PyTorch state dicts into MindSpore checkpoints, for tools/convert_weights.py."""
