"""Read PyTorch state dicts into NumPy arrays.

safetensors files are read without PyTorch. Files that torch.save wrote need PyTorch; code in them is never run.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from pathlib import Path

import numpy as np

from ssd.errors import UserError

# Keys of training checkpoints that hold the state dict: NVIDIA's, uvipen's, and the one most others use.
STATE_DICT_KEYS = ("model", "model_state_dict", "state_dict")
ADVICE = f"Save model.state_dict(), either alone or under one of the keys {', '.join(map(repr, STATE_DICT_KEYS))}."


@dataclasses.dataclass(frozen=True)
class StateDict:
    """Weights read from a file.

    arrays: {parameter name: array}; 16-bit floats are widened to float32
    other_keys: keys of the file that are not weights, for example "optimizer"
    class_names: names of the classes, background first; None if the file does not say
    """

    arrays: dict[str, np.ndarray]
    other_keys: list[str]
    class_names: tuple[str, ...] | None = None


def read_state_dict(path: Path) -> StateDict:
    """Read the weights of a file, without the name prefix `module.` that data-parallel training adds.

    Raises UserError if the file holds no state dict, or if reading it would run code.
    """
    if not path.is_file():
        raise UserError(f"{path}: not found. Check the path given to --input.")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch_file(path)
    key = next((key for key in STATE_DICT_KEYS if isinstance(content.get(key), dict)), None)
    weights = content if key is None else content[key]
    arrays = {}
    for name, value in weights.items():
        array = _to_numpy(value)
        if array is None:
            raise UserError(f"{path}: {name!r} is of type {type(value).__name__}, not a tensor. {ADVICE}")
        arrays[str(name)] = array
    if not arrays:
        raise UserError(f"{path}: there are no weights in this file. {ADVICE}")
    if all(name.startswith("module.") for name in arrays):
        arrays = {name.removeprefix("module."): array for name, array in arrays.items()}
    return StateDict(
        arrays=arrays,
        other_keys=[] if key is None else [str(name) for name in content if name != key],
        class_names=_read_class_names(content),
    )


def _read_safetensors(path: Path) -> dict:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except TypeError:  # NumPy has no bfloat16
        raise UserError(f"{path}: bfloat16 arrays are not supported. Convert them to float32 or float16.") from None
    except SafetensorError as error:
        raise UserError(f"{path}: not a complete safetensors file ({error}). Download it again.") from None


def _read_torch_file(path: Path) -> dict:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path}: this file needs PyTorch, which is not installed. Install it with `pip install -e '.[torch]'`, "
            "or use a .safetensors file."
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)  # refuses pickles that would run code
    except Exception as error:  # the type depends on the kind of damage
        code = re.search(r"GLOBAL (\S+) was not an allowed", str(error))
        if code is None:
            raise UserError(f"{path}: damaged, or not written by torch.save. Use another file.") from None
        raise UserError(
            f"{path}: reading this file would run code ({code[1]}). If you trust it, load it in PyTorch and save "
            "model.state_dict() alone."
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: this file holds a {type(content).__name__}, not a state dict. {ADVICE}")
    return content


def _to_numpy(value) -> np.ndarray | None:
    """Return a tensor or array as a NumPy array, 16-bit floats widened to float32; None for any other type."""
    if hasattr(value, "detach"):
        value = value.detach()
        value = (value.float() if "bfloat16" in str(value.dtype) else value).numpy()
    if not isinstance(value, np.ndarray):
        return None
    return value.astype(np.float32) if value.dtype == np.float16 else value


def _read_class_names(content: dict) -> tuple[str, ...] | None:
    """Read the class names of NVIDIA's checkpoints: {0: "background", 1: "person", …} under `label_map`."""
    label_map = content.get("label_map")
    if not isinstance(label_map, dict) or sorted(label_map) != list(range(len(label_map))):
        return None
    return tuple(str(label_map[index]) for index in range(len(label_map)))
