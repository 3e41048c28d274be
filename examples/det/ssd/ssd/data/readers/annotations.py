"""Data types that every annotation reader returns, and helpers for reading annotation files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from ...errors import UserError, os_reason

# Kinds of problems. Unusable images stop a conversion.
UNUSABLE_IMAGES = "images that cannot be converted"
EMPTY_BOXES = "boxes without width or height, which are left out"


@dataclasses.dataclass(frozen=True)
class AnnotatedImage:
    """One image and its ground truth.

    image_id: id in the COCO annotations
    path: image file
    size: (height, width) in pixels as annotated; None if the annotations do not state it
    ground_truth: (M, 5) float64, boxes_yxyx in pixels as annotated, then the class index >= 1; without crowd regions
    crowd_boxes: number of crowd regions
    """

    image_id: int
    path: Path
    size: tuple[int, int] | None
    ground_truth: np.ndarray
    crowd_boxes: int


@dataclasses.dataclass(frozen=True)
class DatasetSplit:
    """A training or validation split whose annotations have been checked.

    annotation_path: annotation file, or the folder that was read if the split has no single COCO file
    classes: class names, background first
    category_ids: COCO category ids in the order of classes[1:]
    images: images with their ground truth
    coco_dict: annotations as a COCO JSON object; None if annotation_path is a file with the same content
    problems: {kind of problem: one text for each occurrence}
    """

    annotation_path: Path
    classes: list[str]
    category_ids: list[int]
    images: list[AnnotatedImage]
    coco_dict: dict | None = None
    problems: dict[str, list[str]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class UncheckedSplit:
    """The annotations of one split, converted to COCO format but not yet checked.

    coco_dict: annotations as a COCO JSON object
    annotation_path: file or folder that they were read from
    image_dir: folder that `file_name` of each image is relative to
    problems: {kind of problem: one text for each box that was left out or each assumption that was made}
    is_coco_file: True if annotation_path is a COCO file with exactly this content
    """

    coco_dict: dict
    annotation_path: Path
    image_dir: Path
    problems: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    is_coco_file: bool = False


def read_text_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 text file. Raises UserError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"{path}: {os_reason(error)}. Check that the text file exists and is readable.") from None
    except ValueError as error:
        raise UserError(f"{path}: not UTF-8 text ({error}). Save the file as UTF-8.") from None


def find_path_ignoring_case(folder: Path, relative: str) -> Path | None:
    """Return folder/relative, else the first path that differs from it only in the case of letters, else None."""
    if (folder / relative).exists():
        return folder / relative
    for part in Path(relative).parts:
        entries = sorted(folder.iterdir()) if folder.is_dir() else []
        found = next((path for path in entries if path.name.lower() == part.lower()), None)
        if found is None:
            return None
        folder = found
    return folder


def load_coco_json(annotation_path: Path) -> dict:
    """Return the content of a COCO annotation file, unchecked. Raises UserError if it is missing or not JSON."""
    if not annotation_path.is_file():
        raise UserError(f"{annotation_path}: COCO annotation file not found. Check --data_path.")
    try:
        return json.loads(annotation_path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{annotation_path}: {os_reason(error)}. Check that the file is readable.") from None
    except ValueError as error:
        raise UserError(f"{annotation_path}: not valid JSON ({error}). Correct the file.") from None


def align_categories(train: DatasetSplit, val: DatasetSplit) -> DatasetSplit:
    """Return the validation split with the categories and class indices of the training split.

    The validation annotations may list a subset of the training categories, because some tools write only the
    categories that occur. Raises UserError if they list any other category.
    """
    train_names, val_names = (dict(zip(split.category_ids, split.classes[1:])) for split in (train, val))
    if train_names == val_names:
        return val
    if not val_names.items() <= train_names.items():
        raise UserError(
            f"{val.annotation_path}: the categories {val_names} are not a subset of the categories {train_names} in "
            f"{train.annotation_path.name}. Use the same ids and names in both."
        )
    new_labels = np.array([0, *(train.category_ids.index(category_id) + 1 for category_id in val.category_ids)])
    coco_dict = val.coco_dict or load_coco_json(val.annotation_path)
    added = [{"id": key, "name": name} for key, name in train_names.items() if key not in val_names]
    return dataclasses.replace(
        val,
        classes=train.classes,
        category_ids=train.category_ids,
        images=[_relabel(image, new_labels) for image in val.images],
        coco_dict={**coco_dict, "categories": [*coco_dict["categories"], *added]},
    )


def _relabel(image: AnnotatedImage, new_labels: np.ndarray) -> AnnotatedImage:
    """Return a copy of an image with new class indices. new_labels: (K,) int, new class index by old class index"""
    ground_truth = image.ground_truth.copy()
    ground_truth[:, 4] = new_labels[ground_truth[:, 4].astype(np.int64)]
    return dataclasses.replace(image, ground_truth=ground_truth)
