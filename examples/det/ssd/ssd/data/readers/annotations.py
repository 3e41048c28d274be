"""Annotations of any form, on their way to COCO's: what each reader gives, and what readers need to know of files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from ...errors import UserError

BROKEN = "images that would stop the conversion"


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
    """One split. classes: names, background first; category_ids: the annotations' ids in the order of classes[1:].

    annotation_path: its annotation file, or where annotations of another form were read from; content: those in COCO's
    form, None where the file has them already; problems: {kind: where, one text each} that reading found
    """

    annotation_path: Path
    classes: list[str]
    category_ids: list[int]
    images: list[CocoImage]
    content: dict | None = None
    problems: dict[str, list[str]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Annotations:
    """content: a split in COCO's form, unchecked; path: where it was read from; image_dir: what file names are relative
    to; problems: {kind: where, one text each} of what was left out or guessed; is_file: whether path holds `content`"""

    content: dict
    path: Path
    image_dir: Path
    problems: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    is_file: bool = False


def read_lines(path: Path) -> list[str]:
    """Lines of a text file. Raises UserError."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"{path}: got {error.strerror.lower()}, expected a text file; check it") from None
    except ValueError as error:
        raise UserError(f"{path}: got {error}, expected text in UTF-8; save it as such") from None


def find_path(folder: Path, relative: str) -> Path | None:
    """folder/relative, whatever the case of its letters; None if it is not there."""
    if (folder / relative).exists():
        return folder / relative
    for part in Path(relative).parts:
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        folder = next((path for path in found if path.name.lower() == part.lower()), None)
        if folder is None:
            return None
    return folder


def load_coco(annotation_path: Path) -> dict:
    """What an annotation file holds, unchecked. Raises UserError if it is none, or no JSON."""
    if not annotation_path.is_file():
        raise UserError(f"{annotation_path}: got no such file, expected COCO annotations; check --data_path")
    try:
        return json.loads(annotation_path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(
            f"{annotation_path}: got {error.strerror.lower()}, expected COCO annotations; check the file"
        ) from None
    except ValueError as error:
        raise UserError(f"{annotation_path}: got {error}, expected JSON; mend the file") from None


def match_categories(train: CocoSplit, val: CocoSplit) -> CocoSplit:
    """The validation split with the categories of the training split, of which it may list a part: some tools write
    only those that occur. Raises UserError if it has others."""
    of_train, of_val = (dict(zip(split.category_ids, split.classes[1:])) for split in (train, val))
    if of_train == of_val:
        return val
    if not of_val.items() <= of_train.items():
        raise UserError(
            f"{val.annotation_path}: got categories {of_val}, expected those of {train.annotation_path.name}, "
            f"{of_train}, or some of them; make the lists equal"
        )
    label_of = np.array([0, *(train.category_ids.index(category_id) + 1 for category_id in val.category_ids)])
    content = val.content or load_coco(val.annotation_path)
    added = [{"id": key, "name": name} for key, name in of_train.items() if key not in of_val]
    return dataclasses.replace(
        val,
        classes=train.classes,
        category_ids=train.category_ids,
        images=[_relabel(image, label_of) for image in val.images],
        content={**content, "categories": [*content["categories"], *added]},
    )


def _relabel(image: CocoImage, label_of: np.ndarray) -> CocoImage:
    """label_of: new class index by the old one"""
    objects = image.objects.copy()
    objects[:, 4] = label_of[objects[:, 4].astype(np.int64)]
    return dataclasses.replace(image, objects=objects)
