"""Targets of the annotation readers: COCO, Pascal VOC, and YOLO's labels and settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ssd.data.readers.splits import open_dataset_folder, read_splits

from .target import Reader

NAMES = ("a", "b")  # images of each dataset, of which one is held out for validation


def coco(folder: Path) -> Reader:
    """Return a reader of one COCO annotation file, which also writes the validation split, and evaluates it."""
    _write_images(folder / "images")
    return _create_reader(folder / "annotations.json", "coco", folder)


def voc(folder: Path) -> Reader:
    """Return a reader of a Pascal VOC folder, of which one XML file has the given content."""
    _write_images(folder / "JPEGImages")
    (folder / "Annotations").mkdir()
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax></bndbox>"
    (folder / "Annotations/b.xml").write_text(f"<a><object><name>cat</name>{box}</object></a>")
    return _create_reader(folder / "Annotations/a.xml", "voc", folder)


def yolo_labels(folder: Path) -> Reader:
    """Return a reader of a YOLO folder, of which one label file has the given content."""
    _write_images(folder / "images")
    (folder / "labels").mkdir()
    (folder / "labels/b.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (folder / "data.yaml").write_text("names: [cat, dog]\n")
    return _create_reader(folder / "labels/a.txt", "yolo", folder)


def yolo_settings(folder: Path) -> Reader:
    """Return a reader of a YOLO folder, whose data.yaml has the given content."""
    _write_images(folder / "images")
    (folder / "labels").mkdir()
    for name in NAMES:
        (folder / f"labels/{name}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    return _create_reader(folder / "data.yaml", "yolo", folder)


def _create_reader(path: Path, annotation_format: str, folder: Path) -> Reader:
    """Return a function that writes its argument to a file of a dataset, and reads the dataset."""

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_dataset(annotation_format, folder)

    return read


def read_dataset(annotation_format: str, folder: Path) -> None:
    """Read a dataset as create_data.py does, and evaluate the validation split without detections."""
    from ssd.data.mindrecord import encode_json
    from ssd.evaluation.coco_metrics import CocoEvaluator

    _, val = read_splits(open_dataset_folder(annotation_format, folder), val_fraction=0.5)
    if val.coco_dict is not None:
        (folder.parent / "val.json").write_bytes(encode_json(val.coco_dict))
        CocoEvaluator(folder.parent / "val.json", val.classes).count_objects(("iscrowd",))


def _write_images(folder: Path) -> None:
    """Write NAMES as PNG images of 8x6 pixels."""
    folder.mkdir()
    for name in NAMES:
        Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(folder / f"{name}.png")
