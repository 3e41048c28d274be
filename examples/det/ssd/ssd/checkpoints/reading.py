"""Read checkpoint files, and refuse damaged files and parameters that are not finite."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter

from ..errors import UserError, count_noun
from ..runtime.log import silence_mindspore_log
from .choice import list_files
from .parameter_names import MAY_OVERFLOW

log = logging.getLogger(__name__)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint file.

    Returns {name: Parameter, or text of a JSON record}.
    Raises UserError if the file is missing or damaged, or if a parameter is not finite.
    """
    path = Path(path)
    if not path.is_file():
        fault = "is a folder, not a checkpoint" if path.is_dir() else "the checkpoint was not found"
        raise UserError(f"{path}: {fault}. {list_files(path if path.is_dir() else path.parent)}Correct the path.")
    log.debug(f"reading {path}")
    try:
        with silence_mindspore_log():
            content = ms.load_checkpoint(str(path), crc_check=True)  # verifies the checksums if the file has checksums
    except (ValueError, RuntimeError):
        raise UserError(
            f"{path}: the file is damaged, or is not a MindSpore checkpoint. Use another checkpoint."
        ) from None
    names = find_non_finite(value for value in content.values() if isinstance(value, Parameter))
    if names:
        raise UserError(
            f"{path}: {names[0]}: {describe_non_finite(names)}. Use an earlier checkpoint, or train the detector again."
        )
    return content


def find_non_finite(parameters: Iterable[Parameter]) -> list[str]:
    """Return the names of the parameters that contain NaN or infinity, except sums that may overflow in training."""
    names = []
    for parameter in parameters:
        if not MAY_OVERFLOW.match(parameter.name):
            values = parameter.asnumpy()
            if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
                names.append(parameter.name)
    return names


def describe_non_finite(names: list[str]) -> str:
    """Return the fault for a message that has already named the first of the parameters."""
    others = f", as do {count_noun(len(names) - 1, 'other parameter')}" if len(names) > 1 else ""
    return f"the parameter contains NaN or infinity{others}"
