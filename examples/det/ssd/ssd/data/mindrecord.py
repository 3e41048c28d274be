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
import functools
import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..boxes.ops import clip_boxes
from ..errors import UserError, count_noun, mindspore_reason, os_reason
from ..runtime.atomic_write import move_all, work_folder
from ..runtime.folder_lock import lock_folder
from ..runtime.prefetch import prefetch
from ..runtime.progress import Progress
from .conversion_target import check_target
from .dataset_info import DATASET_INFO_NAME, VAL_ANNOTATIONS, DatasetInfo, SplitInfo, sha256
from .image_limits import read_image_bytes
from .images import check_image
from .pixel_check import DamagedPixelsError, check_pixels
from .readers.annotations import (
    DAMAGED_IMAGES,
    MIN_BOX_SIDE,
    UNUSABLE_IMAGES,
    AnnotatedImage,
    DatasetSplit,
    align_categories,
)
from .readers.coco import require_usable_images

SCHEMA = {
    "img_id": {"type": "int64", "shape": [1]},
    "image": {"type": "bytes"},
    "annotation": {"type": "float32", "shape": [-1, 5]},
}
SHARDS = 8
ROWS_PER_WRITE = 256  # many more than SHARDS, because MindRecord distributes the rows of each call over the shards
READ_AHEAD = 256  # maximum number of images in memory between the reader threads and the writer


def convert(
    train: DatasetSplit, val: DatasetSplit, out_path: Path, overwrite: bool, num_workers: int, decode: bool = False
) -> DatasetInfo:
    """Write a training and a validation split as MindRecord shards.

    This function writes out_path/train/coco0 …, out_path/val/coco0 …, the validation annotations in COCO format and
    dataset.json. All files are written to a temporary folder inside out_path and moved at the end, dataset.json last.

    train: training split
    val: validation split
    out_path: output folder
    overwrite: True replaces shards that already exist in out_path
    num_workers: number of threads that read images
    decode: True decodes every image, so that damaged pixels stop the conversion

    Returns the content of dataset.json.
    Raises UserError if the splits have different classes, an image cannot be converted, out_path cannot be written to,
    another process converts to out_path, out_path contains files of a previous conversion and overwrite is False, or
    files that create_data.py did not write would be replaced. The files in out_path are then unchanged.
    """
    # Load MindSpore here: not earlier, because it takes seconds in which create_data.py can check its input, and not in
    # the lock, because Ctrl-C during an import ends the process at once, and would leave files.
    import mindspore.mindrecord  # noqa: F401

    with lock_folder(out_path, "--out_path"):
        return _convert(train, val, out_path, overwrite=overwrite, num_workers=num_workers, decode=decode)


def _convert(
    train: DatasetSplit, val: DatasetSplit, out_path: Path, *, overwrite: bool, num_workers: int, decode: bool
) -> DatasetInfo:
    """Convert both splits, as `convert` explains, after out_path has been locked."""
    val = align_categories(train, val)
    require_usable_images(train, val)
    annotations = Path("annotations") / (val.annotation_path.name if val.coco_dict is None else VAL_ANNOTATIONS)
    check_target(
        out_path,
        annotations=annotations,
        digest=_digest(val),
        sources=[train.annotation_path, val.annotation_path],
        overwrite=overwrite,
    )
    try:
        with work_folder(out_path) as work:
            info = _write_dataset(train, val, work, annotations=annotations, num_workers=num_workers, decode=decode)
            _publish(work, out_path, annotations)
    except (OSError, RuntimeError) as error:  # MindSpore's writer raises RuntimeError if the disk is full
        raise UserError(
            f"{out_path}: the dataset cannot be written ({mindspore_reason(error)}). Check permissions and free disk "
            "space, or choose another --out_path."
        ) from None
    return info


