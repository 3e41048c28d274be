"""Take the class names and category ids of a detector from its checkpoint, so that prediction needs no dataset."""

from __future__ import annotations

import logging
from pathlib import Path

from ..checkpoints.metadata import Metadata
from ..config.loading import coco_classes
from ..config.schema import Config
from ..data.dataset_info import DATASET_INFO_NAME, read_dataset_info

log = logging.getLogger(__name__)


def with_stored_classes(cfg: Config, stored: Metadata | None, *, path: Path) -> Config:
    """Return a recipe with the class names of a checkpoint, and log a warning if the recipe has other class names.

    stored: metadata of the checkpoint, or None
    path: path of the checkpoint
    Returns the recipe unchanged if the checkpoint does not contain class names.
    """
    names = (stored or {}).get("classes", {}).get("classes")
    if names is None or list(cfg.classes or ()) == names:
        return cfg
    if cfg.classes not in (None, coco_classes()):  # a recipe without class names and data has those of COCO
        log.warning(
            f"{path}: classes: the class names of the checkpoint are used, which differ from those of the recipe."
        )
    return cfg.model_copy(update={"classes": tuple(names), "num_classes": len(names)})


def find_category_ids(cfg: Config, stored: Metadata | None) -> list[int]:
    """Return the COCO category id of each label, with 0 for the background.

    cfg: recipe with the class names of the checkpoint
    stored: metadata of the checkpoint; without category ids, they are those of data_dir if its class names are the same
    Returns the labels themselves if neither has the category ids.
    Raises UserError if dataset.json is damaged.
    """
    ids = (stored or {}).get("data", {}).get("category_ids")
    path = Path(cfg.data_dir) / DATASET_INFO_NAME
    if not ids and path.is_file():
        info = read_dataset_info(path)
        ids = [0, *info.category_ids] if tuple(info.classes) == cfg.classes else None
    return ids or list(range(cfg.num_classes))
