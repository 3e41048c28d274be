"""COCO annotation files to records, refused by name where they cannot be right."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from ..boxes.ops import xywh_to_yxyx
from ..errors import UserError


@dataclasses.dataclass(frozen=True)
class CocoImage:
    """One image. objects: (M, 5) float64, boxes_yxyx in pixels as annotated, and the class index; no crowd regions."""

    image_id: int
    path: Path
    size: tuple[int, int] | None  # (height, width) as annotated, None where the file does not say
    objects: np.ndarray
    crowd_boxes: int


@dataclasses.dataclass(frozen=True)
class CocoSplit:
    """One annotation file. classes: names, background first; category_ids: its ids in the order of classes[1:]."""

    annotation_path: Path
    classes: list[str]
    category_ids: list[int]
    images: list[CocoImage]


def read_coco(annotation_path: Path, image_dir: Path) -> CocoSplit:
    """Read an annotation file and check it against itself and against the folder of images.

    Classes are the file's categories in the order of their ids, which for COCO is the published order.
    Raises UserError: a missing folder or file, a category, image or box that is impossible, an image that is not there.
    """
    if not annotation_path.is_file():
        raise UserError(f"{annotation_path}: got no such file, expected COCO annotations; check --data_path")
    if not image_dir.is_dir():
        raise UserError(
            f"{image_dir}: got no such folder, expected the images of {annotation_path.name}; check --data_path"
        )
    try:
        content = json.loads(annotation_path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{annotation_path}: got {error.strerror.lower()}, expected COCO annotations; check the file"
        ) from None
    except ValueError as error:
        raise UserError(f"{annotation_path}: got {error}, expected JSON; mend the file") from None
    try:
        return _parse(content, annotation_path, image_dir)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
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
    for what, values in (("category id", category_ids), ("category name", names)):
        twice = _first_repeated(values)
        if twice is not None:
            raise UserError(f"{path}: got {what} {twice!r} twice, expected it once; mend the file")
    if not names:
        raise UserError(f"{path}: got no categories, expected at least one; mend the file")
    class_of = {category_id: index for index, category_id in enumerate(category_ids, start=1)}

    objects: dict[int, list] = {}
    crowds: dict[int, int] = {}
    for image in content["images"]:
        if not isinstance(image["id"], int) or abs(image["id"]) >= 2**63:
            raise UserError(
                f"{path}: image {image['file_name']}: got id {image['id']!r}, expected a whole number; mend the file"
            )
        if image["id"] in objects:
            raise UserError(f"{path}: got image id {image['id']} twice, expected it once; mend the file")
        objects[image["id"]], crowds[image["id"]] = [], 0
    for annotation in content["annotations"]:
        where = f"{path}: annotation {annotation.get('id')}"
        image_id = annotation["image_id"]
        if image_id not in objects:
            raise UserError(
                f"{where}: got image_id {image_id!r}, expected the id of an image in the file; mend the file"
            )
        if annotation["category_id"] not in class_of:
            raise UserError(
                f"{where}: got category_id {annotation['category_id']!r}, expected one of {category_ids}; mend the file"
            )
        if annotation.get("iscrowd", 0):
            crowds[image_id] += 1
            continue
        box = annotation.get("bbox")
        if not _is_box(box):
            raise UserError(f"{where}: got bbox {box}, expected four finite numbers x, y, width, height; mend the file")
        objects[image_id].append([*xywh_to_yxyx(np.array(box, dtype=np.float64)), class_of[annotation["category_id"]]])

    images = []
    for image in content["images"]:
        image_path = image_dir / image["file_name"]
        if not image_path.is_file():
            raise UserError(
                f"{image_path}: got no such file, expected the image {image['id']} of {path}; "
                "add it or mend the annotations"
            )
        size = (image["height"], image["width"]) if image.get("height") and image.get("width") else None
        rows = np.array(objects[image["id"]], dtype=np.float64).reshape(-1, 5)
        images.append(CocoImage(image["id"], image_path, size, rows, crowds[image["id"]]))
    if not images:
        raise UserError(f"{path}: got no images, expected at least one; mend the file")
    return CocoSplit(path, ["background", *names], category_ids, images)


def _is_box(box) -> bool:
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(type(value) in (int, float) and abs(value) < 1e9 for value in box)
    )


def _first_repeated(values: list):
    seen = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None
