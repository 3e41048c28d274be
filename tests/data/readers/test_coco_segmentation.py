"""Bounding boxes of polygons and masks."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from ssd.data.readers.coco_segmentation import segmentation_box


@pytest.mark.parametrize(
    "segmentation, expected",
    [
        ([[3, 4, 33, 4, 33, 24.5]], [3, 4, 30, 20.5]),
        ([[10, 10, 12, 10, 12, 15], [1, 20, 2, 20, 2, 22]], [1, 10, 11, 12]),  # two parts of one object
        ([3, 4, 33, 4, 33, 24], [3, 4, 30, 20]),  # a single polygon without the list around it
        ([["3", "4", "33", "4", "33", "24"]], [3, 4, 30, 20]),
        # Height 10: column 1, rows 5 to 9, and column 2, rows 0 to 1.
        ({"size": [10, 20], "counts": [15, 7, 178]}, [1, 0, 2, 10]),
        ({"size": [10, 20], "counts": [15, 3]}, [1, 5, 1, 3]),  # without the last run
        ({"size": [10, 20], "counts": [200]}, [0, 0, 0, 0]),  # no pixels
    ],
)
def test_boxes_by_hand(segmentation, expected):
    assert segmentation_box(segmentation) == expected


def test_masks_of_pixels_in_both_encodings():
    pixels = np.zeros((40, 30), np.uint8, order="F")
    pixels[5:25, 7:19] = 1
    pixels[30, 3] = 1
    compressed = coco_mask.encode(pixels)
    runs = np.flatnonzero(np.diff(np.concatenate([[0], pixels.ravel(order="F"), [-1]])))
    counts = np.diff(np.concatenate([[0], runs])).tolist()
    expected = [3, 5, 16, 26]
    assert segmentation_box({"size": [40, 30], "counts": compressed["counts"].decode()}) == expected
    assert segmentation_box({"size": [40, 30], "counts": counts}) == expected


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        "x",
        5,
        [],
        [[]],
        {},
        [[1, 2]],
        [[1, 2, 3]],
        [[1, 2, None, 4]],
        [[1, 2, float("nan"), 4]],
        [{"x": 1}],
        {"counts": [5]},
        {"size": [10, 20]},
        {"size": [0, 0], "counts": [5]},
        {"size": [10], "counts": [5]},
        {"size": [10, 20], "counts": [-5, 10]},
        {"size": [10, 20], "counts": [100, 200]},  # more pixels than the mask has
        {"size": [10, 20], "counts": [10**30, 5]},
        {"size": [10, 20], "counts": ["x"]},
        {"size": [10, 20], "counts": None},
        {"size": [10, 20], "counts": ""},
        {"size": [10, 20], "counts": "Käfer"},
        {"size": [10, 20], "counts": "0P"},  # the last character announces another one
        {"size": [10, 20], "counts": "oooO" * 9},
    ],
)
def test_other_values_have_no_box(segmentation):
    assert segmentation_box(segmentation) is None
