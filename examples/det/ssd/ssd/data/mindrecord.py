"""MindRecord shards: their schema, how they are written, and how a finished set is told from an unfinished one.

A record is `img_id` (1,) int64, `image` the encoded file, `annotation` (max(M, 1), 5) float32: boxes_yxyx in pixels and
the class index. MindRecord cannot hold (0, 5), so an image without objects has one row of zeros: class 0, which is
padding. MindCV's example has the same columns with int32 ids and rounded int32 boxes, and can be read as well.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from mindspore.mindrecord import FileWriter

from ..boxes.ops import clip_boxes
from ..errors import UserError
from ..runtime.progress import Progress
from .dataset_info import DATASET_INFO_NAME, DatasetInfo, SplitInfo, sha256
from .images import check_image
from .readers.annotations import CocoImage, CocoSplit, match_categories
from .readers.coco import refuse_broken

SCHEMA = {
    "img_id": {"type": "int64", "shape": [1]},
    "image": {"type": "bytes"},
    "annotation": {"type": "float32", "shape": [-1, 5]},
}
SHARDS = 8
VAL_ANNOTATIONS = "instances_val.json"  # of a split that has no annotation file of its own
# MindRecord deals the rows of one call out over the shards, so a call must be much more than SHARDS.
ROWS_PER_WRITE = 256
READ_AHEAD = 256  # images in flight between the readers and the writer


def convert(train: CocoSplit, val: CocoSplit, out_path: Path, overwrite: bool, num_workers: int) -> DatasetInfo:
    """Write out_path/{train,val}/coco0 …, the validation annotations in COCO's form and dataset.json, all or nothing.

    Everything is made in a folder aside and moved in place at the end, dataset.json last. Raises UserError.
    """
    val = match_categories(train, val)
    refuse_broken(train, val)
    _refuse_foreign(out_path)
    annotations = Path("annotations") / (val.annotation_path.name if val.content is None else VAL_ANNOTATIONS)
    existing = [out_path / name for name in (DATASET_INFO_NAME, "train", "val") if (out_path / name).exists()]
    if (out_path / annotations).is_file() and sha256(out_path / annotations) != _digest(val):
        existing.append(out_path / annotations)
    if existing and not overwrite:
        raise UserError(
            f"{existing[0]}: got a file that is already there, expected a new --out_path; "
            "choose another or add --overwrite"
        )
    _refuse_losing(out_path, annotations if out_path / annotations in existing else None, train, val)
    with _work_folder(out_path) as work:
        train_info = _write_split(train, work / "train", num_workers)
        if not train_info.boxes:
            raise UserError(f"{train.annotation_path}: got no boxes to train on, expected at least one; mend the file")
        val_info = _write_split(val, work / "val", num_workers)
        (work / "annotations").mkdir()
        if val.content is None:
            shutil.copyfile(val.annotation_path, work / annotations)
        else:
            (work / annotations).write_bytes(_encode(val.content))
        info = DatasetInfo(train.classes, train.category_ids, annotations.as_posix(), train_info, val_info)
        info.write(work / DATASET_INFO_NAME)
        (out_path / DATASET_INFO_NAME).unlink(
            missing_ok=True
        )  # from here on the old set no longer passes for a finished one
        for split in ("train", "val"):
            shutil.rmtree(out_path / split, ignore_errors=True)
            (work / split).rename(out_path / split)
        (out_path / "annotations").mkdir(exist_ok=True)
        (work / annotations).replace(out_path / annotations)
        (work / DATASET_INFO_NAME).rename(out_path / DATASET_INFO_NAME)
    return info


def _refuse_foreign(out_path: Path) -> None:
    """--overwrite replaces out_path/train and out_path/val whole, so they may hold nothing but shards."""
    for folder in (out_path / "train", out_path / "val"):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder}: got a file, expected a folder of shards or nothing; choose another --out_path")
        for path in folder.iterdir() if folder.is_dir() else ():
            if not re.fullmatch(r"coco\d*(\.db)?", path.name):
                raise UserError(
                    f"{path}: got a file that is no shard, expected {folder} free for shards; choose another --out_path"
                )


def _refuse_losing(out_path: Path, annotations: Path | None, train: CocoSplit, val: CocoSplit) -> None:
    """--overwrite replaces dataset.json, and annotations that are others now, so they may be none of the user's.
    annotations: below out_path, None if none are replaced. Raises UserError."""
    try:
        old = json.loads((out_path / DATASET_INFO_NAME).read_text(encoding="utf-8"))
        is_foreign = not isinstance(old, dict) or "format" not in old
    except (OSError, ValueError):
        old, is_foreign = {}, False
    if is_foreign:
        raise UserError(
            f"{out_path / DATASET_INFO_NAME}: got a file that create_data.py did not write, expected its own or none; choose "
            "another --out_path"
        )
    if annotations is None:
        return
    # An older conversion to the folder of the data itself has left the user's own file in its place.
    is_source = any(split.annotation_path.resolve().is_relative_to(out_path.resolve()) for split in (train, val))
    old_val = old.get("val")
    was_copied = isinstance(old_val, dict) and old_val.get("source") == annotations.name
    if old.get("annotations") != annotations.as_posix() or (is_source and was_copied):
        raise UserError(
            f"{out_path / annotations}: got annotations that create_data.py did not write, expected its own or none; "
            "choose another --out_path"
        )


@contextlib.contextmanager
def _work_folder(out_path: Path) -> Iterator[Path]:
    """A folder on the same disk as out_path, gone afterwards; so is out_path, if it was made here and stayed empty."""
    made = [folder for folder in (out_path, *out_path.parents) if not folder.exists()]
    try:
        out_path.mkdir(parents=True, exist_ok=True)
        for killed in out_path.glob(".unfinished-*"):  # what a run left that could not clean up after itself
            shutil.rmtree(killed, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=out_path))
    except OSError as error:
        raise UserError(
            f"{out_path}: got {error.strerror.lower()}, expected a folder to write to; choose another --out_path"
        ) from None
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        for folder in made:
            with contextlib.suppress(OSError):  # not empty: the set is there
                folder.rmdir()


def _write_split(split: CocoSplit, folder: Path, num_workers: int) -> SplitInfo:
    folder.mkdir()
    writer = FileWriter(str(folder / "coco"), shard_num=SHARDS)
    writer.add_schema(SCHEMA, "objects of COCO images")
    per_class = np.zeros(len(split.classes), dtype=np.int64)
    dropped = crowd = max_boxes = 0
    rows: list[dict] = []
    with Progress(len(split.images), folder.name, "images") as progress:
        for record in _read_records(split.images, num_workers):
            rows.append(_row(record))
            per_class += np.bincount(record.objects[:, 4].astype(np.int64), minlength=len(per_class))
            dropped, crowd = dropped + record.dropped_boxes, crowd + record.crowd_boxes
            max_boxes = max(max_boxes, len(record.objects))
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
        dropped_boxes=dropped,
        crowd_boxes=crowd,
        source=split.annotation_path.name,
        source_sha256=_digest(split),
        shards={f"{folder.name}/{path.name}": path.stat().st_size for path in sorted(folder.iterdir())},
    )


def _digest(split: CocoSplit) -> str:
    """SHA-256 of a split's annotation file, or of the one that is written for it."""
    if split.content is None:
        return sha256(split.annotation_path)
    return hashlib.sha256(_encode(split.content)).hexdigest()