def _publish(work: Path, out_path: Path, annotations: Path) -> None:
    """Move a complete dataset to out_path, and the files that it replaces to a subfolder of `work`.

    annotations: path of the validation annotations, relative to both folders; their folder may contain other files
    Raises OSError if a file cannot be moved. The files in out_path are then as before.
    """
    # dataset.json is removed first and written last, because it would not describe a mixture of two datasets:
    names = [Path(DATASET_INFO_NAME), Path("train"), Path("val")]
    present, old = out_path / annotations, work / "old"
    (old / annotations).parent.mkdir(parents=True)
    if not present.is_file() or sha256(present) != sha256(work / annotations):  # an equal file may be the user's own
        names.append(annotations if present.parent.exists() else annotations.parent)
    replaced = [(out_path / name, old / name) for name in names if (out_path / name).exists()]
    move_all([*replaced, *((work / name, out_path / name) for name in reversed(names))])


def _write_dataset(
    train: DatasetSplit, val: DatasetSplit, folder: Path, annotations: Path, num_workers: int, decode: bool
) -> DatasetInfo:
    """Write the shards of both splits, the validation annotations and dataset.json to a folder.

    annotations: path of the validation annotations to write, relative to the folder
    num_workers: number of threads that read images
    decode: True decodes every image

    Returns the content of dataset.json. Raises UserError if an image cannot be converted, or no training boxes remain.
    """
    train_info = _write_split(train, folder / "train", num_workers, decode=decode)
    if not train_info.boxes:
        crowds = count_noun(
            train_info.crowd_boxes, "crowd region or difficult object", "crowd regions or difficult objects"
        )
        thin = count_noun(train_info.dropped_boxes, "box", "boxes")
        raise UserError(
            f"{train.annotation_path}: no boxes remain for training: {crowds}, and {thin} thinner than "
            f"{MIN_BOX_SIDE:g} pixel inside the image. Check that boxes are in pixels of these images."
        )
    val_info = _write_split(val, folder / "val", num_workers, decode=decode)
    (folder / "annotations").mkdir()
    if val.coco_dict is None:
        shutil.copyfile(val.annotation_path, folder / annotations)
    else:
        (folder / annotations).write_bytes(encode_json(val.coco_dict))
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


def _write_split(split: DatasetSplit, folder: Path, num_workers: int, decode: bool) -> SplitInfo:
    """Write the shards of a split to a new folder, and return the statistics and shard sizes of the split.

    Raises UserError if an image cannot be converted.
    """
    from mindspore.mindrecord import FileWriter

    folder.mkdir()
    writer = FileWriter(str(folder / "coco"), shard_num=SHARDS)
    writer.add_schema(SCHEMA, "objects of COCO images")
    per_class = np.zeros(len(split.classes), dtype=np.int64)
    dropped_boxes = crowd_boxes = max_boxes = 0
    rows: list[dict] = []
    read = functools.partial(read_record, decode=decode)
    with Progress(len(split.images), folder.name, "images") as progress, ThreadPoolExecutor(num_workers) as pool:
        for record in prefetch(pool, read, split.images, ahead=READ_AHEAD):
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
    return hashlib.sha256(encode_json(split.coco_dict)).hexdigest()


def encode_json(content: dict) -> bytes:
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
    kind: kind of problem in the dataset report
    """

    def __init__(self, path: Path, reason: str, advice: str, kind: str = UNUSABLE_IMAGES):
        super().__init__(f"{path}: {reason}. {advice}")
        self.reason = f"{path}: {reason}"
        self.kind = kind


def read_record(image: AnnotatedImage, decode: bool = False) -> Record:
    """Read and check an image file, clip the boxes to the image and drop boxes thinner than MIN_BOX_SIDE.

    decode: True decodes the image, which finds damaged pixels

    Raises UnusableImageError if the file is unreadable, incomplete or damaged, or if its size differs from the
    annotated size.
    """
    advice = "Replace the image, or remove the image from the annotations."
    try:
        encoded = read_image_bytes(image.path)
        height, width = check_image(encoded)
        if decode:
            check_pixels(encoded)
    except OSError as error:
        reason = f"cannot be read ({os_reason(error)})"
        raise UnusableImageError(image.path, reason=reason, advice=advice) from None
    except DamagedPixelsError as error:
        advice = "Replace the image, remove the image from the annotations, or convert without --decode."
        raise UnusableImageError(image.path, reason=str(error), advice=advice, kind=DAMAGED_IMAGES) from None
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
