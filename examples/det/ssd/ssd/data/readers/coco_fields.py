"""Normalize the fields of COCO annotations, so that conversion, evaluation and pycocotools read the same values.

null means missing, and numeric text is a number. A value that follows from other values is computed: `area` from the
box, and a missing `bbox` from the segmentation. All other invalid values are errors.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ...errors import UserError, count_noun
from .annotations import check_box_count
from .coco_segmentation import segmentation_box
from .corners import sort_corners
from .other_tools import recognize_json

NUMBER_TYPES = {int, float}  # bool is excluded, although bool is a subclass of int
MAX_COORDINATE = 1e9  # pixels; larger coordinates are invalid
MAX_ANNOTATION_ID = 2**53  # pycocotools stores annotation ids as float64
MAX_LISTED_IDS = 100  # in a message
PLURALS = {"category": "categories", "image": "images", "annotation": "annotations"}
OPTIONAL_FLAGS = ("ignore", "difficult")  # VOC's metrics leave out the objects that these keys mark

# Kinds of problems in the dataset report.
BOXES_FROM_SEGMENTATIONS = "annotations without bbox, whose box is taken from the segmentation"
REPLACED_AREAS = "areas that are not positive numbers, replaced by the area of the box"


class _InvalidValueError(ValueError):
    """Error for a value that cannot be used. The message names the key and the value."""


def normalize_coco(content: object, path: Path, check_references: bool = True) -> tuple[dict, dict[str, list[str]]]:
    """Normalize the images, annotations and categories of a COCO file.

    Ids become integers, sizes and boxes numbers, and flags 0 or 1. Negative widths and heights are made positive.
    Annotation ids are renumbered from 1 if an id is missing, invalid, 0 or not unique: pycocotools treats id 0 as "no
    match".

    content: parsed JSON file
    path: path of the file, for error messages
    check_references: True refuses annotations of images or categories that the file does not list

    Returns
        COCO JSON object; `content` itself if all values are normal, so that the file can be copied
        problems: {kind of problem: one text per annotation}
    Raises UserError if the file is not in COCO's format, or values cannot be used. The message names the first entry,
    such as the id of the annotation, and the number of other entries.
    """
    coco_dict = _require_coco(content, path)
    problems: dict[str, list[str]] = {}
    lists = {
        "categories": _normalize_entries(coco_dict["categories"], _normalize_category, path=path, kind="category"),
        "images": _normalize_entries(coco_dict["images"], _normalize_image, path=path, kind="image"),
        "annotations": _normalize_entries(
            coco_dict["annotations"],
            lambda entry: _normalize_annotation(entry, path, problems),
            path=path,
            kind="annotation",
        ),
    }
    if check_references:
        _check_references(lists, path)
    counts = collections.Counter(annotation["image_id"] for annotation in lists["annotations"])
    for image_id, num_boxes in counts.most_common(1):
        check_box_count(num_boxes, f"{path}: image {image_id}")
    ids = [annotation.get("id") for annotation in lists["annotations"]]
    if not all(type(value) is int and 0 < abs(value) < MAX_ANNOTATION_ID for value in ids) or len(set(ids)) < len(ids):
        lists["annotations"] = [{**entry, "id": number} for number, entry in enumerate(lists["annotations"], start=1)]
    is_unchanged = all(new is old for key, entries in lists.items() for new, old in zip(entries, coco_dict[key]))
    return (coco_dict if is_unchanged else {**coco_dict, **lists}), problems


def _require_coco(content: object, path: Path) -> dict:
    """Return the content of a COCO file. Raises UserError if the content is another kind of file."""
    keys = ("images", "annotations", "categories")
    if isinstance(content, dict) and all(isinstance(content.get(key), list) for key in keys):
        return content
    known = recognize_json(content)
    if known is not None:
        raise UserError(f"{path}: {known}")
    if isinstance(content, dict):
        missing = next(key for key in keys if not isinstance(content.get(key), list))
        reason = f"the key {missing!r} is not a list" if missing in content else f"the key {missing!r} is missing"
    else:
        reason = f"the file contains a {type(content).__name__} instead of an object"
    raise UserError(
        f"{path}: {reason}. A COCO file is an object with the lists images, annotations and categories. Export the "
        "annotations in COCO's format for object detection."
    )


def _normalize_entries(entries: list, normalize: Callable[[dict], dict], path: Path, kind: str) -> list[dict]:
    """Normalize the entries of a list.

    kind: "category", "image" or "annotation"

    Returns the normalized entries, each the same object if nothing had to be changed.
    Raises UserError if entries cannot be used.
    """
    normalized: list[dict] = []
    errors: list[str] = []
    for position, entry in enumerate(entries):
        try:
            if not isinstance(entry, dict):
                raise _InvalidValueError(f"{entry!r:.80} is not an object")
            normalized.append(normalize(entry))
        except _InvalidValueError as error:
            errors.append(f"{_describe_entry(entry, position, kind)}: {error}")
    if errors:
        _raise_invalid_entries(path, errors, kind)
    return normalized


def _check_references(lists: dict[str, list[dict]], path: Path) -> None:
    """Raise UserError if annotations refer to images or categories that the file does not list.

    lists: the normalized lists categories, images and annotations
    """
    known = {kind: {entry["id"] for entry in lists[plural]} for kind, plural in PLURALS.items() if kind != "annotation"}
    errors = []
    for position, annotation in enumerate(lists["annotations"]):
        for kind, ids in known.items():
            value = annotation[f"{kind}_id"]
            if value not in ids:
                listed = f"one of the ids {sorted(ids)}" if len(ids) <= MAX_LISTED_IDS else "an id"
                where = _describe_entry(annotation, position, "annotation")
                errors.append(f"{where}: {kind}_id {value} is not {listed} in the list of {PLURALS[kind]}")
                break
    if errors:
        _raise_invalid_entries(path, errors, "annotation")


def _raise_invalid_entries(path: Path, errors: list[str], kind: str) -> NoReturn:
    """Raise UserError for entries that cannot be used.

    errors: one text per entry; at least one
    kind: "category", "image" or "annotation"
    """
    others = len(errors) - 1
    more = f", and {count_noun(others, f'more {kind}', f'more {PLURALS[kind]}')} cannot be used" if others else ""
    raise UserError(f"{path}: {errors[0]}{more}. Correct or remove the {PLURALS[kind] if others else kind}.")


def _describe_entry(entry: object, position: int, kind: str) -> str:
    """Return the name of an entry in messages: by file name or id, else by the position in the list from 1."""
    values = entry if isinstance(entry, dict) else {}
    name = values.get("file_name") if kind == "image" else None
    name = values.get("id") if name in (None, "") else name
    return f"{kind} {name}" if name is not None else f"{kind} number {position + 1}"


def _normalize_category(category: dict) -> dict:
    category_id = _require_id(category, "id")
    name = category.get("name")
    if not isinstance(name, str) or not name:
        raise _InvalidValueError(f"name {name!r:.80} is not a text")
    return category if category_id is category["id"] else {**category, "id": category_id}


def _normalize_image(image: dict) -> dict:
    file_name = image.get("file_name")
    if not isinstance(file_name, str) or not file_name:
        raise _InvalidValueError(f"file_name {file_name!r:.80} is not the name of an image file")
    changed = {}
    image_id = _require_id(image, "id")
    if image_id is not image["id"]:
        changed["id"] = image_id
    for side in ("height", "width"):
        value = image.get(side)
        if value is None or (type(value) is int and value >= 0):  # 0 also means that the size is unknown
            continue
        pixels = to_integer(value)
        if pixels is None or pixels < 0:
            raise _InvalidValueError(f"{side} {value!r:.80} is not a whole number of pixels")
        changed[side] = pixels
    return {**image, **changed} if changed else image


def _normalize_annotation(annotation: dict, path: Path, problems: dict[str, list[str]]) -> dict:
    """Normalize an annotation.

    path: path of the file, for the texts in problems
    problems: {kind of problem: texts}; boxes and areas that are corrected are added
    """
    if _is_normal(annotation):
        return annotation

    where = f"{path}: annotation {annotation.get('id', 'without id')}"

    def record(kind: str) -> None:
        problems.setdefault(kind, []).append(where)

    normalized = {**annotation, "image_id": _require_id(annotation, "image_id")}
    normalized["category_id"] = _require_id(annotation, "category_id")
    normalized["iscrowd"] = _require_flag(annotation, "iscrowd")
    for key in OPTIONAL_FLAGS:
        if key in annotation:
            normalized[key] = _require_flag(annotation, key)
    box = annotation.get("bbox")
    if box is None or box == []:
        box = segmentation_box(annotation.get("segmentation"))
        if box is not None:
            record(BOXES_FROM_SEGMENTATIONS)
    numbers = [to_number(value) for value in box] if isinstance(box, list) else []
    values = [number for number in numbers if number is not None and abs(number) < MAX_COORDINATE]
    if len(numbers) != 4 or len(values) != 4:
        raise _InvalidValueError(
            f"bbox {annotation.get('bbox')!r:.80} is not a list of four finite numbers x, y, width, height in pixels"
            + (", and segmentation is not a polygon or a mask" if box is None else "")
        )
    normalized["bbox"] = sort_corners(values, where, problems)
    box_area = normalized["bbox"][2] * normalized["bbox"][3]
    area = to_number(annotation.get("area"))
    if area is None or area < 0 or (area == 0 and box_area > 0):
        # Use the box, not the segmentation: COCO's metrics also use the area of the box for detections, and
        # annotations of VOC and YOLO have only boxes.
        area = box_area
        if annotation.get("area") is not None:
            record(REPLACED_AREAS)
    normalized["area"] = area
    return normalized


def _is_normal(annotation: dict) -> bool:
    """Return whether nothing in an annotation must be changed. This fast test is for files with a million boxes."""
    box, area = annotation.get("bbox"), annotation.get("area")
    return (
        type(annotation.get("image_id")) is int
        and type(annotation.get("category_id")) is int
        and type(annotation.get("iscrowd")) is int
        and annotation["iscrowd"] in (0, 1)
        and type(box) is list
        and len(box) == 4
        and all(type(value) in NUMBER_TYPES and -MAX_COORDINATE < value < MAX_COORDINATE for value in box)
        and box[2] >= 0
        and box[3] >= 0
        and (type(area) is int or type(area) is float)
        and (0 < area < math.inf or area == box[2] * box[3] == 0)
        and not any(key in annotation for key in OPTIONAL_FLAGS)
    )


def _require_id(entry: dict, key: str) -> int:
    """Return an id as an integer. Raises _InvalidValueError if the id is missing or not a 64-bit integer."""
    value = entry.get(key)
    integer = to_integer(value)
    if integer is None:
        raise _InvalidValueError(f"{key} {value!r:.80} is not a 64-bit integer")
    return value if type(value) is int else integer


def _require_flag(annotation: dict, key: str) -> int:
    """Return a flag as 0 or 1, and 0 if it is missing. Raises _InvalidValueError if the value is not a flag."""
    value = annotation.get(key)
    if value is None or isinstance(value, bool):
        return int(value or 0)
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return int(value.strip().lower() == "true")
    number = to_number(value)
    if number is None:
        raise _InvalidValueError(f"{key} {value!r:.80} is neither 0 nor 1")
    return int(number != 0)


def to_number(value: object) -> int | float | None:
    """Return a finite number, or the number that a text contains. Returns None for all other values."""
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            try:
                value = float(value)
            except ValueError:
                return None
    if type(value) is not int and type(value) is not float:
        return None
    return value if -math.inf < value < math.inf else None


def to_integer(value: object) -> int | None:
    """Return a 64-bit integer for a whole number or the text of one. Returns None for all other values."""
    number = to_number(value)
    if number is None or number != int(number) or not -(2**63) <= number < 2**63:
        return None
    return int(number)
