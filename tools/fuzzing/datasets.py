"""Targets of converted datasets: dataset.json, and the rows of MindRecord shards."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from ssd.config.sections import Augment
from ssd.data import dataset_info
from ssd.data.batches import EvalBatchTransform, TrainBatchTransform
from ssd.data.conversion_target import check_target

from .target import Reader

DTYPES = ("<f4", "<f8", "<i4", "<i8", "<u2", "|b1")
ROW_HEADER = 4  # bytes: types of the id and of the annotation, rows, and columns of the annotation


def dataset_json(folder: Path) -> Reader:
    """Return a reader of dataset.json, which also calls the functions that use the content."""
    (folder / "train").mkdir()
    (folder / "train/coco0").write_bytes(b"x")

    def read(data: bytes) -> None:
        path = folder / dataset_info.DATASET_INFO_NAME
        path.write_bytes(data)
        check_target(folder, annotations=Path("annotations/x.json"), digest="", sources=[folder], overwrite=True)
        info = dataset_info.read_dataset_info(path)
        json.dumps([dataset_info.dataset_fingerprint(folder), dataset_info.split_fingerprint(folder, "train")])
        dataset_info.read_category_ids(folder, num_classes=3)
        [name.encode() for name in info.classes]
        for split in ("train", "val"):
            dataset_info.check_files(info, folder, split)

    return read


def mindrecord_rows(folder: Path) -> Reader:
    """Return a reader of one MindRecord row, in training and in evaluation.

    An input is a header of ROW_HEADER bytes, the image id, the annotation, and the image file.
    """
    options = Augment().model_dump()
    transforms = [
        TrainBatchTransform(
            image_size=(16, 16), max_boxes=3, seed=0, num_classes=3, upright=True, **{**options, "zoom_out_prob": 0.5}
        ),
        TrainBatchTransform(
            image_size=(16, 16), max_boxes=3, seed=0, num_classes=3, upright=False, **{**options, "scale_jitter": 0.5}
        ),
    ]
    evaluation = EvalBatchTransform((16, 16), upright=True)
    batch = SimpleNamespace(get_epoch_num=lambda: 1)

    def read(data: bytes) -> None:
        img_id, annotation, image = split_row(data)
        evaluation([img_id], [image], batch)
        for transform in transforms:
            images, boxes, labels = transform([img_id], [image], [annotation], batch_info=batch)
            assert ((boxes >= 0) & (boxes <= 1)).all() and ((labels >= 0) & (labels < 3)).all()
            assert (boxes[..., 2:] >= boxes[..., :2]).all() and not boxes[labels == 0].any()

    return read


def split_row(data: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split an input into the columns img_id, annotation and image of a row."""
    header, rest = data[:ROW_HEADER].ljust(ROW_HEADER, b"\0"), data[ROW_HEADER:]
    id_type, annotation_type = (np.dtype(DTYPES[byte % len(DTYPES)]) for byte in header[:2])
    shape = (header[2] % 6, header[3] % 7)
    ids, rest = rest[: id_type.itemsize], rest[id_type.itemsize :]
    size = annotation_type.itemsize * shape[0] * shape[1]
    annotation = np.frombuffer(rest[:size].ljust(size, b"\0"), annotation_type).reshape(shape)
    img_id = np.frombuffer(ids.ljust(id_type.itemsize, b"\0"), id_type)
    return img_id, annotation, np.frombuffer(rest[size:], np.uint8)
