"""Targets of trained and exported models: checkpoint files, their JSON records, and metadata.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .target import Reader

EXPECTED: dict[str, dict[str, Any]] = {
    "classes": {"classes": ["background", "cat"], "loss": "focal"},
    "anchors": {"anchors": "default", "aspect_ratios": [[2.0]]},
    "network": {"backbone": "x"},
    "data": {"training_data": "1", "category_ids": [1]},
}


def checkpoint_file(folder: Path) -> Reader:
    """Return a reader of a checkpoint file: its records, and its parameters."""
    from ssd.checkpoints.reading import read_checkpoint

    path = folder / "last.ckpt"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        use_records(path)
        read_checkpoint(path)

    return read


def checkpoint_records(folder: Path) -> Reader:
    """Return a reader of the JSON records of a checkpoint. Inputs are a JSON object {name: record}."""
    from mindspore.train.checkpoint_pb2 import Checkpoint

    from ssd.checkpoints.records import RECORD_NAMES
    from ssd.training.resume import read_best, read_training_state

    path = folder / "best.ckpt"

    def read(data: bytes) -> None:
        name, _, text = data.decode(errors="replace").partition("\n")
        checkpoint = Checkpoint()
        entry = checkpoint.value.add(tag=RECORD_NAMES[len(name) % len(RECORD_NAMES)])
        entry.tensor.tensor_type, entry.tensor.tensor_content = "str", text.encode("utf-32-le")
        entry.tensor.dims.append(0)
        path.write_bytes(checkpoint.SerializeToString())
        use_records(path)
        read_best(folder)
        read_training_state(text, path)

    return read


def use_records(path: Path) -> None:
    """Read the records of a checkpoint, and call the functions that use them."""
    from ssd.checkpoints.choice import choose_checkpoint, describe_checkpoint, sort_by_step
    from ssd.checkpoints.metadata import describe_mismatches, read_metadata, refuse_mismatch

    describe_checkpoint(path)
    choose_checkpoint(str(path.parent), "")
    sort_by_step([path, path.with_name("ssd-1.ckpt")])
    stored = read_metadata(path)
    describe_mismatches(EXPECTED, stored, path)
    refuse_mismatch(EXPECTED, stored, path)


def export_metadata(folder: Path) -> Reader:
    """Return a reader of metadata.yaml of an exported model, which describes an empty model file."""
    from ssd.deployment.model_metadata import read_metadata, write_metadata

    (folder / "model.onnx").write_bytes(b"")
    (folder / "copy").mkdir()

    def read(data: bytes) -> None:
        (folder / "metadata.yaml").write_bytes(data)
        metadata = read_metadata(folder)
        metadata.describe_checkpoint()
        write_metadata(folder / "copy", metadata)

    return read
