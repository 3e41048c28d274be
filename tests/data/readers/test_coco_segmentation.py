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
        ({"size": [10, 20], "counts": [100, 0, 100]}, [0, 0, 0, 0]),
    ],
)
def test_boxes_by_hand(segmentation, expected):
    assert segmentation_box(segmentation) == expected


@pytest.mark.parametrize("seed", range(20))
def test_masks_in_both_encodings_have_the_box_of_their_pixels(seed):
    rng = np.random.default_rng(seed)
    pixels = np.zeros(rng.integers(1, 200, 2), np.uint8, order="F")
    height, width = pixels.shape
    for _ in range(rng.integers(1, 4)):
        y0, x0 = rng.integers(0, height), rng.integers(0, width)
        pixels[y0 : y0 + rng.integers(1, 60), x0 : x0 + rng.integers(1, 60)] = 1
    rows, columns = np.nonzero(pixels)
    expected = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
    compressed = coco_mask.encode(pixels)
    assert coco_mask.toBbox(compressed).tolist() == expected
    assert segmentation_box({"size": [height, width], "counts": compressed["counts"].decode()}) == expected
    starts = np.flatnonzero(np.diff(pixels.ravel(order="F"), prepend=0, append=2))
    counts = np.diff(starts, prepend=0).tolist()  # the first run is of zeros, and may be empty
    assert segmentation_box({"size": [height, width], "counts": counts}) == expected


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
        {"size": [10, 20], "counts": []},
        {"size": [-10, -20], "counts": [100, 10]},
        {"size": [2**40, 2**40], "counts": [100, 10]},
    ],
)
def test_other_values_have_no_box(segmentation):
    assert segmentation_box(segmentation) is None
