"""Modules of tools/convert_weights.py, which converts PyTorch state dicts into MindSpore checkpoints."""
