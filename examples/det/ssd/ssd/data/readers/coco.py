"""COCO annotation files to records, refused by name where they cannot be right."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import numpy as np

from ...boxes.ops import xywh_to_yxyx
from ...errors import UserError
from .annotations import BROKEN, CocoImage, CocoSplit, load_coco

NUMBERS = {int, float}  # and not bool, which Python counts as a whole number


def read_coco(annotation_path: Path, image_dir: Path) -> CocoSplit:
    """Read an annotation file and check it against itself and against the folder of images.

    Classes are the file's categories in the order of their ids, which for COCO is the published order.
    Raises UserError: a missing folder or file, a category, image or box that is impossible, an image that is not there.
    """
    split = parse_coco(load_coco(annotation_path), annotation_path, image_dir)
    refuse_broken(split)
    return split


def refuse_broken(*splits: CocoSplit) -> None:
    """Raise UserError if reading found images that are missing, or none."""
    found = {text: split.annotation_path for split in splits for text in split.problems.get(BROKEN, [])}
    if found:
        first, annotation_path = next(iter(found.items()))
        more = f" and {len(found) - 1} more like it" if len(found) > 1 else ""
        raise UserError(f"{first}{more}, expected the images of {annotation_path}; add, mend or remove them")


def parse_coco(content: dict, annotation_path: Path, image_dir: Path) -> CocoSplit:
    """What COCO-form annotations say, checked. annotation_path: where they are from. Raises UserError as read_coco, but
    for images that are not there, which are among the problems of kind BROKEN."""
    if not image_dir.is_dir():
        raise UserError(
            f"{image_dir}: got no such folder, expected the images of {annotation_path.name}; check --data_path"
        )
    try:
        return _parse(content, annotation_path, image_dir)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        what = f"no key {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{annotation_path}: got {what}, expected COCO's object detection format; mend the file"
        ) from None


def _parse(content: dict, path: Path, image_dir: Path) -> CocoSplit:
    categories = sorted(content["categories"], key=lambda category: category["id"])
    names = [category["name"] for category in categories]
    category_ids = [category["id"] for category in categories]
    if not all(isinstance(category_id, int) for category_id in category_ids):
        raise UserError(f"{path}: got category ids {category_ids}, expected whole numbers; mend the file")
    for category_id, name in zip(category_ids, names):
        if not isinstance(name, str):
            raise UserError(f"{path}: category {category_id}: got name {name!r}, expected text; mend the file")
    for what, values in (("category id", category_ids), ("category name", names)):
        twice = _first_repeated(values)
        if twice is not None:
            raise UserError(f"{path}: got {what} {twice!r} twice, expected it once; mend the file")
    if not names:
        raise UserError(f"{path}: got no categories, expected at least one; mend the file")
    class_of = {category_id: index for index, category_id in enumerate(category_ids, start=1)}

    index_of = _index_images(content["images"], path)
    objects, crowds = _parse_objects(content["annotations"], path, index_of, class_of)

    if not index_of:
        raise UserError(f"{path}: got no images, expected at least one; mend the file")

    images, missing = [], []
    in_folder = _names_in(image_dir)
    for image, rows, crowd_boxes in zip(content["images"], objects, crowds):
        image_path = image_dir / image["file_name"]
        if image["file_name"] not in in_folder and not image_path.is_file():
            missing.append(f"{image_path}: got no such file or directory")
        size = (image["height"], image["width"]) if image.get("height") and image.get("width") else None
        images.append(CocoImage(image["id"], image_path, size, rows, crowd_boxes))
    problems = {BROKEN: missing} if missing else {}
    return CocoSplit(path, ["background", *names], category_ids, images, problems=problems)


def _index_images(images: list[dict], path: Path) -> dict[int, int]:
    """{image id: index}. Raises UserError."""
    index_of: dict[int, int] = {}
    for image in images:
        where = f"{path}: image {image['file_name']}"
        if not isinstance(image["id"], int) or abs(image["id"]) >= 2**63:
            raise UserError(f"{where}: got id {image['id']!r}, expected a whole number; mend the file")
        for side in ("height", "width"):
            if image.get(side) is not None and type(image[side]) not in NUMBERS:
                raise UserError(f"{where}: got {side} {image[side]!r}, expected a number; mend the file")
        if image["id"] in index_of:
            raise UserError(f"{path}: got image id {image['id']} twice, expected it once; mend the file")
        index_of[image["id"]] = len(index_of)
    return index_of


def _parse_objects(
    annotations: list[dict], path: Path, index_of: dict[int, int], class_of: dict[int, int]
) -> tuple[list[np.ndarray], list[int]]:
    """index_of: {image id: index}; class_of: {category id: class} -> for each image its objects (M, 5) and how many
    crowd regions it has. Raises UserError."""
    crowds = [0] * len(index_of)
    kept, where, classes = [], [], []
    for annotation in annotations:
        index, class_index = index_of.get(annotation["image_id"]), class_of.get(annotation["category_id"])
        if index is None:
            raise UserError(
                f"{path}: annotation {annotation.get('id')}: got image_id {annotation['image_id']!r}, expected the id "
                "of an image in the file; mend the file"
            )
        if class_index is None:
            raise UserError(
                f"{path}: annotation {annotation.get('id')}: got category_id {annotation['category_id']!r}, expected "
                f"one of {list(class_of)}; mend the file"
            )
        if annotation.get("iscrowd", 0):
            crowds[index] += 1
            continue
        box = annotation.get("bbox")
        if not (isinstance(box, list) and len(box) == 4 and NUMBERS.issuperset(map(type, box))):
            _refuse_box(annotation, path)
        kept.append(annotation)
        where.append(index)
        classes.append(class_index)
    boxes = np.array([annotation["bbox"] for annotation in kept], dtype=np.float64).reshape(-1, 4)
    for row in np.flatnonzero(~(np.abs(boxes) < 1e9).all(axis=1)):  # not a number, or beyond any image
        _refuse_box(kept[row], path)
    # One array for all, dealt out in the order of the images: a small array for each object takes ten times as long.
    rows = np.concatenate([xywh_to_yxyx(boxes), np.array(classes, dtype=np.float64)[:, None]], axis=1)
    order = np.argsort(where, kind="stable")
    ends = np.cumsum(np.bincount(np.array(where, dtype=np.int64), minlength=len(index_of)))
    return np.split(rows[order], ends[:-1]), crowds


def _refuse_box(annotation: dict, path: Path) -> NoReturn:
    raise UserError(
        f"{path}: annotation {annotation.get('id')}: got bbox {annotation.get('bbox')}, expected four finite numbers "
        "x, y, width, height; mend the file"
    )


def _names_in(folder: Path) -> set[str]:
    """Names of the files in a folder, which one look tells sooner than a look for each."""
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_file()}


def _first_repeated(values: list):
    seen = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None
