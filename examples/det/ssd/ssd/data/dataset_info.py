"""Read and write `dataset.json`: statistics, classes, file sizes and checksums of the shards of a dataset."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ..errors import UserError, os_reason
from ..runtime.read_json import read_json

DATASET_INFO_NAME = "dataset.json"
# File name of annotations that are not a copy of a COCO file. No split has this name, so a folder that is converted in
# place can be converted again.
VAL_ANNOTATIONS = "val_annotations.json"
FORMAT = 2  # version of the file format; increase the number when older code would misread a new file
ADVICE = "Run create_data.py again with --overwrite."
READABLE_FORMATS = (1, FORMAT)  # format 1 has no key `upright`
_NO_OTHER_KEYS = ConfigDict(extra="forbid")


@dataclasses.dataclass(frozen=True)
class SplitInfo:
    """Statistics, annotation file and shards of one split.

    images: number of images
    boxes: number of ground-truth boxes in the shards, without dropped_boxes and crowd_boxes
    max_boxes: maximum number of boxes in an image
    boxes_per_class: {class name: number of boxes}
    dropped_boxes: number of boxes that were left out because they are thinner than 1 pixel
    crowd_boxes: number of crowd regions and difficult objects, which were left out
    source: name of the annotation file, or of the dataset folder if the split was not read from a single COCO file
    source_sha256: SHA-256 of the annotations in COCO format, in hexadecimal
    shards: {file path relative to the folder of dataset.json: size in bytes}
    """

    __pydantic_config__ = _NO_OTHER_KEYS

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
    """Content of dataset.json: classes, annotations and splits of a folder of shards.

    classes: class names in the order of the class index, background first
    category_ids: COCO category ids of the annotations, in the order of classes[1:]
    annotations: path of the validation annotations in COCO format, relative to the folder of dataset.json
    train: training split
    val: validation split
    upright: True if boxes are in pixels of the upright images, as `decode_image` returns them. False for shards of
        earlier versions, whose boxes are in stored pixels: their images are decoded without EXIF orientation, and
        without a white background for transparent pixels.
    """

    __pydantic_config__ = _NO_OTHER_KEYS

    classes: list[str]
    category_ids: list[int]
    annotations: str
    train: SplitInfo
    val: SplitInfo
    upright: bool = False

    def write(self, path: Path) -> None:
        """Write dataset.json to `path`."""
        path.write_text(
            json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1, ensure_ascii=False) + "\n",
            encoding="utf-8",
        )


_CHECKED_INFO = TypeAdapter(DatasetInfo)


def read_dataset_info(path: Path) -> DatasetInfo:
    """Read dataset.json. Raises UserError if the file is missing, damaged or has an unsupported format version."""
    try:
        return _check_dataset_info(read_json(path), path)
    except OSError as error:
        reason = os_reason(error)
        raise UserError(
            f"{path}: the file cannot be read ({reason}). Create the dataset with create_data.py."
        ) from None
    except UserError:
        raise
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise UserError(f"{path}: the file is damaged ({reason}). {ADVICE}") from None
    except ValueError as error:
        raise UserError(f"{path}: the file is damaged ({error}). {ADVICE}") from None


def _check_dataset_info(values: Any, path: Path) -> DatasetInfo:
    """Check the content of dataset.json. Raises ValueError if it is damaged, or UserError if its version is unknown."""
    if not isinstance(values, dict) or "format" not in values:
        raise ValueError("the key format is missing")
    found = values.pop("format")
    if found not in READABLE_FORMATS:
        raise UserError(
            f"{path}: the file has format version {found}, but this program reads format versions up to {FORMAT}. "
            f"{ADVICE}"
        )
    info = _CHECKED_INFO.validate_python(values)
    if len(info.category_ids) != len(info.classes) - 1:
        raise ValueError(f"{len(info.classes)} classes, but {len(info.category_ids)} category ids")
    for name in (info.annotations, *info.train.shards, *info.val.shards):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"the file {name!r} is outside the folder")
    return info


def shards_are_upright(folder: Path) -> bool:
    """Return `DatasetInfo.upright` of a folder of shards; False if the folder has no dataset.json.

    Raises UserError if dataset.json is damaged.
    """
    path = folder / DATASET_INFO_NAME
    return path.is_file() and read_dataset_info(path).upright


def check_files(info: DatasetInfo, folder: Path, split: str) -> None:
    """Compare the files of a split with dataset.json: sizes of the shards, and SHA-256 of the validation annotations.

    info: content of dataset.json
    folder: folder of dataset.json
    split: "train" or "val"

    Raises UserError if a file is missing or differs from dataset.json.
    """
    advice = "Copy the dataset again, or run create_data.py with --overwrite."
    split_info = info.train if split == "train" else info.val
    for name, size in split_info.shards.items():
        path = folder / name
        if not os.path.isfile(path):  # Path.is_file raises OSError for names that no file can have
            raise UserError(f"{path}: the file is listed in {DATASET_INFO_NAME}, but does not exist. {advice}")
        if path.stat().st_size != size:
            raise UserError(
                f"{path}: the file has {path.stat().st_size} bytes, but {DATASET_INFO_NAME} lists {size} bytes. "
                f"{advice}"
            )
    if split == "val":
        path = folder / info.annotations
        if not os.path.isfile(path):  # Path.is_file raises OSError for names that no file can have
            raise UserError(f"{path}: the file is listed in {DATASET_INFO_NAME}, but does not exist. {advice}")
        if sha256(path) != info.val.source_sha256:
            raise UserError(f"{path}: the annotations have changed since the shards were created. {advice}")


def dataset_fingerprint(folder: Path) -> list:
    """Return the properties of a dataset that a compiled graph depends on, as JSON-compatible values.

    If the folder has dataset.json, returns [number of images, maximum number of boxes in an image] for the training
    split and for the validation split. These numbers determine the number of steps and the shape of the padded boxes.
    Otherwise returns [path, size in bytes, modification time in ns] for each shard file.
    Raises UserError if dataset.json is damaged.
    """
    if (folder / DATASET_INFO_NAME).is_file():
        info = read_dataset_info(folder / DATASET_INFO_NAME)
        return [[split.images, split.max_boxes] for split in (info.train, info.val)]
    files = [(path, path.stat()) for path in sorted(folder.glob("*/coco*")) if path.is_file()]
    return [[str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns] for path, stat in files]


def split_fingerprint(folder: Path, split: str) -> str | None:
    """Return a SHA-256 that identifies the images and ground-truth boxes of a split, as a hexadecimal string.

    If the folder has dataset.json, the annotations and the statistics are hashed. A second conversion of the same data
    has the same hash. Otherwise the names and sizes of the shards are hashed.

    folder: folder of the shards
    split: "train" or "val"
    Returns None if the folder has no shards of the split. Raises UserError if dataset.json is damaged.
    """
    content: list = []
    if (folder / DATASET_INFO_NAME).is_file():
        info = read_dataset_info(folder / DATASET_INFO_NAME)
        split_info = info.train if split == "train" else info.val
        content = [split_info.source_sha256, split_info.images, split_info.boxes, split_info.crowd_boxes, info.upright]
    else:
        content = [[path.name, path.stat().st_size] for path in sorted((folder / split).glob("coco*"))]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest() if content else None


def read_category_ids(folder: Path, num_classes: int) -> list[int]:
    """Return the COCO category id of each label, with 0 for the background.

    folder: folder of the shards; without dataset.json, the ids are equal to the labels
    num_classes: number of classes, background included
    Raises UserError if dataset.json is damaged.
    """
    path = folder / DATASET_INFO_NAME
    return [0, *read_dataset_info(path).category_ids] if path.is_file() else list(range(num_classes))


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as a hexadecimal string."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
