"""Draw boxes on plain images, and measure the result."""

import numpy as np

from ssd.inference.drawing import draw_detections

CLASSES = ("background", "cat", "dog", "bird")
GREY = (128, 128, 128)


def blank(height, width):
    return np.full((height, width, 3), GREY, np.uint8)


def changed_region(before, after):
    """Return (y0, x0, y1, x1) of the smallest rectangle with all changed pixels, None if there are none."""
    rows, columns = np.nonzero((before != after).any(axis=2))
    return (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1) if len(rows) else None


def mask_of(image, color):
    """Return an (H, W) bool mask of the pixels of a colour."""
    return (image == color).all(axis=2)


def draw_one(image, box, score=0.5, label=1, classes=CLASSES):
    return draw_detections(
        image,
        boxes_yxyx=np.array([box], np.float32),
        scores=np.array([score], np.float32),
        labels=np.array([label], np.int32),
        classes=classes,
    )


def luminance(pixel):
    """Return the relative luminance of an sRGB pixel, as WCAG 2 defines it."""
    value = pixel / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
