"""Write checkpoint files. An existing file is replaced only when the new file is complete."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mindspore as ms
import mindspore.nn as nn
import numpy as np

from ..errors import UserError
from ..runtime.atomic_write import replace_file
from ..runtime.log import silence_mindspore_log
from .choice import find_training_checkpoints
from .reading import describe_non_finite, find_non_finite


def save_checkpoint(
    net: nn.Cell,
    path: Path,
    records: dict[str, Any] | None = None,
    *,
    arrays: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write all parameters of a network, JSON records and arrays to a checkpoint with checksums.

    An existing file is replaced only when the new file is complete.

    net: network, for example a training step
    path: path of the checkpoint
    records: {name: JSON value} to store in addition to the parameters
    arrays: {name: array} to store in addition to the parameters
    Raises UserError if a parameter is not finite, or if the file cannot be written.
    """
    names = find_non_finite(net.get_parameters())
    if names:
        raise UserError(
            f"{path}: {names[0]}: {describe_non_finite(names)}, so the checkpoint was not saved. Lower --lr, "
            f"and {_next_step(path.parent)}."
        )
    additions: dict[str, Any] = {name: json.dumps(value) for name, value in (records or {}).items()}
    additions |= {name: ms.Tensor(array) for name, array in (arrays or {}).items()}
    try:
        with replace_file(path) as unfinished, silence_mindspore_log():
            ms.save_checkpoint(net, str(unfinished), append_dict=additions or None, crc_check=True)
    except (OSError, RuntimeError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error).splitlines()[0]
        next_step = _next_step(path.parent)
        raise UserError(
            f"{path}: the checkpoint cannot be written ({reason.lower()}). Check that the folder is "
            f"writable and the disk has free space, and {next_step}."
        ) from None


def link_checkpoint(path: Path, name: str) -> None:
    """Give a checkpoint a second file name in the same folder.

    The second file is a hard link, or a copy if the file system does not support hard links.
    """
    with replace_file(path.with_name(name)) as unfinished:
        try:
            os.link(path, unfinished)
        except OSError:
            shutil.copyfile(path, unfinished)


def _next_step(folder: Path) -> str:
    """Return advice for a training run whose checkpoint was not saved in this folder."""
    if find_training_checkpoints(folder):
        return "continue from an earlier checkpoint with --resume"
    return "start the training again"
