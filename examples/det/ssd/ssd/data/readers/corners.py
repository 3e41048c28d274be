"""Sort the corners of boxes that are stated as lower right and upper left corner."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

REVERSED_BOXES = "boxes with reversed corners, which are sorted"  # a kind of problem in the dataset report


def sort_corners(box_xywh: Sequence[float] | np.ndarray, where: str, problems: dict[str, list[str]]) -> list[float]:
    """Return a box whose width and height are not negative.

    box_xywh: x, y, width, height; a negative width means that x is the right edge, a negative height that y is the
        lower edge
    where: position in the annotations
    problems: {kind of problem: texts}; `where` is added if the width or height is negative
    """
    x, y, width, height = box_xywh
    if width < 0 or height < 0:
        problems.setdefault(REVERSED_BOXES, []).append(where)
    return [min(x, x + width), min(y, y + height), abs(width), abs(height)]
