"""Data types that all annotation readers return, and functions that read annotation files."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Protocol

import numpy as np

from ...errors import UserError, os_reason
from ...runtime.heartbeat import activity
from ...runtime.read_json import read_json
from ..images import ImageProbe
from .data_folders import DataFolders
from .other_tools import recognize_text

Problems = dict[str, list[str]]  # {kind of problem: one text per occurrence}

# Kinds of problems in the dataset report. UNUSABLE_IMAGES also stop a conversion.
UNUSABLE_IMAGES = "images that cannot be converted"
FOUND_ELSEWHERE = "images found at another path than the annotations state"
DAMAGED_IMAGES = "images with damaged pixels, at which only a conversion with --decode stops"
EMPTY_BOXES = "boxes whose width or height is zero, which are left out"
OUTSIDE_BOXES = "boxes outside their image, which are left out"

MAX_BOXES = 50_000  # of an image; their evaluation takes 4 minutes for each image
MIN_BOX_SIDE = 1.0  # pixels after clipping; thinner boxes cannot be localized and have unbounded regression targets


@dataclasses.dataclass(frozen=True)
class AnnotatedImage:
    """An image file with its ground-truth boxes.

    image_id: image id in the COCO annotations
    path: path of the image file
    size: (height, width) of the upright image in pixels; None if the annotations do not state the size
    ground_truth: (M, 5) float64, boxes_yxyx in pixels of the upright image, not clipped, and class index 1..K-1;
        without crowd regions
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

    annotation_path: path of the annotation file, or of the dataset folder if the split has no single COCO file
    classes: class names in the order of the class index, background first
    category_ids: COCO category ids in the order of classes[1:]
    images: images with their ground-truth boxes
    coco_dict: annotations as a COCO JSON object; None if the file at annotation_path has the same content
    problems: {kind of problem: one text per occurrence}
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
    annotation_path: path of the file or folder that the annotations were read from
    image_dir: folder of the images; the key `file_name` of each image is a path relative to this folder
    problems: {kind of problem: one text for each box that was left out or each assumption that was made}
    is_coco_file: True if annotation_path is a COCO file with exactly the content of coco_dict
    probes: sizes and orientations of the images, in the order of coco_dict["images"]; None if they were not read
    data_folders: folders that the images must lie in; None allows images anywhere
    boxes_were_fractions: True if the annotations give boxes as fractions of the image size. The boxes in coco_dict are
        then the products of these fractions and the size of the upright image.
    """

    coco_dict: dict
    annotation_path: Path
    image_dir: Path
    problems: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    is_coco_file: bool = False
    probes: list[ImageProbe] | None = None
    data_folders: DataFolders | None = None
    boxes_were_fractions: bool = False


class DatasetFolder(Protocol):
    """Interface of the annotation readers: a folder of annotated images in one annotation format.

    path: absolute path of the folder
    train_splits: usual names of the training split, in order of preference
    val_splits: usual names of the validation split, in order of preference
    """

    path: Path
    train_splits: tuple[str, ...]
    val_splits: tuple[str, ...]

    def has_split(self, split: str) -> bool:
        """Return True if the folder has a split of this name."""

    def read(self, requested: dict[str, list[str] | None]) -> dict[str, UncheckedSplit]:
        """Read splits, and merge the splits that are listed under the same key, for example "train" or "val".

        requested: {key: names of the splits to merge}; None instead of names selects all images of the folder
        Returns {key: merged split}. Image ids are unique within a merged split.
        Raises UserError if a split is missing, or an annotation file is invalid.
        """


def read_text_lines(path: Path) -> list[str]:
    """Return the lines of a text file. Raises UserError if the file cannot be read or is not UTF-8 text."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({os_reason(error)}). Check the path and the permissions.") from None
    except ValueError as error:
        raise UserError(f"{path}: the file is not UTF-8 text ({error}). Save the file as UTF-8.") from None


