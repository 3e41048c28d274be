"""Compare a recipe with the settings stored in a checkpoint: class order, anchors, layers, input size and data.

Parameter shapes cannot reveal such a mismatch. The metadata groups the settings as {group: {key: value}}, see
ssd.config.metadata. A group or a key that a checkpoint lacks is unknown, because an earlier version did not store it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from .records import METADATA_KEY, OLD_METADATA_KEY, read_records

Metadata = dict[str, dict[str, Any]]

# With another value of these settings, the weights have another meaning, so such a checkpoint is never loaded.
REQUIRED_GROUPS = ("classes", "anchors", "network")
# {key of the group "data": what differs}
DATA_KEYS = {
    "training_data": "training images or annotations",
    "validation_data": "validation images or annotations",
    "category_ids": "category ids",
}
# Settings that a recipe does not know if the data is missing
MAY_BE_MISSING = ("classes", "training_data", "validation_data")
# Keys of version 0.1, whose metadata has no groups and omits the unused settings
OLD_GROUPS = {
    "classes": ("classes", "loss"),
    "anchors": (
        "anchors",
        "box_sizes",
        "min_scale",
        "max_scale",
        "clip_default_boxes",
        "aspect_ratios",
        "prior_scaling",
    ),
    "network": ("backbone_max_stride", "backbone_padding", "extra_layers"),
}


def read_metadata(path: str | Path) -> Metadata | None:
    """Read the metadata of a checkpoint without its parameters.

    Returns None if the checkpoint does not contain metadata, for example a checkpoint of MindCV's example.
    """
    return find_metadata(read_records(Path(path)))


def find_metadata(records: Mapping[str, Any]) -> Metadata | None:
    """Return the metadata in the records of a checkpoint, {name: JSON value}; None if they contain no metadata."""
    if OLD_METADATA_KEY in records:
        stored = records[OLD_METADATA_KEY]
        return {group: {key: stored.get(key) for key in keys} for group, keys in OLD_GROUPS.items()}
    return records.get(METADATA_KEY)


def find_mismatches(expected: Metadata, stored: Metadata | None, groups: Sequence[str]) -> list[tuple[str, Any, Any]]:
    """Find the settings that differ between a recipe and a checkpoint.

    Class names are compared only if both sides have class names. A recipe may lack the names if the data is missing.

    expected: metadata of the recipe
    stored: metadata of the checkpoint; None skips the comparison
    groups: names of the groups to compare
    Returns (key, expected value, stored value) of each setting that differs.
    """
    mismatches: list[tuple[str, Any, Any]] = []
    for group in groups:
        known = (stored or {}).get(group, {})
        for key, value in expected.get(group, {}).items():
            other = known.get(key)
            is_unknown = key not in known or (key in MAY_BE_MISSING and None in (value, other))
            if value != other and not is_unknown:
                mismatches.append((key, value, other))
    return mismatches


def refuse_mismatch(expected: Metadata, stored: Metadata | None, path: str | Path) -> None:
    """Raise UserError if a checkpoint was trained with settings that differ from those of the recipe.

    expected: metadata of the recipe, whose groups are compared
    stored: metadata of the checkpoint, or None
    path: path of the checkpoint
    """
    for key, value, other in find_mismatches(expected, stored, groups=tuple(expected)):
        raise UserError(f"{path}: {_describe_mismatch(key, value, other)}. {_advice(key)}")


def describe_mismatches(expected: Metadata, stored: Metadata | None, path: str | Path) -> str | None:
    """Return a warning in one line that names the settings that change the results of a checkpoint.

    expected: metadata of the recipe, whose groups are compared
    stored: metadata of the checkpoint, or None
    path: path of the checkpoint
    Returns None if nothing differs.
    """
    found = [_describe_mismatch(*mismatch) for mismatch in find_mismatches(expected, stored, groups=tuple(expected))]
    if not found:
        return None
    return f"{path}: {'; '.join(found)}. Expect results that differ from those of the training."


def _describe_mismatch(key: str, value: Any, other: Any) -> str:
    if key in DATA_KEYS:
        return f"data_dir: the checkpoint was trained with other {DATA_KEYS[key]} than data_dir has now"
    if key == "classes":
        label = next((label for label, names in enumerate(zip(value, other)) if names[0] != names[1]), None)
        if label is None:
            value, other = (f"{len(names)} class names, background included" for names in (value, other))
        else:
            value, other = (f"{names[label]!r} as class {label}" for names in (value, other))
    value, other = ("no value" if side is None else side for side in (value, other))
    return f"{key}: the checkpoint was trained with {other}, but the recipe has {value}"


def _advice(key: str) -> str:
    new_run = "start a new run from the checkpoint with --pretrained_detector."
    if key == "classes":
        return f"Set --data_dir to the training data of the checkpoint. To train on other classes, {new_run}"
    if key in DATA_KEYS:
        return f"Set --data_dir to the data of the previous run, or {new_run}"
    return "Use the recipe with which the checkpoint was trained."
