"""Objects that no anchor reaches: by overlap, and by the bounds of what is possible at all."""

import numpy as np
import pytest

from ssd.boxes.ops import cyxhw_to_yxyx
from ssd.data.inspection.anchor_recall import CHUNK, AnchorSet, beyond_any_anchor, not_recalled

# One anchor of 100x100 pixels in the middle of an input of 200x200, and one of 20x40 (height, width) at its corner.
RECIPE = AnchorSet(np.array([[0.25, 0.25, 0.75, 0.75], [0, 0, 0.1, 0.2]]), (200, 200))


def test_reach_is_iou_above_the_bound():
    half = [0.25, 0.25, 0.75, 0.5]  # IoU of exactly 0.5 is not above
    more = [0.25, 0.25, 0.75, 0.505]
    assert not_recalled(np.array([half, more, [0.9, 0.9, 1, 1]]), RECIPE).tolist() == [True, False, True]
    assert not_recalled(np.zeros((0, 4)), RECIPE).tolist() == []


def test_any_number_of_objects_gives_what_each_gives():
    corners = np.random.default_rng(0).random((2 * CHUNK + 7, 2)) / 2
    boxes = np.concatenate([corners, corners + 0.4], axis=1)
    together = not_recalled(boxes, RECIPE)
    assert together.any() and not together.all()
    assert together.tolist() == [not_recalled(box[None], RECIPE)[0] for box in boxes]


def box(height, width):
    """Of so many pixels, in the middle of the input of 200x200."""
    return cyxhw_to_yxyx(np.array([[0.5, 0.5, height / 200, width / 200]]))


@pytest.mark.parametrize(
    "height, width, small, long",
    [
        (20, 20.1, False, False),  # half the area of 20x40 is 400
        (20, 19.9, True, False),
        (20, 89, False, False),  # 2.25 times as long as 20x40 is a ratio of 4.5
        (20, 91, False, True),
        (89, 40, False, False),  # 2.25 times as tall as the square is 0.444, 40 over 90
        (91, 40, False, True),
        (5, 50, True, True),
    ],
)
def test_bounds_by_hand(height, width, small, long):
    assert [flags.tolist() for flags in beyond_any_anchor(box(height, width), RECIPE)] == [[small], [long]]


def test_the_bound_of_length_is_tight():
    """A square of 60, and a box of its area and 2.25 times its ratio, 40x90: 40 * 60 / (2 * 3600 - 2400) is 0.5."""
    square = AnchorSet(box(60, 60), (200, 200))
    assert not_recalled(box(40.1, 90), square).tolist() == [False] and not_recalled(box(39.9, 90), square).tolist() == [
        True
    ]


@pytest.mark.parametrize("min_iou", [0.3, 0.5, 0.7])
def test_what_is_reached_is_never_called_out_of_reach(min_iou):
    rng = np.random.default_rng(0)
    recipe = AnchorSet(box(60, 80), (200, 200), min_iou)
    sides = 200 * np.exp(rng.normal(-1, 0.5, (20000, 2)))
    boxes = cyxhw_to_yxyx(np.concatenate([0.5 + rng.normal(0, 0.02, (20000, 2)), sides / 200], axis=1))
    reached = ~not_recalled(boxes, recipe)
    small, long = beyond_any_anchor(boxes, recipe)
    assert reached.sum() > 100 and small.sum() > 100 and long.sum() > 100
    assert not (reached & (small | long)).any()
