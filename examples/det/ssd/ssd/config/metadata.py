"""Settings to store with a checkpoint, because parameter shapes cannot reveal a mismatch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..data.dataset_info import read_category_ids, split_fingerprint
from ..normalization import IMAGENET_MEAN, IMAGENET_STD
from .schema import Config, keys_marked
from .sections import ANCHORS, CLASSES, INPUT, NETWORK

MODEL_MARKERS = (CLASSES, ANCHORS, NETWORK, INPUT)


def model_metadata(cfg: Config) -> dict[str, dict[str, Any]]:
    """Return the settings of a detector as JSON values, in groups with the names of their markers.

    Returns {"classes": {key: value}, "anchors": …, "network": …, "input": …}. Keys that the detector does not use have
    the value None. The group "input" also has the key `normalization`.
    """
    unused = [
        *(("min_scale", "max_scale") if cfg.box_sizes else ()),
        *(() if cfg.neck == "fpn" else ("fpn_channels",)),
        *(() if cfg.head == "shared" else ("num_addition_layers",)),
    ]
    if cfg.anchors == "grid":
        unused += ["box_sizes", "min_scale", "max_scale", "aspect_ratios", "clip_default_boxes"]
    values = {**cfg.model_dump(mode="json"), **dict.fromkeys(unused)}
    groups = {marker.value: {key: values[key] for key in keys_marked(marker)} for marker in MODEL_MARKERS}
    groups[INPUT.value]["normalization"] = {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)}
    return groups


def training_metadata(cfg: Config) -> dict[str, dict[str, Any]]:
    """Return `model_metadata`, and the group "data" with fingerprints of the data in data_dir and their category ids.

    Raises UserError if dataset.json is damaged.
    """
    folder = Path(cfg.data_dir)
    return {
        **model_metadata(cfg),
        "data": {
            "training_data": split_fingerprint(folder, "train"),
            "validation_data": split_fingerprint(folder, "val"),
            "category_ids": read_category_ids(folder, cfg.num_classes),
        },
    }
