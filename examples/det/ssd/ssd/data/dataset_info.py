"""`dataset.json`, which create_data.py leaves beside the shards: what is in them, and how to tell they are whole."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

from ..errors import UserError

DATASET_INFO_NAME = "dataset.json"
FORMAT = 1  # raised when readers of the older form would misread the newer


@dataclasses.dataclass(frozen=True)
class SplitInfo:
    """One split. shards: {file name relative to the folder: bytes}; source_sha256: of its annotation file."""

    images: int
    boxes: int
    max_boxes: int
    boxes_per_class: dict[str, int]
    dropped_boxes: int
    crowd_boxes: int
    source: str
    source_sha256: str
    shards: dict[str, int]


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """classes: names by class index, background first; category_ids: the annotation file's id of each but background;
    annotations: validation annotations, relative to the folder."""

    classes: list[str]
    category_ids: list[int]
    annotations: str
    train: SplitInfo
    val: SplitInfo

    def write(self, path: Path) -> None:
        path.write_text(
            json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1, ensure_ascii=False) + "\n",
            encoding="utf-8",
        )


def read_dataset_info(path: Path) -> DatasetInfo:
    """Read a dataset.json. Raises UserError."""
    advice = "run create_data.py again with --overwrite"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = values.pop("format")
        if found != FORMAT:
            raise UserError(f"{path}: got format {found}, expected {FORMAT}; {advice}")
        return DatasetInfo(**{**values, "train": SplitInfo(**values["train"]), "val": SplitInfo(**values["val"])})
    except OSError as error:
        raise UserError(
            f"{path}: got {error.strerror.lower()}, expected a data set; make one with create_data.py"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: got a damaged file ({error}), expected what create_data.py wrote; {advice}") from None


def check_files(info: DatasetInfo, folder: Path, split: str) -> None:
    """Refuse a folder whose files are not those that `info` describes. split: train or val. Raises UserError."""
    advice = "copy the folder again, or run create_data.py with --overwrite"
    for name, size in getattr(info, split).shards.items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            got = "no such file" if found is None else f"{found} bytes"
            raise UserError(f"{path}: got {got}, expected {size} bytes as in {DATASET_INFO_NAME}; {advice}")
    if split == "val":
        path = folder / info.annotations
        if not path.is_file():
            raise UserError(f"{path}: got no such file, expected the validation annotations; {advice}")
        if sha256(path) != info.val.source_sha256:
            raise UserError(
                f"{path}: got annotations that have changed since the shards were made, expected the same; {advice}"
            )


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
