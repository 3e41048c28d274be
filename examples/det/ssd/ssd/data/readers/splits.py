"""Read the training and validation splits of a dataset folder in any of the supported formats."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from ...errors import UserError, count_noun
from ..image_formats import IMAGE_SUFFIXES
from .annotations import UNUSABLE_IMAGES, DatasetFolder, DatasetSplit, UncheckedSplit, align_categories, list_files
from .box_orientation import turn_annotations_upright
from .coco import parse_coco
from .coco_layouts import CocoFolder
from .usable_boxes import require_training_boxes
from .voc import VocFolder
from .yolo import YoloFolder

FORMATS: dict[str, Callable[..., DatasetFolder]] = {"coco": CocoFolder, "voc": VocFolder, "yolo": YoloFolder}

UNLISTED_IMAGES = "images in the image folders that belong to neither split"  # a kind of problem, like the next one
PASSED_OVER = "files in the image folders that were passed over, because their suffix is not that of an image"
# Suffixes of files that annotation tools and operating systems write beside images
_SIDE_SUFFIXES = frozenset(
    ".txt .xml .json .jsonl .yaml .yml .csv .tsv .md .rst .log .names .data .cache .npy .npz .db .ini "
    ".py .ipynb .sh .html .pdf .zip .tar .gz .tgz .7z .rar .pt .pth .onnx .ckpt".split()
)


def open_dataset_folder(
    annotation_format: str,
    path: Path,
    names_path: Path | None = None,
    *,
    image_dir: Path | None = None,
    follow_links: bool = False,
) -> DatasetFolder:
    """Create the annotation reader for a dataset folder.

    annotation_format: key of FORMATS
    path: folder of the images and annotations
    names_path: for the format "yolo": file of the class names; None searches the folder for this file
    image_dir: for the format "coco": folder of the images; None searches the folder of the annotations
    follow_links: True reads files outside these folders too, to which annotations or links lead
    Raises UserError if the folder does not have this format, or an option of another format is set.
    """
    path = Path(os.path.abspath(path))  # readers need the name and the parent of the folder, which "." lacks
    if image_dir is not None:
        if annotation_format != "coco":
            raise UserError(f"--image_dir: {image_dir} is used only with coco annotations. Remove the option.")
        return CocoFolder(path, Path(os.path.abspath(image_dir)), follow_links=follow_links)
    if names_path is None:
        return FORMATS[annotation_format](path, follow_links=follow_links)
    if annotation_format != "yolo":
        raise UserError(
            f"--names: {names_path} is not used, because {annotation_format} annotations contain the class names. "
            "Remove the option --names."
        )
    return YoloFolder(path, Path(os.path.abspath(names_path)), follow_links=follow_links)


def read_splits(
    folder: DatasetFolder,
    train_splits: list[str] | None = None,
    val_splits: list[str] | None = None,
    val_fraction: float | None = None,
    keep_empty: bool = True,
    boxes_in: str | None = None,
) -> tuple[DatasetSplit, DatasetSplit]:
    """Read the training and the validation split of a dataset folder, with the same classes.

    folder: annotation reader of the dataset folder
    train_splits: names of the training splits to merge; None selects the usual training split of the format
    val_splits: names of the validation splits to merge; None selects the usual validation split of the format
    val_fraction: fraction of the training images to hold out for validation, above 0 and below 1, instead of
        val_splits. If train_splits is None and no usual training split exists, all images of the folder are divided.
    keep_empty: False removes images without boxes from the training split, but never from the validation split
    boxes_in: "upright" or "stored", the pixels that boxes refer to if EXIF data rotate images; None decides by the
        boxes and stated image sizes

    Returns (training split, validation split), with boxes and sizes in pixels of upright images.
    Raises UserError if a split is missing, an annotation is invalid, no boxes remain for training, or the options
    contradict each other.
    """
    if val_fraction is not None:
        if val_splits is not None:
            raise UserError("--val_fraction: cannot be combined with --val_split. Remove one of the two options.")
        if not 0 < val_fraction < 1:
            raise UserError(
                f"--val_fraction: got {val_fraction:g}, which is not between 0 and 1 (both excluded). Choose a "
                "fraction such as 0.2."
            )
        names = train_splits or next(([name] for name in folder.train_splits if folder.has_split(name)), None)
        unchecked = turn_annotations_upright(folder.read({"all": names}), boxes_in)
        unchecked_train, unchecked_val = hold_out_validation(unchecked["all"], val_fraction)
    else:
        unchecked = folder.read(
            {
                "train": train_splits or _usual_split(folder, folder.train_splits),
                "val": val_splits or _usual_split(folder, folder.val_splits),
            }
        )
        unchecked = turn_annotations_upright(unchecked, boxes_in)
        unchecked_train, unchecked_val = unchecked["train"], unchecked["val"]
    train, val = _check(unchecked_train), _check(unchecked_val)
    require_training_boxes(train)
    val = align_categories(train, val)
    unlisted, passed_over = find_unlisted_files(train, val)
    for kind, paths in ((UNLISTED_IMAGES, unlisted), (PASSED_OVER, passed_over)):
        if paths:
            train = dataclasses.replace(train, problems={**train.problems, kind: paths})
    if not keep_empty:
        train = dataclasses.replace(train, images=[image for image in train.images if len(image.ground_truth)])
    return train, val


def hold_out_validation(split: UncheckedSplit, fraction: float) -> tuple[UncheckedSplit, UncheckedSplit]:
    """Divide a split into a training and a validation split.

    Images are sorted by the SHA-256 of their file names, and the first images are held out. The choice therefore does
    not depend on the order of the images, and changes little when images are added.

    fraction: fraction of the images to hold out for validation, above 0 and below 1

    Returns (training split, validation split).
    Raises UserError if the annotations are invalid, or one of the two splits would have no images.
    """
    checked = parse_coco(split)  # raises UserError if invalid
    # An image that fits two names is unknown, also if only one of the two names is in each part.
    unusable = [*split.problems.get(UNUSABLE_IMAGES, []), *checked.problems.get(UNUSABLE_IMAGES, [])]
    images = split.coco_dict["images"]
    count = round(len(images) * fraction)
    if not 0 < count < len(images):
        raise UserError(
            f"--val_fraction: {fraction:g} of {count_noun(len(images), 'image')} results in "
            f"{count_noun(count, 'validation image')} and {count_noun(len(images) - count, 'training image')}. Choose "
            "a fraction that results in at least 1 image for each split."
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
        if unusable and not is_val:
            problems = {**problems, UNUSABLE_IMAGES: list(dict.fromkeys(unusable))}
        parts.append(
            UncheckedSplit(
                coco_dict,
                split.annotation_path,
                split.image_dir,
                problems=problems,
                data_folders=split.data_folders,
            )
        )
    return parts[0], parts[1]


def find_unlisted_files(train: DatasetSplit, val: DatasetSplit) -> tuple[list[str], list[str]]:
    """Find files that lie in the image folders of the two splits, but belong to neither split.

    Returns
        paths of images: they belong to a third split, or have no annotations
        paths of other files that are neither annotations nor text: they may be images of formats that are not read
    """
    listed = {os.path.normpath(image.path) for image in (*train.images, *val.images)}
    images: list[str] = []
    others: list[str] = []
    for folder in sorted({os.path.dirname(path) for path in listed}):
        for name in sorted(list_files(Path(folder))):
            path, suffix = os.path.join(folder, name), Path(name).suffix.lower()
            if path not in listed and suffix not in _SIDE_SUFFIXES:
                (images if suffix in IMAGE_SUFFIXES else others).append(path)
    return images, others


def find_repeated_images(train: DatasetSplit, val: DatasetSplit) -> list[str]:
    """Return the paths of images that occur more than once in the two splits.

    If an image is in both splits, the validation mAP is too high.
    """
    counts = collections.Counter(os.path.normpath(image.path) for image in (*train.images, *val.images))
    return [path for path, count in counts.items() if count > 1]


def _usual_split(folder: DatasetFolder, names: tuple[str, ...]) -> list[str]:
    """Return the first split name that exists in the folder, as a list with one name.

    If no split exists, return the first name, so that reading this split reports the missing path.

    names: the usual names of a split, in order of preference
    """
    return [next((name for name in names if folder.has_split(name)), names[0])]


def _check(unchecked: UncheckedSplit) -> DatasetSplit:
    """Check the annotations of a split, and append the problems found to the problems that the reader found.

    Raises UserError if the image folder is missing, or a category, an image entry or a box is invalid.
    """
    split = parse_coco(unchecked)
    # Both the reader and parse_coco report a missing image, with the same text.
    new_problems = {
        kind: list(dict.fromkeys([*unchecked.problems.get(kind, []), *texts])) for kind, texts in split.problems.items()
    }
    coco_dict = None if unchecked.is_coco_file else unchecked.coco_dict
    return dataclasses.replace(split, coco_dict=coco_dict, problems={**unchecked.problems, **new_problems})
