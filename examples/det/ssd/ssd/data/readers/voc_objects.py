"""Read the objects of Pascal VOC's XML files."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

from ...errors import UserError
from .corners import REVERSED_BOXES

CORNERS = ("xmin", "ymin", "xmax", "ymax")
FLAGS = ("difficult", "truncated", "occluded")


def read_object(element: ElementTree.Element, where: str, problems: dict[str, list[str]]) -> dict:
    """Parse an <object> element. <part> elements inside the object are ignored.

    where: position in the file, for messages
    problems: {kind of problem: texts}; a box whose corners are reversed is sorted, and added here

    Returns a dictionary with `name`, `bbox` (x, y, width, height in pixels from 0) and each of FLAGS (0 or 1).
    Raises UserError if the name or a corner of the box is missing.
    """
    name = (element.findtext("name") or "").strip()  # findtext finds only direct children, not the names of parts
    if not name:
        raise UserError(f"{where}: the class name is missing. Add a <name> element.")
    box = element.find("bndbox")
    corners = [read_number(box, corner) for corner in CORNERS]
    x0, y0, x1, y1 = corners
    if x0 is None or y0 is None or x1 is None or y1 is None:
        invalid = [tag for tag, value in zip(CORNERS, corners) if value is None]
        raise UserError(f"{where}: <bndbox> has no finite number for {', '.join(invalid)}. Correct the file.")
    # A difference of -1 is a box of zero size, because a box includes the pixels of both corners.
    if x1 < x0 - 1 or y1 < y0 - 1:
        problems.setdefault(REVERSED_BOXES, []).append(where)
        x0, x1 = (x1, x0) if x1 < x0 - 1 else (x0, x1)
        y0, y1 = (y1, y0) if y1 < y0 - 1 else (y0, y1)
    flags = {flag: int((element.findtext(flag) or "0").strip().lower() in ("1", "true")) for flag in FLAGS}
    return {"name": name, "bbox": [x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1], **flags}


def read_number(element: ElementTree.Element | None, tag: str) -> float | None:
    """Return the number in the child element `tag`; None if the child is missing or not a finite number."""
    text = None if element is None else element.findtext(tag)
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
