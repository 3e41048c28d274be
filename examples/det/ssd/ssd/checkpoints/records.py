"""JSON records of a checkpoint: settings of the detector, state of the training, and result of an evaluation.

MindSpore stores each entry of a checkpoint as one protobuf message. `read_records` skips the large messages, so that it
takes milliseconds for files of any size.
"""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any, BinaryIO

from google.protobuf.message import DecodeError
from mindspore.train.checkpoint_pb2 import Checkpoint

from ..runtime.read_json import parse_json

METADATA_KEY = "model_metadata"
OLD_METADATA_KEY = "meaning"  # in checkpoints of version 0.1
STATE_KEY = "training_state"
EVALUATION_KEY = "evaluation"  # only in best.ckpt
RECORD_NAMES = (METADATA_KEY, OLD_METADATA_KEY, STATE_KEY, EVALUATION_KEY)

_MESSAGE_TAG = b"\x0a"  # field 1 of the protobuf class Checkpoint: length-delimited messages of the class Value
_LARGEST_RECORD = 1 << 20  # bytes; larger messages are tensors
MAX_COUNT = 2**53  # steps and epochs; larger integers are no exact floats


@dataclasses.dataclass(frozen=True)
class Progress:
    """Progress of the training that wrote a checkpoint.

    step: number of steps done in all epochs
    epoch: number of epochs done
    step_in_epoch: number of steps done in the next epoch; 0 at the end of an epoch
    mean_ap: mAP of the checkpoint, 0..1; None if unknown
    """

    step: int
    epoch: int
    step_in_epoch: int = 0
    mean_ap: float | None = None


def read_records(path: Path) -> dict[str, Any]:
    """Read the JSON records of a checkpoint without its parameters.

    Returns {name: JSON object}. Records that `parse_record` refuses are left out. The dict is empty if the file has no
    records, is damaged, or cannot be read.
    """
    records: dict[str, Any] = {}
    with contextlib.suppress(OSError, DecodeError, ValueError), open(path, "rb") as file:
        size = path.stat().st_size
        while file.read(1) == _MESSAGE_TAG:
            length = _read_varint(file)
            if file.tell() + length > size:
                break
            if length > _LARGEST_RECORD:
                file.seek(length, 1)
                continue
            entry = Checkpoint.Value.FromString(file.read(length))
            if entry.tag in RECORD_NAMES:
                # MindSpore stores text as NumPy does, with four bytes for each character.
                with contextlib.suppress(ValueError):
                    records[entry.tag] = parse_record(entry.tag, entry.tensor.tensor_content.decode("utf-32-le"))
    return records


def parse_record(name: str, text: str) -> Any:
    """Parse a JSON record. name: one of RECORD_NAMES

    Raises ValueError if the text is not valid JSON, or lacks values that all versions of this package store.
    """
    record = parse_json(text)
    if not isinstance(record, dict):
        raise ValueError(f"{name}: the record is not a JSON object")
    if name == METADATA_KEY:
        valid = all(isinstance(group, dict) for group in record.values())
        valid = valid and _are_names(record.get("classes", {}).get("classes"))
    elif name == OLD_METADATA_KEY:
        valid = _are_names(record.get("classes"))
    elif name == STATE_KEY:
        valid = _is_count(record.get("step"), 0) and _is_count(record.get("steps_per_epoch"), 1)
    else:
        metrics = record.get("metrics")
        valid = isinstance(metrics, dict) and all(isinstance(value, int | float) for value in metrics.values())
        valid = valid and "mAP" in record["metrics"]
        valid = valid and _is_count(record.get("step"), 0) and _is_count(record.get("epoch"), 0)
    if not valid:
        raise ValueError(f"{name}: the record has a missing or invalid value")
    return record


def _are_names(value: object) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(name, str) for name in value))


def _is_count(value: object, minimum: int) -> bool:
    return type(value) is int and minimum <= value <= MAX_COUNT


def read_progress(path: Path) -> Progress | None:
    """Read the progress of the training that wrote a checkpoint.

    Returns None if the file does not contain the progress, is damaged, or cannot be read.
    """
    records = read_records(path)
    if EVALUATION_KEY in records:
        evaluation = records[EVALUATION_KEY]
        return Progress(evaluation["step"], evaluation["epoch"], mean_ap=evaluation["metrics"]["mAP"])
    if STATE_KEY not in records:
        return None
    state = records[STATE_KEY]
    epoch, step_in_epoch = divmod(state["step"], state["steps_per_epoch"])
    return Progress(state["step"], epoch, step_in_epoch=step_in_epoch)


def _read_varint(file: BinaryIO) -> int:
    """Read an integer of variable length: seven bits per byte, lowest bits first.

    Raises ValueError at the end of the file, or if the integer has more than 64 bits.
    """
    value = 0
    for shift in range(0, 64, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("end of file")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("an integer with more than 64 bits")
