"""Find the labels of the classes that a user names."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from ..errors import UserError

_MAX_LISTED = 10  # names in a message


def find_labels(chosen: Sequence[str], classes: Sequence[str], category_ids: Sequence[int]) -> frozenset[int]:
    """Return the labels of the classes with the given names or category ids. The background cannot be chosen.

    chosen: class names or category ids, as text; a class with this name takes precedence over a category id
    classes: class names by label, background first
    category_ids: COCO category ids by label, 0 for the background
    Raises UserError with the most similar name if no class has a name or an id.
    """
    labels: set[int] = set()
    for text in chosen:
        found = {label for label in range(1, len(classes)) if classes[label] == text}
        if not found and text.isdecimal():
            found = {label for label in range(1, len(classes)) if category_ids[label] == int(text)}
        if not found:
            raise UserError(f"--classes: no class has the name or category id {text!r}. {_advice(text, classes[1:])}")
        labels |= found
    return frozenset(labels)


def _advice(text: str, names: Sequence[str]) -> str:
    """Return a sentence with the name that is most similar to a text, or else with the first names."""
    by_lower_case = {name.lower(): name for name in reversed(names)}
    similar = difflib.get_close_matches(text.lower(), by_lower_case, n=1)
    if similar:
        return f"Did you mean {by_lower_case[similar[0]]!r}?"
    listed = ", ".join(names[:_MAX_LISTED])
    return f"Choose from {listed}{', …' if len(names) > _MAX_LISTED else ''}."
