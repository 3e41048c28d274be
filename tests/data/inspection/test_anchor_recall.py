"""Boxes that no anchor recalls: by their IoU, and by the limits of area and aspect ratio."""

import numpy as np
import pytest

from ssd.boxes.ops import cyxhw_to_yxyx
from ssd.data.inspection.anchor_recall import CHUNK_SIZE, AnchorSet, not_recalled, too_small_or_elongated

# One anchor of 100x100 pixels in the middle of an input of 200x200, and one of 20x40 (height, width) at its corner.
ANCHORS = AnchorSet(np.array([[0.25, 0.25, 0.75, 0.75], [0, 0, 0.1, 0.2]]), (200, 200))


def test_recalled_means_iou_above_the_threshold():
    half = [0.25, 0.25, 0.75, 0.5]  # an IoU of exactly 0.5 is not above it
    more = [0.25, 0.25, 0.75, 0.505]
    assert not_recalled(np.array([half, more, [0.9, 0.9, 1, 1]]), ANCHORS).tolist() == [True, False, True]
    assert not_recalled(np.zeros((0, 4)), ANCHORS).tolist() == []


def test_many_boxes_give_the_same_as_single_boxes():
    corners = np.random.default_rng(0).random((2 * CHUNK_SIZE + 7, 2)) / 2
    boxes = np.concatenate([corners, corners + 0.4], axis=1)
    together = not_recalled(boxes, ANCHORS)
    assert together.any() and not together.all()
    assert together.tolist() == [not_recalled(box[None], ANCHORS)[0] for box in boxes]


def box(height, width):
    """Return a box with sides in pixels, in the middle of the input of 200x200."""
    return cyxhw_to_yxyx(np.array([[0.5, 0.5, height / 200, width / 200]]))


@pytest.mark.parametrize(
    "height, width, too_small, too_elongated",
    [
        (20, 20.1, False, False),  # half the area of 20x40 is 400 pixels
        (20, 19.9, True, False),
        (20, 89, False, False),  # 2.25 times the ratio of 20x40 is 4.5
        (20, 91, False, True),
        (89, 40, False, False),  # the ratio of the square over 2.25 is 0.444, that is 40 over 90
        (91, 40, False, True),
        (5, 50, True, True),
    ],
)
def test_limits_by_hand(height, width, too_small, too_elongated):
    assert [flags.tolist() for flags in too_small_or_elongated(box(height, width), ANCHORS)] == [
        [too_small],
        [too_elongated],
    ]


def test_limit_of_the_aspect_ratio_is_tight():
    """A 60x60 square and a 40x90 box, of equal area and 2.25 times the ratio: IoU = 2400 / (2 * 3600 - 2400) = 0.5."""
    square = AnchorSet(box(60, 60), (200, 200))
    assert not_recalled(box(40.1, 90), square).tolist() == [False]
    assert not_recalled(box(39.9, 90), square).tolist() == [True]


@pytest.mark.parametrize("min_iou", [0.3, 0.5, 0.7])
def test_recalled_boxes_are_within_the_limits(min_iou):
    rng = np.random.default_rng(0)
    anchor_set = AnchorSet(box(60, 80), (200, 200), min_iou)
    sides = 200 * np.exp(rng.normal(-1, 0.5, (20000, 2)))
    boxes = cyxhw_to_yxyx(np.concatenate([0.5 + rng.normal(0, 0.02, (20000, 2)), sides / 200], axis=1))
    recalled = ~not_recalled(boxes, anchor_set)
    too_small, too_elongated = too_small_or_elongated(boxes, anchor_set)
    assert recalled.sum() > 100 and too_small.sum() > 100 and too_elongated.sum() > 100
    assert not (recalled & (too_small | too_elongated)).any()
