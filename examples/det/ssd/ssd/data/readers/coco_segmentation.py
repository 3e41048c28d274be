"""Compute bounding boxes of COCO segmentations: polygons, and masks as compressed or uncompressed run lengths."""

from __future__ import annotations

import numpy as np

MAX_BITS = 70  # of a number in compressed run lengths; pycocotools keeps 64


def segmentation_box(segmentation: object) -> list[float] | None:
    """Return the bounding box of a segmentation as x, y, width, height in pixels.

    segmentation: value of the key `segmentation`: a list of polygons, a single polygon, or a mask as run lengths
    Returns None if the value is not a segmentation. A mask without pixels has the box 0, 0, 0, 0.
    """
    try:
        if isinstance(segmentation, list):
            return _polygon_box(segmentation)
        if isinstance(segmentation, dict):
            return _mask_box(segmentation["counts"], segmentation["size"])
    except (ValueError, TypeError, LookupError, OverflowError):
        pass
    return None


def _polygon_box(polygons: list) -> list[float]:
    """Return the bounding box of polygons, each a list x, y, x, y, … Raises ValueError or TypeError if invalid."""
    parts = polygons if all(isinstance(polygon, list) for polygon in polygons) else [polygons]
    points = np.concatenate([np.array(polygon, dtype=np.float64).reshape(-1, 2) for polygon in parts])
    if len(points) < 2 or not np.isfinite(points).all():
        raise ValueError("a polygon has at least two finite points")
    return [*points.min(axis=0).tolist(), *np.ptp(points, axis=0).tolist()]


def _mask_box(counts: str | list, size: list) -> list[float]:
    """Return the bounding box of a mask.

    counts: lengths of alternating runs of 0 and 1 down the columns; a list, or COCO's compressed text
    size: [height, width] in pixels

    Raises ValueError, TypeError, IndexError or OverflowError if the values are not a mask.
    """
    height, width = (int(side) for side in size)
    lengths = _decode_run_lengths(counts) if isinstance(counts, str) else [int(length) for length in counts]
    if min(height, width) <= 0 or height * width >= 2**62 or min(lengths) < 0 or sum(lengths) > height * width:
        raise ValueError("the run lengths do not fit the size")
    ends = np.cumsum(lengths)[1::2]
    runs = np.stack([ends - lengths[1::2], ends - 1], axis=1)[np.array(lengths[1::2]) > 0]  # first and last pixel
    if not len(runs):
        return [0.0, 0.0, 0.0, 0.0]
    columns, rows = np.divmod(runs, height)
    x0, x1 = columns.min(), columns.max() + 1
    spans_columns = (columns[:, 0] < columns[:, 1]).any()  # such a run covers the last row and the first one
    y0, y1 = (0, height) if spans_columns else (rows.min(), rows.max() + 1)
    return [float(x0), float(y0), float(x1 - x0), float(y1 - y0)]


def _decode_run_lengths(text: str) -> list[int]:
    """Decode compressed run lengths, as `rleFrString` of pycocotools does, which crashes on damaged text.

    A number has five bits per character, the lowest first. A sixth bit marks that another character follows, and the
    highest bit of the last character is the sign. From the fourth number on, the difference to the number before the
    last one is stored.

    Raises IndexError if the last character announces another one, or ValueError if a number is too long.
    """
    lengths: list[int] = []
    position = 0
    while position < len(text):
        value, bits, has_more = 0, 0, True
        while has_more:
            code = ord(text[position]) - 48
            value |= (code & 0x1F) << bits
            bits += 5
            position += 1
            if bits > MAX_BITS:  # shifting ever longer numbers would take hours
                raise ValueError("a run length has too many digits")
            has_more = bool(code & 0x20)
        if code & 0x10:
            value -= 1 << bits
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
    return lengths
