"""Read a training and a validation split from a folder in COCO, Pascal VOC or YOLO format."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
from pathlib import Path

from ...errors import UserError, count_noun
from ..images import IMAGE_SUFFIXES
from .annotations import DatasetSplit, UncheckedSplit, align_categories
from .coco import parse_coco
from .coco_layouts import CocoFolder
from .voc import VocFolder
from .yolo import YoloFolder

DatasetFolder = CocoFolder | VocFolder | YoloFolder

UNLISTED_IMAGES = "images in the image folders that belong to neither split"  # a kind of problem


def open_dataset_folder(annotation_format: str, path: Path, names_path: Path | None = None) -> DatasetFolder:
    """Return a reader of the splits of a folder.

    annotation_format: coco, voc or yolo
    names_path: file of class names, for yolo only; None to search for it
    Raises UserError if the folder is not in this format, or names_path is given for another format than yolo.
    """
    path = Path(os.path.abspath(path))  # "." has no name and no parent; the readers use both
    if annotation_format == "yolo":
        return YoloFolder(path, names_path and Path(os.path.abspath(names_path)))
    if names_path is not None:
        raise UserError(
            f"--names: {names_path} is not used, because {annotation_format} annotations contain the class names. "
            "Remove the option."
        )
    return VocFolder(path) if annotation_format == "voc" else CocoFolder(path)


def read_splits(
    folder: DatasetFolder,
    train_splits: list[str] | None = None,
    val_splits: list[str] | None = None,
    val_fraction: float | None = None,
    keep_empty: bool = True,
) -> tuple[DatasetSplit, DatasetSplit]:
    """Return the training and the validation split of a folder, with the same classes.

    train_splits, val_splits: names of splits to merge; None for the usual name in the format of the folder
    val_fraction: share of the training split to hold out for validation, instead of val_splits. If neither
        train_splits nor the usual training split exists, it is a share of all images
    keep_empty: whether the training split keeps images without boxes; the validation split always does
    Raises UserError if a split is missing, an annotation is invalid, or the options contradict each other.
    """
    if val_fraction is not None:
        if val_splits is not None:
            raise UserError("--val_fraction: cannot be combined with --val_split. Remove one of them.")
        if not 0 < val_fraction < 1:
            raise UserError(
                f"--val_fraction: got {val_fraction:g}, expected a number greater than 0 and less than 1. Choose a "
                "share such as 0.2."
            )
        names = train_splits or next(([name] for name in folder.train_splits if folder.has_split(name)), None)
        unchecked_train, unchecked_val = hold_out_validation(folder.read({"all": names})["all"], val_fraction)
    else:
        unchecked = folder.read(
            {
                "train": train_splits or _usual_split(folder, folder.train_splits),
                "val": val_splits or _usual_split(folder, folder.val_splits),
            }
        )
        unchecked_train, unchecked_val = unchecked["train"], unchecked["val"]
    train, val = _check(unchecked_train), _check(unchecked_val)
    val = align_categories(train, val)
    unlisted = find_unlisted_images(train, val)
    if unlisted:
        train = dataclasses.replace(train, problems={**train.problems, UNLISTED_IMAGES: unlisted})
    if not keep_empty:
        train = dataclasses.replace(train, images=[image for image in train.images if len(image.ground_truth)])
    return train, val


def hold_out_validation(split: UncheckedSplit, fraction: float) -> tuple[UncheckedSplit, UncheckedSplit]:
    """Divide a split into training and validation.

    The hash of its file name decides about an image. So the choice does not depend on the order of the images, and
    hardly changes when images are added.
    fraction: share of the images to hold out for validation
    Raises UserError if the annotations are invalid, or one of the two splits would have no images.
    """
    parse_coco(split.coco_dict, split.annotation_path, split.image_dir)  # raises on content that cannot be divided
    images = split.coco_dict["images"]
    count = round(len(images) * fraction)
    if not 0 < count < len(images):
        raise UserError(
            f"--val_fraction: {fraction:g} of {count_noun(len(images), 'image')} leaves {count} for validation and "
            f"{len(images) - count} for training. Choose a share that leaves at least one image for each."
        )
    ranked = sorted(images, key=lambda image: hashlib.sha256(image["file_name"].encode()).digest())
    held_out_ids = {image["id"] for image in ranked[:count]}
    parts = []
    for is_val in (False, True):
        coco_dict = {
            **split.coco_dict,
            "images": [image for image in images if (image["id"] in held_out_ids) == is_val],
            "annotations": [
                annotation
                for annotation in split.coco_dict["annotations"]
                if (annotation["image_id"] in held_out_ids) == is_val
            ],
        }
        problems = {} if is_val else split.problems
        parts.append(UncheckedSplit(coco_dict, split.annotation_path, split.image_dir, problems=problems))
    return parts[0], parts[1]


def find_unlisted_images(train: DatasetSplit, val: DatasetSplit) -> list[str]:
    """Return the image files in the folders of both splits that belong to neither: of another split, or unannotated."""
    listed = {os.path.normpath(image.path) for image in (*train.images, *val.images)}
    unlisted = []
    for folder in sorted({os.path.dirname(path) for path in listed}):
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".")]
        image_names = sorted(name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES)
        unlisted += [path for path in (os.path.join(folder, name) for name in image_names) if path not in listed]
    return unlisted


def find_repeated_images(train: DatasetSplit, val: DatasetSplit) -> list[str]:
    """Return the image files that occur more than once: in both splits, which makes the mAP too high, or in one."""
    counts = collections.Counter(os.path.normpath(image.path) for image in (*train.images, *val.images))
    return [path for path, count in counts.items() if count > 1]


def _usual_split(folder: DatasetFolder, names: tuple[str, ...]) -> list[str]:
    """Return the first name that exists as a split. If none does, the first name, so that reading it reports the path.

    names: the usual names of a split, in order of preference
    """
    return [next((name for name in names if folder.has_split(name)), names[0])]


def _check(unchecked: UncheckedSplit) -> DatasetSplit:
    """Parse a split and merge the problems found before and while parsing. Raises UserError as parse_coco does."""
    split = parse_coco(unchecked.coco_dict, unchecked.annotation_path, unchecked.image_dir)
    new_problems = {kind: [*unchecked.problems.get(kind, []), *texts] for kind, texts in split.problems.items()}
    coco_dict = None if unchecked.is_coco_file else unchecked.coco_dict
    return dataclasses.replace(split, coco_dict=coco_dict, problems={**unchecked.problems, **new_problems})
