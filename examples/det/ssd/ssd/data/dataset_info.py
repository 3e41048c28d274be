"""`dataset.json`, which create_data.py writes beside the shards: their content, and what is needed to check them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

from ..errors import UserError, os_reason

DATASET_INFO_NAME = "dataset.json"
FORMAT = 1  # to be raised when older versions of this package would misread the file


@dataclasses.dataclass(frozen=True)
class SplitInfo:
    """Content of one split.

    images, boxes: numbers of images, and of boxes without dropped_boxes and crowd_boxes
    max_boxes: largest number of boxes in an image
    boxes_per_class: {class name: number of boxes}
    dropped_boxes: boxes left out because they are too thin
    crowd_boxes: crowd regions and difficult objects, which are left out
    source, source_sha256: name and SHA-256 of the annotation file
    shards: {file name relative to the folder of dataset.json: bytes}
    """

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
    """Content of a folder of shards.

    classes: class names by class index, background first
    category_ids: category ids of the annotation file, in the order of classes[1:]
    annotations: validation annotations in COCO format, relative to the folder
    """

    classes: list[str]
    category_ids: list[int]
    annotations: str
    train: SplitInfo
    val: SplitInfo

    def write(self, path: Path) -> None:
        """Write a dataset.json."""
        path.write_text(
            json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1, ensure_ascii=False) + "\n",
            encoding="utf-8",
        )


def read_dataset_info(path: Path) -> DatasetInfo:
    """Read a dataset.json. Raises UserError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = values.pop("format")
        if found != FORMAT:
            raise UserError(
                f"{path}: has format {found}, but this version reads format {FORMAT}. "
                "Run create_data.py again with --overwrite."
            )
        return DatasetInfo(**{**values, "train": SplitInfo(**values["train"]), "val": SplitInfo(**values["val"])})
    except OSError as error:
        reason = os_reason(error)
        raise UserError(f"{path}: {reason}. Create the dataset with create_data.py.") from None
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: damaged ({error}). Run create_data.py again with --overwrite.") from None


def check_files(info: DatasetInfo, folder: Path, split: str) -> None:
    """Check the files of a split, train or val, against dataset.json: sizes of shards, checksum of the annotations.

    Raises UserError.
    """
    advice = "Copy the folder again, or run create_data.py with --overwrite."
    split_info = info.train if split == "train" else info.val
    for name, size in split_info.shards.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path}: not found, although {DATASET_INFO_NAME} lists it. {advice}")
        if path.stat().st_size != size:
            raise UserError(
                f"{path}: has {path.stat().st_size} bytes, but {DATASET_INFO_NAME} lists {size} bytes. {advice}"
            )
    if split == "val":
        path = folder / info.annotations
        if not path.is_file():
            raise UserError(f"{path}: not found, although {DATASET_INFO_NAME} lists it. {advice}")
        if sha256(path) != info.val.source_sha256:
            raise UserError(f"{path}: has changed since the shards were made. {advice}")


def dataset_fingerprint(folder: Path) -> list:
    """Return the properties of a dataset that a compiled graph depends on, as values that JSON can hold.

    With dataset.json: [number of images, largest number of boxes in an image] of train and val, which set the number of
    steps and the shape of the padded boxes. Without it: [name, bytes, modification time in ns] of each shard file.
    Raises UserError if dataset.json is damaged.
    """
    if (folder / DATASET_INFO_NAME).is_file():
        info = read_dataset_info(folder / DATASET_INFO_NAME)
        return [[split.images, split.max_boxes] for split in (info.train, info.val)]
    files = [(path, path.stat()) for path in sorted(folder.glob("*/coco*")) if path.is_file()]
    return [[str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns] for path, stat in files]


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
