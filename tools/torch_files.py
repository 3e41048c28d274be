"""State dicts from files: safetensors, which need no PyTorch, and .pth files, which do and are read as data alone."""

from __future__ import annotations

import dataclasses
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ssd.errors import UserError

# Where a training's checkpoint keeps its state dict: NVIDIA's, uvipen's, and the custom of others.
WEIGHT_KEYS = ("model", "model_state_dict", "state_dict")


@dataclasses.dataclass(frozen=True)
class StateDict:
    """arrays: {name: float32 or int array}, 16-bit floats widened; beside: names of what else the file holds;
    classes: names that it gives its classes, or None"""

    arrays: dict[str, np.ndarray]
    beside: list[str]
    classes: tuple[str, ...] | None = None


def read_state_dict(path: Path) -> StateDict:
    """The weights in a file of PyTorch's world, without the `module.` that data parallel training puts before names.

    Raises UserError if there is none, or if reading it would run code.
    """
    if not path.is_file():
        raise UserError(f"{path}: got no such file, expected a state dict; check the path")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickled(path)
    key = next((key for key in WEIGHT_KEYS if isinstance(content.get(key), dict)), None)
    weights = content if key is None else content[key]
    arrays = {str(name): _array(value) for name, value in weights.items()}
    strange = [name for name, value in arrays.items() if value is None]
    if strange or not arrays:
        found = f"{strange[0]!r} in it, no array" if strange else "nothing in it"
        raise UserError(
            f"{path}: got {found}, expected a state dict, or one under {' or '.join(map(repr, WEIGHT_KEYS))}; "
            "save what model.state_dict() gives"
        )
    if all(name.startswith("module.") for name in arrays):
        arrays = {name.removeprefix("module."): value for name, value in arrays.items()}
    return StateDict(arrays, [str(name) for name in content if key not in (None, name)], _classes(content))


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except TypeError:  # NumPy has no bfloat16
        raise UserError(f"{path}: got bfloat16 arrays, expected float32 or float16; convert them first") from None
    except SafetensorError as error:
        raise UserError(f"{path}: got {error}, expected a whole safetensors file; download it again") from None


def _read_pickled(path: Path) -> dict:
    """What torch.save wrote. weights_only refuses all pickles that name code to run."""
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path}: got a file that only PyTorch reads, and no PyTorch here, expected a .safetensors file; use one, "
            "or pip install -r requirements-torch.txt"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each kind of damage raises another type
        code = re.search(r"GLOBAL (\S+) was not an allowed", str(error))
        reason = f"a pickle that would run {code[1]}" if code else "a file that is damaged or not from torch.save"
        advice = "save model.state_dict() alone, where you trust the file" if code else "use another"
        raise UserError(f"{path}: got {reason}, expected a state dict of tensors alone; {advice}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: got a {type(content).__name__}, expected a state dict; save model.state_dict()")
    return content


def _array(value) -> np.ndarray | None:
    """A NumPy array of an array or a tensor, 16-bit floats as float32, which holds all their values; else None."""
    if hasattr(value, "detach"):
        value = value.detach()
        value = (value.float() if "bfloat16" in str(value.dtype) else value).numpy()
    if not isinstance(value, np.ndarray):
        return None
    return value.astype(np.float32) if value.dtype == np.float16 else value


def _classes(content: dict[str, Any]) -> tuple[str, ...] | None:
    """NVIDIA's checkpoints have {0: "background", 1: "person", …} as label_map."""
    labels = content.get("label_map")
    if not isinstance(labels, dict) or sorted(labels) != list(range(len(labels))):
        return None
    return tuple(str(labels[index]) for index in range(len(labels)))
