"""YAML files and overrides as plain dictionaries, before anyone asks what their keys mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ..errors import UserError


def read_recipe(path: Path, above: tuple[Path, ...] = ()) -> dict:
    """A YAML file merged over its `__BASE__` files: the later base beats the earlier, the file itself beats them all.

    above: the files that have this one as a base
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: got {error.strerror.lower()}, expected a YAML recipe; check --config") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: got {' '.join(str(error).split())}, expected YAML; mend the file") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: got {type(values).__name__}, expected `key: value` lines")
    bases = values.pop("__BASE__", [])
    bases = [bases] if isinstance(bases, str) else bases
    above = (*above, path.resolve())
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise UserError(f"{path}: got __BASE__ {bases!r}, expected a list of files; mend the file")
    for base in bases:
        if (path.parent / base).resolve() in above:
            raise UserError(
                f"{path}: got __BASE__ {base!r}, expected a file that is not based on this one; mend the file"
            )
    return merge(*(read_recipe(path.parent / base, above) for base in bases), values)


def merge(*layers: dict) -> dict:
    """Dictionaries merged key by key, the later over the earlier, nested ones too."""
    merged: dict = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, dict) and isinstance(merged.get(key), dict)
            merged[key] = merge(merged[key], value) if both else value
    return merged


def nest(overrides: dict[str, Any]) -> dict:
    """{"a.b": 1} to {"a": {"b": 1}}."""
    nested: dict = {}
    for name, value in overrides.items():
        for key in reversed(name.split(".")):
            value = {key: value}
        nested = merge(nested, value)
    return nested
