"""Settings stored with a checkpoint because parameter shapes cannot reveal a mismatch: class order, anchors, strides.

They are keys marked for it in ssd.config.schema, {"classes": {key: value}, "anchors": {…}, "network": {…}}, and are
compared key by key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError

METADATA_KEY = "model_metadata"
OLD_KEY = "meaning"  # in checkpoints of version 0.1, which hold the same keys ungrouped, and only those in use

Metadata = dict[str, dict[str, Any]]


def read_metadata(content: Mapping[str, Any], expected: Metadata) -> Metadata | None:
    """Return the metadata in the content of a checkpoint; None if it has none, like those of MindCV's example.

    expected: metadata of the recipe, whose grouping a checkpoint of version 0.1 gets
    """
    if METADATA_KEY in content:
        return json.loads(content[METADATA_KEY])
    if OLD_KEY in content:
        stored = json.loads(content[OLD_KEY])
        return {group: {key: stored.get(key) for key in keys} for group, keys in expected.items()}
    return None


def find_mismatches(expected: Metadata, stored: Metadata | None, groups: tuple[str, ...]) -> list[tuple[str, Any, Any]]:
    """Return (key, expected value, stored value) of the keys that differ where both sides are known.

    groups: names of the groups to compare; class names are unknown in recipes without data
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
    """Raise UserError if a checkpoint was trained with settings other than the recipe's.

    expected: of the recipe; stored: of the checkpoint; path: of the checkpoint
    """
    for key, value, other in find_mismatches(expected, stored, groups=tuple(expected)):
        advice = "Use the recipe it was trained with."
        if key == "classes":
            advice = "Set --data_dir to its data. To train on other classes, start from it with --pretrained_detector."
            pairs = enumerate(zip(value, other))
            label = next((label for label, names in pairs if names[0] != names[1]), None)
            if label is None:
                value, other = (f"{len(names)} class names with background" for names in (value, other))
            else:
                value, other = (f"{names[label]!r} as class {label}" for names in (value, other))
        raise UserError(
            f"{path}: {key}: it was trained with {_text(other)}, but the recipe has {_text(value)}. {advice}"
        )


def _text(value: Any) -> Any:
    return "no value" if value is None else value
