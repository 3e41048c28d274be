"""Conversions and overlaps on numbers small enough to check by eye."""

import numpy as np
import pytest

from ssd.boxes.ops import (
    box_area,
    clip_boxes,
    cyxhw_to_yxyx,
    pairwise_iou,
    xywh_to_yxyx,
    yxyx_to_cyxhw,
    yxyx_to_xywh,
)

# The same two boxes in each form: 40 high and 20 wide with its corner at y 10, x 30; and a point.
YXYX = np.array([[10.0, 30.0, 50.0, 50.0], [3.0, 4.0, 3.0, 4.0]])
CYXHW = np.array([[30.0, 40.0, 40.0, 20.0], [3.0, 4.0, 0.0, 0.0]])
XYWH = np.array([[30.0, 10.0, 20.0, 40.0], [4.0, 3.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    "convert, given, expected",
    [
        (cyxhw_to_yxyx, CYXHW, YXYX),
        (yxyx_to_cyxhw, YXYX, CYXHW),
        (xywh_to_yxyx, XYWH, YXYX),
        (yxyx_to_xywh, YXYX, XYWH),
    ],
)
def test_conversions_and_their_shapes(convert, given, expected):
    np.testing.assert_array_equal(convert(given), expected)
    np.testing.assert_array_equal(convert(given[0]), expected[0])  # one box
    np.testing.assert_array_equal(convert(given[None]), expected[None])  # a batch
    assert convert(given[:0]).shape == (0, 4)
    assert convert(given.astype(np.float32)).dtype == np.float32


def test_area_is_zero_for_a_negative_side():
    # 2 x 3; one side negative; both negative, whose product alone would be positive; no extent
    boxes_yxyx = np.array([[0, 0, 2, 3], [2, 0, 0, 3], [2, 3, 0, 0], [1, 1, 1, 1]])
    assert box_area(boxes_yxyx).tolist() == [6, 0, 0, 0]


def test_clip_knows_height_from_width():
    boxes_yxyx = np.array([[-5.0, -6.0, 500.0, 600.0], [1.0, 2.0, 3.0, 4.0], [150.0, 250.0, 160.0, 260.0]])
    # In an image of height 100 and width 200: cut to it, left alone, pressed to a point in its corner.
    expected = [[0, 0, 100, 200], [1, 2, 3, 4], [100, 200, 100, 200]]
    assert clip_boxes(boxes_yxyx, 100, 200).tolist() == expected
    assert clip_boxes(boxes_yxyx.astype(np.float32), 100, 200).dtype == np.float32


def test_iou_by_hand():
    boxes_yxyx = np.array([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
    others_yxyx = np.array([
        [0, 0, 2, 2],  # itself: 4/4
        [1, 1, 3, 3],  # 1 shared of 4 + 4 - 1
        [0, 0, 1, 2],  # half of it: 2/4
        [2, 0, 4, 2],  # they touch
        [3, 3, 4, 4],  # apart in both directions: two negative sides are no overlap
        [1, 1, 1, 1],  # a point: 0, and 0 with itself too, not 0/0
    ])  # fmt: skip
    expected = [[1, 1 / 7, 0.5, 0, 0, 0], [0, 0, 0, 0, 0, 0]]
    np.testing.assert_allclose(pairwise_iou(boxes_yxyx, others_yxyx), expected)


def test_iou_of_no_boxes():
    none, two = np.zeros((0, 4)), np.ones((2, 4))
    assert pairwise_iou(none, two).shape == (0, 2)
    assert pairwise_iou(two, none).shape == (2, 0)