def _encode(content: dict) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()


def _read_records(images: list[CocoImage], num_workers: int) -> Iterator[Record]:
    """Records in the order of `images`, read by threads that stay at most READ_AHEAD images ahead of the writer."""
    with ThreadPoolExecutor(num_workers) as pool:
        waiting: deque = deque()
        try:
            for image in images:
                waiting.append(pool.submit(read_record, image))
                if len(waiting) > READ_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _row(record: Record) -> dict:
    objects = record.objects if len(record.objects) else np.zeros((1, 5), dtype=np.float32)
    return {"img_id": np.array([record.image_id], dtype=np.int64), "image": record.image, "annotation": objects}


# Objects thinner than this after clipping, in pixels, cannot be localised and would have offsets without bound.
MIN_SIDE = 1.0


@dataclasses.dataclass(frozen=True)
class Record:
    """image: the file's bytes; objects: (M, 5) float32, boxes_yxyx in pixels inside the image, and class index >= 1."""

    image_id: int
    image: bytes
    objects: np.ndarray
    dropped_boxes: int
    crowd_boxes: int


def read_record(image: CocoImage) -> Record:
    """Read and check an image, clip its boxes to it and drop degenerate ones. Raises UserError that names the file."""
    try:
        encoded = image.path.read_bytes()
        height, width = check_image(encoded)
    except OSError as error:
        raise UserError(f"{image.path}: got {error.strerror.lower()}, expected an image; mend or remove it") from None
    except ValueError as error:
        raise UserError(
            f"{image.path}: got {error}, expected a whole image; mend it or remove it from the annotations"
        ) from None
    if image.size is not None and image.size != (height, width):
        raise UserError(
            f"{image.path}: got {width}x{height} stored pixels, expected {image.size[1]}x{image.size[0]} as annotated; "
            "mend the annotations, or save the image upright if it is rotated by EXIF"
        )
    boxes = clip_boxes(image.objects[:, :4], height, width)
    kept = (boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE).all(axis=1)
    objects = np.concatenate([boxes, image.objects[:, 4:]], axis=1)[kept].astype(np.float32)
    return Record(image.image_id, encoded, objects, int((~kept).sum()), image.crowd_boxes)