def check_box_count(num_boxes: int, place: str) -> None:
    """Raise UserError if an image has more than MAX_BOXES boxes. place: file, and image if it has several"""
    if num_boxes > MAX_BOXES:
        raise UserError(
            f"{place}: {num_boxes:,} boxes are in one image, but at most {MAX_BOXES:,} can be evaluated in acceptable "
            "time. Remove boxes, or cut the image into parts."
        )


def list_files(folder: Path) -> list[str]:
    """Return the names of the files in a folder, without hidden files such as `._NAME`, which macOS creates.

    Returns an empty list if there is no such folder. Raises UserError if the folder cannot be read.
    """
    if not os.path.isdir(folder):  # Path.is_dir raises OSError for names that no folder can have
        return []
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if not entry.name.startswith(".") and is_file(entry)]
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({os_reason(error)}). Check the permissions.") from None


def is_file(entry: os.DirEntry) -> bool:
    """Return whether an entry of os.scandir is a file. DirEntry.is_file raises OSError for a link to itself."""
    return os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file()


def find_path_ignoring_case(folder: Path, relative: str) -> Path | None:
    """Return the existing path folder/relative, ignoring upper and lower case if necessary.

    An exact match has priority. Returns None if no path matches.
    """
    if os.path.exists(folder / relative):  # Path.exists raises OSError for names that no file can have
        return folder / relative
    for part in Path(relative).parts:
        entries = sorted(folder.iterdir()) if os.path.isdir(folder) else []
        found = next((path for path in entries if path.name.lower() == part.lower()), None)
        if found is None:
            return None
        folder = found
    return folder


@activity("reading the annotations")
def load_coco_json(annotation_path: Path) -> dict:
    """Load a COCO annotation file without checking the content.

    Raises UserError if the file is missing, unreadable or not valid JSON.
    """
    if not annotation_path.is_file():
        raise UserError(f"{annotation_path}: the COCO annotation file does not exist. Check --data_path.")
    try:
        return read_json(annotation_path)
    except OSError as error:
        raise UserError(f"{annotation_path}: cannot be read ({os_reason(error)}). Check the permissions.") from None
    except UserError:  # the file needs too much memory
        raise
    except ValueError as error:
        with open(annotation_path, "rb") as file:
            known = recognize_text(file.read(1000).decode(errors="replace"))
        advice = known or f"the file is not valid JSON ({error}). Correct the file."
        raise UserError(f"{annotation_path}: {advice}") from None


def is_plain_utf8(path: Path) -> bool:
    """Return whether a JSON file is UTF-8 without a byte order mark, the only encoding that pycocotools reads."""
    with path.open("rb") as file:
        return json.detect_encoding(file.read(4)) == "utf-8"


def align_categories(train: DatasetSplit, val: DatasetSplit) -> DatasetSplit:
    """Return the validation split with the categories and class indices of the training split.

    The validation annotations may list a subset of the training categories, because some tools write only the
    categories that occur. Raises UserError if a validation category is not a training category.
    """
    train_names, val_names = (dict(zip(split.category_ids, split.classes[1:])) for split in (train, val))
    if train_names == val_names:
        return val
    if not val_names.items() <= train_names.items():
        raise UserError(
            f"{val.annotation_path}: the categories {val_names} are not a subset of the categories {train_names} in "
            f"{train.annotation_path.name}. Use the same ids and names in both files."
        )
    label_of = {category_id: label for label, category_id in enumerate(train.category_ids, start=1)}
    new_labels = np.array([0, *map(label_of.__getitem__, val.category_ids)])
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
    """Return a copy of an image with new class indices.

    new_labels: (K,) int, new class index for each old class index
    """
    ground_truth = image.ground_truth.copy()
    ground_truth[:, 4] = new_labels[ground_truth[:, 4].astype(np.int64)]
    return dataclasses.replace(image, ground_truth=ground_truth)
