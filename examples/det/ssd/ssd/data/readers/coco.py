"""Read COCO annotation files: parse and check categories, image entries and boxes."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import numpy as np

from ...boxes.ops import xywh_to_yxyx
from ...errors import UserError
from .annotations import FOUND_ELSEWHERE, UNUSABLE_IMAGES, AnnotatedImage, DatasetSplit, load_coco_json
from .image_finder import find_images

NUMBER_TYPES = {int, float}  # bool is excluded, although bool is a subclass of int
MAX_COORDINATE = 1e9  # pixels; larger coordinates are invalid


def read_coco(annotation_path: Path, image_dir: Path) -> DatasetSplit:
    """Read and check a COCO annotation file and the folder of its images.

    Classes are the categories of the file in the order of category ids, which is the published class order of COCO.

    annotation_path: path of the annotation file
    image_dir: folder of the images; the key `file_name` of each image is a path relative to this folder

    Raises UserError if a file or folder is missing, or a category, an image entry or a box is invalid.
    """
    split = parse_coco(load_coco_json(annotation_path), annotation_path, image_dir)
    require_usable_images(split)
    return split


def require_usable_images(*splits: DatasetSplit) -> None:
    """Raise UserError if the annotation readers found images that cannot be converted.

    An image cannot be converted if it is missing or unreadable, or if its size differs from the annotated size.
    """
    found = {text: split.annotation_path for split in splits for text in split.problems.get(UNUSABLE_IMAGES, [])}
    if found:
        first, annotation_path = next(iter(found.items()))
        others = len(found) - 1
        more = f", and {others} more image{'' if others == 1 else 's'} cannot be converted" if others else ""
        noun = "images" if others else "image"
        raise UserError(f"{first}{more}. Replace the {noun}, or remove the {noun} from {annotation_path}.")


def parse_coco(coco_dict: dict, annotation_path: Path, image_dir: Path) -> DatasetSplit:
    """Check the annotations of a split in COCO format and convert boxes to arrays.

    coco_dict: annotations as a COCO JSON object
    annotation_path: path of the file or folder that coco_dict was read from, for error messages
    image_dir: folder of the images; the key `file_name` of each image is a path relative to this folder

    Returns a split whose coco_dict is None. Missing image files are recorded as problems of the kind UNUSABLE_IMAGES,
    and files at another path than stated as problems of the kind FOUND_ELSEWHERE.
    Raises UserError if image_dir is missing, or a category, an image entry or a box is invalid.
    """
    if not image_dir.is_dir():
        raise UserError(f"{image_dir}: the image folder of {annotation_path.name} does not exist. Check --data_path.")
    try:
        return _parse(coco_dict, annotation_path, image_dir)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        reason = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{annotation_path}: the annotations are not in COCO's object detection format ({reason}). "
            "Correct the annotations."
        ) from None


def _parse(coco_dict: dict, path: Path, image_dir: Path) -> DatasetSplit:
    categories = sorted(coco_dict["categories"], key=lambda category: category["id"])
    names = [category["name"] for category in categories]
    category_ids = [category["id"] for category in categories]
    _check_categories(category_ids, names, path)
    labels = {category_id: label for label, category_id in enumerate(category_ids, start=1)}

    image_indices = _index_images(coco_dict["images"], path)
    ground_truths, crowd_counts = _parse_boxes(
        coco_dict["annotations"], path=path, image_indices=image_indices, labels=labels
    )
    if not image_indices:
        raise UserError(f"{path}: the list of images is empty. Add at least one image.")

    images, missing, moved = [], [], []
    paths = find_images([entry["file_name"] for entry in coco_dict["images"]], [image_dir])
    boxes = zip(ground_truths, crowd_counts)
    for entry, path_found, (ground_truth, crowd_boxes) in zip(coco_dict["images"], paths, boxes):
        image_path = path_found or image_dir / entry["file_name"]
        if path_found is None:
            missing.append(f"{image_path}: cannot be read (no such file or directory)")
        elif path_found != image_dir / entry["file_name"]:
            moved.append(f"{entry['file_name']}: found at {path_found}")
        size = (entry["height"], entry["width"]) if entry.get("height") and entry.get("width") else None
        image = AnnotatedImage(
            image_id=entry["id"], path=image_path, size=size, ground_truth=ground_truth, crowd_boxes=crowd_boxes
        )
        images.append(image)
    return DatasetSplit(
        annotation_path=path,
        classes=["background", *names],
        category_ids=category_ids,
        images=images,
        problems={kind: texts for kind, texts in ((UNUSABLE_IMAGES, missing), (FOUND_ELSEWHERE, moved)) if texts},
    )


def _check_categories(category_ids: list, names: list, path: Path) -> None:
    """Check the categories of a COCO file.

    Raises UserError if ids are not unique integers, names are not unique strings, or the file has no categories.
    """
    if not all(isinstance(category_id, int) for category_id in category_ids):
        raise UserError(f"{path}: the category ids {category_ids} are not all integers. Change the ids to integers.")
    for category_id, name in zip(category_ids, names):
        if not isinstance(name, str):
            raise UserError(
                f"{path}: the name of category {category_id} is {name!r}, which is not a string. "
                "Change the name to a string."
            )
    for kind, values in (("category id", category_ids), ("category name", names)):
        repeated = _first_repeated(values)
        if repeated is not None:
            raise UserError(f"{path}: {kind} {repeated!r} occurs twice. Use each {kind} only once.")
    if not names:
        raise UserError(f"{path}: the list of categories is empty. Add at least one category.")


def _index_images(images: list[dict], path: Path) -> dict[int, int]:
    """Return a dictionary {image id: index in `images`}.

    Raises UserError if an image id is invalid or occurs twice, or a height or width is not a number.
    """
    indices: dict[int, int] = {}
    for image in images:
        where = f"{path}: image {image['file_name']}"
        if not isinstance(image["id"], int) or abs(image["id"]) >= 2**63:
            raise UserError(f"{where}: id {image['id']!r} is not a 64-bit integer. Change the id to a 64-bit integer.")
        for side in ("height", "width"):
            if image.get(side) is not None and type(image[side]) not in NUMBER_TYPES:
                raise UserError(f"{where}: {side} {image[side]!r} is not a number. Set {side} to the number of pixels.")
        if image["id"] in indices:
            raise UserError(f"{path}: image id {image['id']} occurs twice. Give each image a different id.")
        indices[image["id"]] = len(indices)
    return indices


def _parse_boxes(
    annotations: list[dict], path: Path, image_indices: dict[int, int], labels: dict[int, int]
) -> tuple[list[np.ndarray], list[int]]:
    """Convert COCO annotations to arrays of ground-truth boxes.

    annotations: entries of the key `annotations`
    path: path of the annotation file, for error messages
    image_indices: {image id: index in the list of images}
    labels: {category id: class index}

    Returns two lists with one item per image:
        ground truth, (M, 5) float64, boxes_yxyx in pixels and class index
        number of crowd regions
    Raises UserError if an annotation refers to an unknown image or category, or its bbox is invalid.
    """
    crowd_counts = [0] * len(image_indices)
    kept, kept_indices, kept_labels = [], [], []
    for annotation in annotations:
        index, label = image_indices.get(annotation["image_id"]), labels.get(annotation["category_id"])
        if index is None:
            raise UserError(
                f"{path}: annotation {annotation.get('id')}: image_id {annotation['image_id']!r} is not in the list of "
                "images. Add the image, or correct image_id."
            )
        if label is None:
            raise UserError(
                f"{path}: annotation {annotation.get('id')}: category_id {annotation['category_id']!r} is not one of "
                f"the category ids {list(labels)}. Add the category, or correct category_id."
            )
        if annotation.get("iscrowd", 0):
            crowd_counts[index] += 1
            continue
        box = annotation.get("bbox")
        if not (isinstance(box, list) and len(box) == 4 and NUMBER_TYPES.issuperset(map(type, box))):
            _raise_invalid_box(annotation, path)
        kept.append(annotation)
        kept_indices.append(index)
        kept_labels.append(label)
    boxes_xywh = np.array([annotation["bbox"] for annotation in kept], dtype=np.float64).reshape(-1, 4)
    for row in np.flatnonzero(~(np.abs(boxes_xywh) < MAX_COORDINATE).all(axis=1)):  # the condition is also True for NaN
        _raise_invalid_box(kept[row], path)
    # Create one array and split the array by image: creating one array per box takes ten times as long.
    rows = np.concatenate([xywh_to_yxyx(boxes_xywh), np.array(kept_labels, dtype=np.float64)[:, None]], axis=1)
    order = np.argsort(kept_indices, kind="stable")
    ends = np.cumsum(np.bincount(np.array(kept_indices, dtype=np.int64), minlength=len(image_indices)))
    return np.split(rows[order], ends[:-1]), crowd_counts


def _raise_invalid_box(annotation: dict, path: Path) -> NoReturn:
    raise UserError(
        f"{path}: annotation {annotation.get('id')}: bbox {annotation.get('bbox')} is not a list of four finite "
        "numbers x, y, width, height in pixels. Correct the bbox."
    )


def _first_repeated(values: list) -> object:
    """Return the first value that occurs a second time in a list; None if all values are different."""
    seen = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None
