"""Training splits without a box to train on: the message names the reasons with their counts."""

from pathlib import Path

import numpy as np
import pytest

from ssd.data.readers.annotations import EMPTY_BOXES, UNUSABLE_IMAGES, AnnotatedImage, DatasetSplit
from ssd.data.readers.usable_boxes import require_training_boxes
from ssd.errors import UserError


def split(*rows, size=(100, 200), crowds=0, problems=None):
    """Return a split with an image per list of boxes (y0, x0, y1, x1). crowds: number of crowd regions per image"""
    images = [
        AnnotatedImage(
            image_id=number,
            path=Path(f"/data/{number}.jpg"),
            size=size,
            ground_truth=np.array([[*box, 1] for box in boxes], dtype=np.float64).reshape(-1, 5),
            crowd_boxes=crowds,
        )
        for number, boxes in enumerate(rows)
    ]
    return DatasetSplit(
        Path("/data"), classes=["background", "a"], category_ids=[1], images=images, problems=problems or {}
    )


@pytest.mark.parametrize(
    "usable",
    [
        split([], [(0, 0, 1, 1)]),  # a pixel is enough
        split([(500, 500, 600, 600)], size=None),
        split([(-50, 0, 50, 50), (500, 0, 600, 50)], crowds=3),
        split([], problems={UNUSABLE_IMAGES: ["a.jpg: cannot be read"]}),  # these stop the conversion later
    ],
)
def test_a_single_usable_box_is_enough(usable):
    require_training_boxes(usable)


@pytest.mark.parametrize(
    "unusable, parts",
    [
        (split([], [], crowds=15), ["30 annotations", "iscrowd"]),
        (split([], [(0, 200, 50, 250), (-20, 0, 0, 50)]), ["2 boxes outside", "x 200 to 250", "1.jpg", "200x100"]),
        (split([(-20, -20, -5, -5)], size=None), ["1 box outside", "0.jpg"]),
        (split([(5, 5, 50, 5.5), (5, 5, 5, 50)]), ["2 boxes thinner"]),
        (split([(5, 5, 50, 5.5), (5, 300, 9, 350)], crowds=1), ["1 annotation ", "1 box outside", "1 box thinner"]),
        (split([], []), ["no objects"]),
        (split([], problems={EMPTY_BOXES: ["x", "y"]}), ["no objects", f"2 {EMPTY_BOXES}"]),
        (split(), ["no objects"]),
        (split([], problems={"images that are turned upright": ["x"]}), ["no objects. "]),  # is not the reason
    ],
)
def test_reasons_are_named_with_their_counts(unusable, parts):
    with pytest.raises(UserError, match="^/data: ") as caught:
        require_training_boxes(unusable)
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
