"""Undo what annotation tools add to COCO files: a root category, repeated categories, and image ids that are text."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Collection, Iterable

from .annotations import Problems
from .coco_fields import to_integer

ROOT_CATEGORIES = "categories without boxes that only name the dataset, which are dropped"
REPEATED_CATEGORIES = "categories that are listed twice, which are merged"
TEXT_IMAGE_IDS = "image ids that are text, which are replaced by numbers"


def used_category_ids(contents: Iterable[object]) -> set[int | None]:
    """Return the category ids that the annotations of several COCO files have. contents: parsed files, unchecked"""
    used: set[object] = set()
    for content in contents:
        with contextlib.suppress(KeyError, TypeError):  # invalid content, for which normalize_coco raises a UserError
            used.update(annotation["category_id"] for annotation in content["annotations"])  # type: ignore[index]
    return set(map(to_integer, used))


def undo_export_quirks(coco_dict: dict, used_elsewhere: Collection[int | None] = ()) -> tuple[dict, Problems]:
    """Return a COCO JSON object without the peculiarities of annotation tools.

    - A root category is dropped. Roboflow writes one with the name of the project: it is the supercategory of all
      other categories, and no annotation has it.
    - A category that is listed twice with the same id and name is merged.
    - Image ids that are text become numbers, 1 for the first image. Ids of annotations change with them. Digits are
      left to normalize_coco, which reads them as the number that they are.

    coco_dict: content of the file, unchecked; entries of another form are left for parse_coco to refuse
    used_elsewhere: category ids of the annotations in other files of the dataset; they are no root categories
    Returns (new JSON object, or coco_dict itself if nothing is to be changed; {kind of problem: texts}).
    """
    problems: Problems = {}
    try:
        categories, images, annotations = (list(coco_dict[key]) for key in ("categories", "images", "annotations"))
        changed = {**coco_dict}
        kept = _merge_repeated(categories, problems)
        kept = _drop_root(kept, used_category_ids([coco_dict]).union(used_elsewhere), problems)
        if len(kept) < len(categories):
            changed["categories"] = kept
        if any(isinstance(image["id"], str) and not image["id"].strip().isdecimal() for image in images):
            numbers = {image["id"]: number for number, image in enumerate(images, start=1)}
            if len(numbers) < len(images):  # parse_coco names the repeated id
                return coco_dict, {}
            changed["images"] = [{**image, "id": numbers[image["id"]]} for image in images]
            changed["annotations"] = [
                {**annotation, "image_id": numbers.get(annotation["image_id"], annotation["image_id"])}
                for annotation in annotations
            ]
            problems[TEXT_IMAGE_IDS] = [
                f"{text!r} is now {number}" for text, number in numbers.items() if isinstance(text, str)
            ]
    except (KeyError, TypeError, AttributeError):
        return coco_dict, {}
    return (changed, problems) if problems else (coco_dict, {})


def _merge_repeated(categories: list[dict], problems: Problems) -> list[dict]:
    unique: dict[tuple, dict] = {}
    for category in categories:
        key = (category["id"], category["name"])
        if key in unique:
            problems.setdefault(REPEATED_CATEGORIES, []).append(f"category {key[0]}: {key[1]}")
        unique.setdefault(key, category)
    return list(unique.values())


def _drop_root(categories: list[dict], used_ids: set[int | None], problems: Problems) -> list[dict]:
    """Remove the category that is the supercategory of all others and has no annotation.

    used_ids: category ids of the annotations
    """
    # Count first, because comparing each of N categories with all others takes minutes for a million.
    parents = (category.get("supercategory") for category in categories)
    children = collections.Counter(parent for parent in parents if isinstance(parent, str))
    for root in categories:
        name = root["name"]
        if not isinstance(name, str) or not name:
            continue
        is_super = children[name] - (root.get("supercategory") == name) == len(categories) - 1 > 0
        if is_super and to_integer(root["id"]) not in used_ids:
            others = [category for category in categories if category is not root]
            problems.setdefault(ROOT_CATEGORIES, []).append(f"category {root['id']}: {root['name']}")
            return others
    return categories
