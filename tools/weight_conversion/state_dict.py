"""Read PyTorch state dicts into NumPy arrays.

safetensors files are read without PyTorch. Files that torch.save has written need PyTorch. Code in such files is never
run.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from pathlib import Path

import numpy as np

from ssd.errors import UserError

# Keys of the state dict in training checkpoints: the key of NVIDIA, of uvipen, and of most other projects.
STATE_DICT_KEYS = ("model", "model_state_dict", "state_dict")
ADVICE = (
    "Save model.state_dict() with torch.save, alone or in a dict under the key "
    f"{' or '.join(map(repr, STATE_DICT_KEYS))}."
)


@dataclasses.dataclass(frozen=True)
class StateDict:
    """Weights read from a file.

    arrays: {PyTorch parameter name: array}; 16-bit floats are converted to float32
    other_keys: keys of the file that do not contain weights, for example "optimizer"
    class_names: names of the classes, background first; None if the file contains no class names
    """

    arrays: dict[str, np.ndarray]
    other_keys: list[str]
    class_names: tuple[str, ...] | None = None


def read_state_dict(path: Path) -> StateDict:
    """Read the weights of a file, and remove the name prefix `module.` that data-parallel training adds.

    path: path of a .safetensors file, or of a file that torch.save has written
    Raises UserError if the file is missing or damaged, contains no state dict, or would run code.
    """
    if not path.is_file():
        raise UserError(f"{path}: not found. Set --input to an existing file.")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch_file(path)
    key = next((key for key in STATE_DICT_KEYS if isinstance(content.get(key), dict)), None)
    weights = content if key is None else content[key]
    arrays = {}
    for name, value in weights.items():
        array = _to_numpy(value)
        if array is None:
            raise UserError(f"{path}: {name!r} has type {type(value).__name__} and is not a tensor. {ADVICE}")
        arrays[str(name)] = array
    if not arrays:
        raise UserError(f"{path}: the file contains no weights. {ADVICE}")
    if all(name.startswith("module.") for name in arrays):
        arrays = {name.removeprefix("module."): array for name, array in arrays.items()}
    return StateDict(
        arrays=arrays,
        other_keys=[] if key is None else [str(name) for name in content if name != key],
        class_names=_read_class_names(content),
    )


def _read_safetensors(path: Path) -> dict:
    """Read a safetensors file as {name: array}. Raises UserError if the file is damaged or contains bfloat16 arrays."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except TypeError:  # NumPy has no bfloat16
        raise UserError(f"{path}: bfloat16 is not supported. Convert the arrays in the file to float32.") from None
    except SafetensorError as error:
        raise UserError(f"{path}: the file is not in safetensors format ({error}). Download the file again.") from None


def _read_torch_file(path: Path) -> dict:
    """Read the dict in a file that torch.save has written.

    Raises UserError if PyTorch is not installed, or if the file is damaged, would run code or contains no dict.
    """
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path}: this file can be read only with PyTorch, which is not installed. "
            "Install PyTorch with `pip install -e '.[torch]'`, or use a .safetensors file."
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)  # rejects pickles that run code
    except Exception as error:  # the type depends on the damage
        code = re.search(r"GLOBAL (\S+) was not an allowed", str(error))
        if code is None:
            raise UserError(
                f"{path}: the file is damaged, or was not written by torch.save. Set --input to another file."
            ) from None
        raise UserError(
            f"{path}: reading this file would run code ({code[1]}). If you trust the file, load the model in PyTorch "
            "and save only model.state_dict()."
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: the file contains a {type(content).__name__} instead of a state dict. {ADVICE}")
    return content


def _to_numpy(value) -> np.ndarray | None:
    """Return a tensor or array as a NumPy array, with 16-bit floats converted to float32.

    Returns None for a value of any other type.
    """
    if hasattr(value, "detach"):
        value = value.detach()
        value = (value.float() if "bfloat16" in str(value.dtype) else value).numpy()
    if not isinstance(value, np.ndarray):
        return None
    return value.astype(np.float32) if value.dtype == np.float16 else value


def _read_class_names(content: dict) -> tuple[str, ...] | None:
    """Return the class names of an NVIDIA checkpoint, background first.

    content: content of the checkpoint; its `label_map` is {0: "background", 1: "person", …}
    Returns None if the checkpoint has no valid label map.
    """
    label_map = content.get("label_map")
    if not isinstance(label_map, dict) or sorted(label_map) != list(range(len(label_map))):
        return None
    return tuple(str(label_map[index]) for index in range(len(label_map)))
