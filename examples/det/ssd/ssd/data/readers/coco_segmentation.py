"""Compute bounding boxes of COCO segmentations: polygons, and masks as compressed or uncompressed run lengths."""

from __future__ import annotations

import numpy as np
from pycocotools import mask as coco_mask


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
    except (ValueError, TypeError, KeyError, OverflowError):
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

    Raises ValueError or TypeError if the values are not a mask.
    """
    height, width = (int(side) for side in size)
    if not (0 < height < 2**31 and 0 < width < 2**31):
        raise ValueError("the size is not positive")
    if isinstance(counts, str):
        encoded = counts.encode("ascii")
        # pycocotools reads beyond the end of a text whose last character announces another one.
        if not encoded or not all(48 <= code < 112 for code in encoded) or (encoded[-1] - 48) & 0x20:
            raise ValueError("the compressed run lengths are damaged")
        mask = {"size": [height, width], "counts": encoded}
    else:
        lengths = [int(length) for length in counts]
        if min(lengths, default=0) < 0 or sum(lengths) > height * width:
            raise ValueError("the run lengths do not fit the size")
        mask = coco_mask.frPyObjects({"size": [height, width], "counts": lengths}, height, width)
    if not 0 <= int(coco_mask.area(mask)) <= height * width:
        raise ValueError("the run lengths do not fit the size")
    box = coco_mask.toBbox(mask).tolist() if coco_mask.area(mask) else [0.0, 0.0, 0.0, 0.0]
    if box[0] + box[2] > width or box[1] + box[3] > height:
        raise ValueError("the run lengths do not fit the size")
    return box
