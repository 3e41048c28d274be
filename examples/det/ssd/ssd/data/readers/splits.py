"""Annotated images of any form as a training and a validation split."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
from pathlib import Path

from ...errors import UserError
from ..images import IMAGE_SUFFIXES
from .annotations import Annotations, CocoSplit, match_categories
from .coco import parse_coco
from .coco_layouts import CocoFolder
from .voc import VocFolder
from .yolo import YoloFolder

UNLISTED = "images beside the others that neither split has"


def open_folder(kind: str, path: Path, names_path: Path | None = None):
    """kind: coco, voc or yolo; names_path: of YOLO's class names -> a folder to read splits from. Raises UserError."""
    path = Path(os.path.abspath(path))  # so that it has a name, and the folder of each file as well
    if kind == "yolo":
        return YoloFolder(path, names_path and Path(os.path.abspath(names_path)))
    if names_path is not None:
        raise UserError(f"--names: got {names_path} for {kind}, whose annotations have names, expected none; remove it")
    return VocFolder(path) if kind == "voc" else CocoFolder(path)


def read_splits(
    folder,
    train_splits: list[str] | None = None,
    val_splits: list[str] | None = None,
    val_fraction: float | None = None,
    keep_empty: bool = True,
) -> tuple[CocoSplit, CocoSplit]:
    """Training and validation split of a folder, with equal classes. Raises UserError.

    folder: CocoFolder, VocFolder or YoloFolder; train_splits, val_splits: names, by default the form's usual ones
    val_fraction: take this share of the training split for validation instead; without train_splits, of all there is,
        unless the usual training split is there
    keep_empty: whether training keeps images without objects; validation always does
    """
    if val_fraction is not None:
        if val_splits is not None:
            raise UserError("--val_fraction: got --val_split as well, expected one of them; leave one out")
        if not 0 < val_fraction < 1:
            raise UserError(f"--val_fraction: got {val_fraction:g}, expected more than 0 and less than 1, as 0.2")
        usual = train_splits or next(([name] for name in folder.train_splits if folder.has(name)), None)
        train, val = hold_out(folder.read({"all": usual})["all"], val_fraction)
    else:
        found = folder.read(
            {
                "train": train_splits or _usual(folder, folder.train_splits),
                "val": val_splits or _usual(folder, folder.val_splits),
            }
        )
        train, val = found["train"], found["val"]
    train, val = _check(train), _check(val)
    splits = [train, match_categories(train, val)]
    unlisted = unlisted_images(*splits)
    if unlisted:
        splits[0] = dataclasses.replace(splits[0], problems={**splits[0].problems, UNLISTED: unlisted})
    if not keep_empty:
        kept = [image for image in splits[0].images if len(image.objects)]
        splits[0] = dataclasses.replace(splits[0], images=kept)
    return splits[0], splits[1]


def hold_out(whole: Annotations, fraction: float) -> tuple[Annotations, Annotations]:
    """All but a share of the images, and that share: the same ones whatever their order, and about the same ones when
    images are added, because the hash of its name decides about each. Raises UserError if either would be empty."""
    parse_coco(whole.content, whole.path, whole.image_dir)  # tells what is wrong before it is taken apart
    images = whole.content["images"]
    count = round(len(images) * fraction)
    if not 0 < count < len(images):
        raise UserError(
            f"--val_fraction: got {fraction:g} of {len(images)} images, which is {count}, expected at least one to "
            "train on and one to validate on; choose another share"
        )
    ranked = sorted(images, key=lambda image: hashlib.sha256(image["file_name"].encode()).digest())
    held = {image["id"] for image in ranked[:count]}
    parts = []
    for is_val in (False, True):
        content = {
            **whole.content,
            "images": [image for image in images if (image["id"] in held) == is_val],
            "annotations": [row for row in whole.content["annotations"] if (row["image_id"] in held) == is_val],
        }
        problems = {} if is_val else whole.problems
        parts.append(Annotations(content, whole.path, whole.image_dir, problems))
    return parts[0], parts[1]


def unlisted_images(train: CocoSplit, val: CocoSplit) -> list[str]:
    """Image files beside those of the splits that neither has: another split's, or never annotated."""
    listed = {os.path.normpath(image.path) for image in (*train.images, *val.images)}
    found = []
    for folder in sorted({os.path.dirname(path) for path in listed}):
        with os.scandir(folder) as entries:
            seen = [entry.name for entry in entries if not entry.name.startswith(".")]
        names = [name for name in seen if Path(name).suffix.lower() in IMAGE_SUFFIXES]
        found += [path for path in (os.path.join(folder, name) for name in sorted(names)) if path not in listed]
    return found


def shared_images(train: CocoSplit, val: CocoSplit) -> list[str]:
    """Files that both splits name, which makes figures of the validation too good."""
    counts = collections.Counter(os.path.normpath(image.path) for image in (*train.images, *val.images))
    return [path for path, count in counts.items() if count > 1]


def _usual(folder, names: tuple[str, ...]) -> list[str]:
    """The first of the usual names that the folder has; of the first, reading says what is missing."""
    return [next((name for name in names if folder.has(name)), names[0])]


def _check(part: Annotations) -> CocoSplit:
    split = parse_coco(part.content, part.path, part.image_dir)
    problems = {kind: [*part.problems.get(kind, []), *where] for kind, where in split.problems.items()}
    content = None if part.is_file else part.content
    return dataclasses.replace(split, content=content, problems={**part.problems, **problems})
