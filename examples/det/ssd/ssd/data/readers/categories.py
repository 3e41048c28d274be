"""One list of classes for both splits."""

from __future__ import annotations

import dataclasses

import numpy as np

from ...errors import UserError
from .coco import CocoImage, CocoSplit, load_coco


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
