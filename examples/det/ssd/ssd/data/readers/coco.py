"""Read COCO annotation files: check categories, images and references, and convert boxes to arrays."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from ...boxes.ops import xywh_to_yxyx
from ...errors import UserError
from ..images import probe_image
from .annotations import (
    FOUND_ELSEWHERE,
    UNUSABLE_IMAGES,
    AnnotatedImage,
    DatasetSplit,
    UncheckedSplit,
    is_plain_utf8,
    load_coco_json,
)
from .coco_fields import normalize_coco
from .image_finder import find_images

# If no box ends beyond this coordinate in pixels, the coordinates are fractions 0..1, with a tolerance for rounding.
MAX_FRACTION = 1.01
MAX_CLASSES = 20_000  # metadata.yaml of an exported model has their names and ids, see runtime/read_yaml.py


def read_coco(annotation_path: Path, image_dir: Path) -> DatasetSplit:
    """Read and check a COCO annotation file and the folder of its images.

    Classes are the categories of the file in the order of category ids, which is the published class order of COCO.
    Boxes must be in pixels of upright images: only `read_splits` turns boxes of images that EXIF data rotate.

    annotation_path: path of the annotation file
    image_dir: folder of the images; the key `file_name` of each image is a path relative to this folder

    Raises UserError if a file or folder is missing, or a category, an image entry or a box is invalid.
    """
    content = load_coco_json(annotation_path)
    coco_dict, problems = normalize_coco(content, annotation_path)
    split = parse_coco(UncheckedSplit(coco_dict, annotation_path, image_dir))
    require_usable_images(split)
    is_normal = coco_dict is content and is_plain_utf8(annotation_path)
    return dataclasses.replace(
        split, coco_dict=None if is_normal else coco_dict, problems={**problems, **split.problems}
    )


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


def parse_coco(unchecked: UncheckedSplit) -> DatasetSplit:
    """Check the annotations of a split and convert boxes to arrays.

    unchecked: the split, with a coco_dict as normalize_coco returns it

    Returns a split whose coco_dict is None. Missing image files are recorded as problems of the kind UNUSABLE_IMAGES,
    and files at another path than stated as problems of the kind FOUND_ELSEWHERE.
    Raises UserError if image_dir is missing, a list is empty, categories or image ids are not unique, all boxes are
    fractions instead of pixels, or an image lies outside data_folders.
    """
    coco_dict, path, image_dir = unchecked.coco_dict, unchecked.annotation_path, unchecked.image_dir
    if not image_dir.is_dir():
        raise UserError(f"{image_dir}: the image folder of {path.name} does not exist. Check --data_path.")
    categories = sorted(coco_dict["categories"], key=lambda category: category["id"])
    names = [category["name"] for category in categories]
    category_ids = [category["id"] for category in categories]
    _check_categories(category_ids, names, path)
    labels = {category_id: label for label, category_id in enumerate(category_ids, start=1)}

    image_indices = _index_images(coco_dict["images"], path)
    ground_truths, crowd_counts = _parse_boxes(coco_dict["annotations"], image_indices, labels)
    if not image_indices:
        raise UserError(f"{path}: the list of images is empty. Add at least one image.")
    _require_pixels(ground_truths, path)

    _require_unicode([entry["file_name"] for entry in coco_dict["images"]], path)
    images, missing, moved = [], [], []
    paths = find_images([entry["file_name"] for entry in coco_dict["images"]], [image_dir], unchecked.data_folders)
    boxes = zip(ground_truths, crowd_counts)
    for entry, path_found, (ground_truth, crowd_boxes) in zip(coco_dict["images"], paths, boxes):
        image_path = path_found or image_dir / entry["file_name"]
        if path_found is None:
            # The same text as that of a reader that probed the image, so that the image is counted once.
            missing.append(probe_image(image_path).error or f"{image_path}: is not a file")
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

    Raises UserError if ids or names are not unique, the file has no or too many categories, or a name is not Unicode.
    """
    for kind, values in (("category id", category_ids), ("category name", names)):
        repeated = _first_repeated(values)
        if repeated is not None:
            raise UserError(f"{path}: {kind} {repeated!r} occurs twice. Use each {kind} only once.")
    if len(names) > MAX_CLASSES:
        raise UserError(
            f"{path}: there are {len(names):,} categories, but at most {MAX_CLASSES:,} are supported. Use fewer."
        )
    if not names:
        raise UserError(f"{path}: the list of categories is empty. Add at least one category.")


def _index_images(images: list[dict], path: Path) -> dict[int, int]:
    """Return a dictionary {image id: index in `images`}.

    Raises UserError if an image id occurs twice.
    """
    indices: dict[int, int] = {}
    for image in images:
        if image["id"] in indices:
            raise UserError(f"{path}: image id {image['id']} occurs twice. Give each image a different id.")
        indices[image["id"]] = len(indices)
    return indices


def _parse_boxes(
    annotations: list[dict], image_indices: dict[int, int], labels: dict[int, int]
) -> tuple[list[np.ndarray], list[int]]:
    """Convert COCO annotations to arrays of ground-truth boxes.

    annotations: entries of the key `annotations`
    image_indices: {image id: index in the list of images}
    labels: {category id: class index}

    Returns two lists with one item per image:
        ground truth, (M, 5) float64, boxes_yxyx in pixels and class index
        number of crowd regions
    """
    crowd_counts = [0] * len(image_indices)
    kept_boxes, kept_indices, kept_labels = [], [], []
    for annotation in annotations:
        index = image_indices[annotation["image_id"]]
        if annotation["iscrowd"]:
            crowd_counts[index] += 1
        else:
            kept_boxes.append(annotation["bbox"])
            kept_indices.append(index)
            kept_labels.append(labels[annotation["category_id"]])
    boxes_xywh = np.array(kept_boxes, dtype=np.float64).reshape(-1, 4)
    # Create one array and split the array by image: creating one array per box takes ten times as long.
    rows = np.concatenate([xywh_to_yxyx(boxes_xywh), np.array(kept_labels, dtype=np.float64)[:, None]], axis=1)
    order = np.argsort(kept_indices, kind="stable")
    ends = np.cumsum(np.bincount(np.array(kept_indices, dtype=np.int64), minlength=len(image_indices)))
    return np.split(rows[order], ends[:-1]), crowd_counts


def _require_pixels(ground_truths: list[np.ndarray], path: Path) -> None:
    """Raise UserError if no box ends beyond the first pixel of its image, because boxes are then fractions.

    ground_truths: (M, 5) boxes_yxyx in pixels and class index of each image
    """
    boxes_yxyx = np.concatenate([np.zeros((0, 5)), *ground_truths])[:, :4]
    # VOC's first pixel is 1, so the start of a box that is read from fractions is between -1 and 0.
    if len(boxes_yxyx) and boxes_yxyx[:, 2:].max() <= MAX_FRACTION and boxes_yxyx[:, :2].min() >= -1:
        raise UserError(
            f"{path}: the corners of all {len(boxes_yxyx)} boxes are between 0 and 1, but boxes are in pixels in this "
            "format. If they are fractions of the image size, multiply x by the width and y by the height of the image."
        )


def _require_unicode(file_names: list[str], path: Path) -> None:
    """Raise UserError if a file name is not valid Unicode. Names in folders may be arbitrary bytes."""
    for name in file_names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UserError(f"{path}: image {name!r:.200}: the name is not valid Unicode. Rename the file.") from None


def _first_repeated(values: list) -> object:
    """Return the first value that occurs a second time in a list; None if all values are different."""
    seen = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None
