"""Convert annotated images to MindRecord shards. A failed conversion leaves existing files unchanged.

Columns of a record:
    img_id: (1,) int64, image id
    image: bytes of the encoded image file
    annotation: (max(M, 1), 5) float32, boxes_yxyx in pixels of the upright image and class index; class index 0 marks
        padding

An image without boxes has one padding row of zeros, because MindRecord cannot store shape (0, 5).

Shards of MindCV's example can also be read. Their columns are the same, with int32 ids, and boxes in stored pixels,
rounded to int32.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from mindspore.mindrecord import FileWriter

from ..boxes.ops import clip_boxes
from ..errors import UserError, mindspore_reason, os_reason
from ..runtime.atomic_write import work_folder
from ..runtime.prefetch import prefetch
from ..runtime.progress import Progress
from .dataset_info import DATASET_INFO_NAME, DatasetInfo, SplitInfo, sha256
from .images import check_image
from .readers.annotations import AnnotatedImage, DatasetSplit, align_categories
from .readers.coco import require_usable_images

SCHEMA = {
    "img_id": {"type": "int64", "shape": [1]},
    "image": {"type": "bytes"},
    "annotation": {"type": "float32", "shape": [-1, 5]},
}
SHARDS = 8
VAL_ANNOTATIONS = "instances_val.json"  # file name for a split that was not read from a single COCO file
ROWS_PER_WRITE = 256  # many more than SHARDS, because MindRecord distributes the rows of each call over the shards
READ_AHEAD = 256  # maximum number of images in memory between the reader threads and the writer
MIN_BOX_SIDE = 1.0  # pixels after clipping; thinner boxes cannot be localized and have unbounded regression targets


def convert(train: DatasetSplit, val: DatasetSplit, out_path: Path, overwrite: bool, num_workers: int) -> DatasetInfo:
    """Write a training and a validation split as MindRecord shards.

    This function writes out_path/train/coco0 …, out_path/val/coco0 …, the validation annotations in COCO format and
    dataset.json. All files are written to a temporary folder inside out_path and moved at the end, dataset.json last.

    train: training split
    val: validation split
    out_path: output folder
    overwrite: True replaces shards that already exist in out_path
    num_workers: number of threads that read images

    Returns the content of dataset.json.
    Raises UserError if the splits have different classes, an image cannot be converted, out_path cannot be written to,
    out_path contains files of a previous conversion and overwrite is False, or files that create_data.py did not write
    would be replaced. The files in out_path are then unchanged.
    """
    val = align_categories(train, val)
    require_usable_images(train, val)
    annotations = Path("annotations") / (val.annotation_path.name if val.coco_dict is None else VAL_ANNOTATIONS)
    _check_target(train, val, out_path, annotations=annotations, overwrite=overwrite)
    try:
        with work_folder(out_path) as work:
            info = _write_dataset(train, val, work, annotations=annotations, num_workers=num_workers)
            # Remove the old dataset.json first, because it would not describe a mixture of old and new shards.
            (out_path / DATASET_INFO_NAME).unlink(missing_ok=True)
            for split in ("train", "val"):
                shutil.rmtree(out_path / split, ignore_errors=True)
                (work / split).rename(out_path / split)
            (out_path / "annotations").mkdir(exist_ok=True)
            (work / annotations).replace(out_path / annotations)
            (work / DATASET_INFO_NAME).rename(out_path / DATASET_INFO_NAME)
    except (OSError, RuntimeError) as error:  # MindSpore's writer raises RuntimeError if the disk is full
        raise UserError(
            f"{out_path}: the dataset cannot be written ({mindspore_reason(error)}). Check permissions and free disk "
            "space, or choose another --out_path."
        ) from None
    return info


def _check_target(train: DatasetSplit, val: DatasetSplit, out_path: Path, annotations: Path, overwrite: bool) -> None:
    """Check that the conversion replaces only files of a previous conversion, and only with --overwrite.

    annotations: path of the validation annotations to write, relative to out_path

    Raises UserError if files that create_data.py did not write would be replaced, or if out_path contains files of a
    previous conversion and overwrite is False.
    """
    _require_only_shards(out_path)
    existing = [out_path / name for name in (DATASET_INFO_NAME, "train", "val") if (out_path / name).exists()]
    replaces_annotations = (out_path / annotations).is_file() and sha256(out_path / annotations) != _digest(val)
    if replaces_annotations:
        existing.append(out_path / annotations)
    if existing and not overwrite:
        raise UserError(
            f"{existing[0]}: already exists. Choose another --out_path, or add --overwrite to replace the dataset."
        )

    # If dataset.json or annotations with different content exist, a previous conversion must have written them.
    try:
        old = json.loads((out_path / DATASET_INFO_NAME).read_text(encoding="utf-8"))
        is_foreign = not isinstance(old, dict) or "format" not in old
    except (OSError, ValueError):  # dataset.json is missing or damaged
        old, is_foreign = {}, False
    advice = "the conversion would replace this file, which create_data.py did not write. Choose another --out_path."
    if is_foreign:
        raise UserError(f"{out_path / DATASET_INFO_NAME}: {advice}")
    if replaces_annotations:
        # If out_path is also the source folder, the file at this path may be the user's own annotation file.
        converts_own_folder = any(
            split.annotation_path.resolve().is_relative_to(out_path.resolve()) for split in (train, val)
        )
        old_val = old.get("val")
        was_source = isinstance(old_val, dict) and old_val.get("source") == annotations.name
        if old.get("annotations") != annotations.as_posix() or (converts_own_folder and was_source):
            raise UserError(f"{out_path / annotations}: {advice}")


def _require_only_shards(out_path: Path) -> None:
    """Check that out_path/train and out_path/val contain only shards, because the conversion deletes both folders.

    Raises UserError if one of the two paths is a file, or one of the folders contains another file.
    """
    for folder in (out_path / "train", out_path / "val"):
        if folder.exists() and not folder.is_dir():
            raise UserError(
                f"{folder}: this path is a file, but the shards need a folder here. Choose another --out_path."
            )
        for path in folder.iterdir() if folder.is_dir() else ():
            if not re.fullmatch(r"coco\d*(\.db)?", path.name):
                raise UserError(
                    f"{path}: the conversion would delete this path, which is not a shard. Choose another --out_path."
                )


def _write_dataset(
    train: DatasetSplit, val: DatasetSplit, folder: Path, annotations: Path, num_workers: int
) -> DatasetInfo:
    """Write the shards of both splits, the validation annotations and dataset.json to a folder.

    annotations: path of the validation annotations to write, relative to the folder
    num_workers: number of threads that read images

    Returns the content of dataset.json. Raises UserError if an image cannot be converted, or no training boxes remain.
    """
    train_info = _write_split(train, folder / "train", num_workers)
    if not train_info.boxes:
        raise UserError(
            f"{train.annotation_path}: the training split has no usable boxes. Annotate at least one object, not a "
            f"crowd region, with a box that is at least {MIN_BOX_SIDE:g} pixel wide and high."
        )
    val_info = _write_split(val, folder / "val", num_workers)
    (folder / "annotations").mkdir()
    if val.coco_dict is None:
        shutil.copyfile(val.annotation_path, folder / annotations)
    else:
        (folder / annotations).write_bytes(_encode_json(val.coco_dict))
    info = DatasetInfo(
        classes=train.classes,
        category_ids=train.category_ids,
        annotations=annotations.as_posix(),
        train=train_info,
        val=val_info,
        upright=True,
    )
    info.write(folder / DATASET_INFO_NAME)
    return info


def _write_split(split: DatasetSplit, folder: Path, num_workers: int) -> SplitInfo:
    """Write the shards of a split to a new folder, and return the statistics and shard sizes of the split.

    Raises UserError if an image cannot be converted.
    """
    folder.mkdir()
    writer = FileWriter(str(folder / "coco"), shard_num=SHARDS)
    writer.add_schema(SCHEMA, "objects of COCO images")
    per_class = np.zeros(len(split.classes), dtype=np.int64)
    dropped_boxes = crowd_boxes = max_boxes = 0
    rows: list[dict] = []
    with Progress(len(split.images), folder.name, "images") as progress, ThreadPoolExecutor(num_workers) as pool:
        for record in prefetch(pool, read_record, split.images, ahead=READ_AHEAD):
            rows.append(_row(record))
            per_class += np.bincount(record.ground_truth[:, 4].astype(np.int64), minlength=len(per_class))
            dropped_boxes += record.dropped_boxes
            crowd_boxes += record.crowd_boxes
            max_boxes = max(max_boxes, len(record.ground_truth))
            if len(rows) == ROWS_PER_WRITE:
                writer.write_raw_data(rows)
                rows.clear()
            progress.update()
    if rows:
        writer.write_raw_data(rows)
    writer.commit()
    return SplitInfo(
        images=len(split.images),
        boxes=int(per_class.sum()),
        max_boxes=max_boxes,
        boxes_per_class={name: int(count) for name, count in zip(split.classes[1:], per_class[1:])},
        dropped_boxes=dropped_boxes,
        crowd_boxes=crowd_boxes,
        source=split.annotation_path.name,
        source_sha256=_digest(split),
        shards={f"{folder.name}/{path.name}": path.stat().st_size for path in sorted(folder.iterdir())},
    )


def _digest(split: DatasetSplit) -> str:
    """Return the SHA-256 of the COCO annotations of a split as a hexadecimal string.

    If the split has no single COCO file, the annotations are hashed as the conversion writes them.
    """
    if split.coco_dict is None:
        return sha256(split.annotation_path)
    return hashlib.sha256(_encode_json(split.coco_dict)).hexdigest()


def _encode_json(content: dict) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()


def _row(record: Record) -> dict:
    """Convert a record to a MindRecord row: {column of SCHEMA: value}."""
    annotation = record.ground_truth if len(record.ground_truth) else np.zeros((1, 5), dtype=np.float32)
    return {"img_id": np.array([record.image_id], dtype=np.int64), "image": record.image, "annotation": annotation}


@dataclasses.dataclass(frozen=True)
class Record:
    """An image file that has been read and checked, with its ground-truth boxes.

    image_id: image id in the COCO annotations
    image: bytes of the image file
    ground_truth: (M, 5) float32, boxes_yxyx in pixels of the upright image, clipped to it, and class index 1..K-1
    dropped_boxes: number of boxes that were left out because they are thinner than MIN_BOX_SIDE
    crowd_boxes: number of crowd regions, which were left out
    """

    image_id: int
    image: bytes
    ground_truth: np.ndarray
    dropped_boxes: int
    crowd_boxes: int


class UnusableImageError(UserError):
    """Error for an image that cannot be converted.

    path: path of the image file
    reason: what is wrong, without the path. The attribute `reason` is this text with the path in front.
    advice: sentence that says what the user can do
    """

    def __init__(self, path: Path, reason: str, advice: str):
        super().__init__(f"{path}: {reason}. {advice}")
        self.reason = f"{path}: {reason}"


def read_record(image: AnnotatedImage) -> Record:
    """Read and check an image file, clip the boxes to the image and drop boxes thinner than MIN_BOX_SIDE.

    Raises UnusableImageError if the file is unreadable or incomplete, or if its size differs from the annotated size.
    """
    advice = "Replace the image, or remove the image from the annotations."
    try:
        encoded = image.path.read_bytes()
        height, width = check_image(encoded)
    except OSError as error:
        reason = f"cannot be read ({os_reason(error)})"
        raise UnusableImageError(image.path, reason=reason, advice=advice) from None
    except ValueError as error:
        raise UnusableImageError(image.path, reason=str(error), advice=advice) from None
    if image.size is not None and image.size != (height, width):
        raise UnusableImageError(
            image.path,
            reason=f"the image has {width}x{height} pixels, but the annotations state {image.size[1]}x{image.size[0]}",
            advice="Correct the annotations, or replace the image.",
        )
    boxes = clip_boxes(image.ground_truth[:, :4], height, width)
    kept = (boxes[:, 2:] - boxes[:, :2] >= MIN_BOX_SIDE).all(axis=1)
    ground_truth = np.concatenate([boxes, image.ground_truth[:, 4:]], axis=1)[kept].astype(np.float32)
    return Record(
        image_id=image.image_id,
        image=encoded,
        ground_truth=ground_truth,
        dropped_boxes=int((~kept).sum()),
        crowd_boxes=image.crowd_boxes,
    )
