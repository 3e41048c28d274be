"""Summaries of result folders that can be compared: which results are there, and are they whole."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

UNFINISHED = ".unfinished-"  # start of the names of temporary folders


def file_sums(folder: Path) -> dict[str, str]:
    """Return {path relative to the folder: SHA-256} of all files but temporary files and locks."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    results = {name: path for name, path in files.items() if UNFINISHED not in name and path.suffix != ".lock"}
    return {name: _sha256(path.read_bytes()) for name, path in results.items()}


def dataset_sums(folder: str) -> dict[str, str] | None:
    """Return checksums of a dataset that create_data.py wrote: of dataset.json, the annotations and all records.

    Returns None if the folder has no dataset.json. Raises UserError if a file is missing, damaged or of another size.
    """
    import mindspore.dataset as ds

    from ssd.data.dataset import find_shard
    from ssd.data.dataset_info import DATASET_INFO_NAME, check_files, read_dataset_info

    root = Path(folder)
    if not (root / DATASET_INFO_NAME).exists():
        return None
    info = read_dataset_info(root / DATASET_INFO_NAME)
    splits = [dataclasses.replace(split, shards={}) for split in (info.train, info.val)]  # sizes of shards vary
    sums = {
        "dataset.json": repr(dataclasses.replace(info, train=splits[0], val=splits[1])),
        "annotations": _sha256((root / info.annotations).read_bytes()),
    }
    for split in ("train", "val"):
        check_files(info, root, split)
        rows = ds.MindDataset(find_shard(root, split), ["img_id", "image", "annotation"], shuffle=False)
        content = [
            _sha256(b"".join(column.tobytes() for column in row))
            for row in rows.create_tuple_iterator(num_epochs=1, output_numpy=True)
        ]
        sums[split] = _sha256("".join(sorted(content)).encode())
    return sums


def checkpoint_sums(folder: str) -> dict[str, str]:
    """Return {path: SHA-256 of all parameters and records} of the checkpoints below a folder.

    The value of a checkpoint that cannot be loaded is "damaged".
    """
    from ssd.checkpoints.reading import read_checkpoint
    from ssd.errors import UserError

    sums = {}
    for path in sorted(path for path in Path(folder).rglob("*.ckpt") if path.is_file()):
        if UNFINISHED in str(path):
            continue
        try:
            content = read_checkpoint(path)
        except UserError:
            sums[path.relative_to(folder).as_posix()] = "damaged"
            continue
        values = [
            f"{name}\n".encode() + (value.encode() if isinstance(value, str) else value.asnumpy().tobytes())
            for name, value in sorted(content.items())
        ]
        sums[path.relative_to(folder).as_posix()] = _sha256(b"".join(values))
    return sums


def leftovers(folder: Path) -> list[str]:
    """Return the temporary and lock files below a folder."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.name.startswith(UNFINISHED) or path.name.endswith(".lock")
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
