"""Settings stored with a checkpoint because parameter shapes cannot reveal a mismatch: class order, anchors, strides.

The settings are the recipe keys with the markers CLASSES, ANCHORS and NETWORK in ssd.config.schema. The metadata groups
the settings as {"classes": {key: value}, "anchors": {key: value}, "network": {key: value}}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError

METADATA_KEY = "model_metadata"
OLD_KEY = "meaning"  # key of version 0.1, whose metadata has no groups and omits the unused settings

Metadata = dict[str, dict[str, Any]]


def read_metadata(content: Mapping[str, Any], expected: Metadata) -> Metadata | None:
    """Read the metadata from the content of a checkpoint.

    content: {name: value} of the checkpoint
    expected: metadata of the recipe, whose groups are used for checkpoints of version 0.1
    Returns the metadata, or None if the checkpoint does not contain metadata, for example a checkpoint of MindCV's
    example.
    """
    if METADATA_KEY in content:
        return json.loads(content[METADATA_KEY])
    if OLD_KEY in content:
        stored = json.loads(content[OLD_KEY])
        return {group: {key: stored.get(key) for key in keys} for group, keys in expected.items()}
    return None


def find_mismatches(expected: Metadata, stored: Metadata | None, groups: tuple[str, ...]) -> list[tuple[str, Any, Any]]:
    """Find the settings that differ between a recipe and a checkpoint.

    Class names are compared only if both sides have class names. A recipe may lack the names if the data is missing.

    expected: metadata of the recipe
    stored: metadata of the checkpoint; None skips the comparison
    groups: names of the groups to compare
    Returns (key, expected value, stored value) of each setting that differs.
    """
    mismatches: list[tuple[str, Any, Any]] = []
    if stored is None:
        return mismatches
    for group in groups:
        for key, value in expected[group].items():
            other = stored.get(group, {}).get(key)
            is_unknown = key == "classes" and None in (value, other)
            if value != other and not is_unknown:
                mismatches.append((key, value, other))
    return mismatches


def refuse_mismatch(expected: Metadata, stored: Metadata | None, path: str | Path) -> None:
    """Raise UserError if a checkpoint was trained with settings that differ from those of the recipe.

    expected: metadata of the recipe
    stored: metadata of the checkpoint, or None
    path: path of the checkpoint
    """
    for key, value, other in find_mismatches(expected, stored, groups=tuple(expected)):
        advice = "Use the recipe with which the checkpoint was trained."
        if key == "classes":
            advice = (
                "Set --data_dir to the training data of the checkpoint. To train on other classes, start from the "
                "checkpoint with --pretrained_detector."
            )
            pairs = enumerate(zip(value, other))
            label = next((label for label, names in pairs if names[0] != names[1]), None)
            if label is None:
                value, other = (f"{len(names)} class names, background included" for names in (value, other))
            else:
                value, other = (f"{names[label]!r} as class {label}" for names in (value, other))
        raise UserError(
            f"{path}: {key}: the checkpoint was trained with {_text(other)}, but the recipe has {_text(value)}. "
            f"{advice}"
        )


def _text(value: Any) -> Any:
    return "no value" if value is None else value
