"""Box conversions, areas and IoUs against hand-computed numbers."""

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

# The same two boxes in each format: 40 high and 20 wide with the corner at y 10, x 30; and a point.
YXYX = np.array([[10.0, 30.0, 50.0, 50.0], [3.0, 4.0, 3.0, 4.0]])
CYXHW = np.array([[30.0, 40.0, 40.0, 20.0], [3.0, 4.0, 0.0, 0.0]])
XYWH = np.array([[30.0, 10.0, 20.0, 40.0], [4.0, 3.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    "convert, boxes, expected",
    [
        (cyxhw_to_yxyx, CYXHW, YXYX),
        (yxyx_to_cyxhw, YXYX, CYXHW),
        (xywh_to_yxyx, XYWH, YXYX),
        (yxyx_to_xywh, YXYX, XYWH),
    ],
)
def test_conversions_of_any_shape(convert, boxes, expected):
    np.testing.assert_array_equal(convert(boxes), expected)
    np.testing.assert_array_equal(convert(boxes[0]), expected[0])  # one box
    np.testing.assert_array_equal(convert(boxes[None]), expected[None])  # a batch
    assert convert(boxes[:0]).shape == (0, 4)
    assert convert(boxes.astype(np.float32)).dtype == np.float32


def test_area_is_0_if_a_side_is_negative():
    # 2 by 3; one negative side; two negative sides, whose product is positive; a point
    boxes_yxyx = np.array([[0, 0, 2, 3], [2, 0, 0, 3], [2, 3, 0, 0], [1, 1, 1, 1]])
    assert box_area(boxes_yxyx).tolist() == [6, 0, 0, 0]


def test_clip_distinguishes_height_and_width():
    boxes_yxyx = np.array([[-5.0, -6.0, 500.0, 600.0], [1.0, 2.0, 3.0, 4.0], [150.0, 250.0, 160.0, 260.0]])
    # In an image of height 100 and width 200 the first box is clipped, the second stays, the third becomes a point.
    expected = [[0, 0, 100, 200], [1, 2, 3, 4], [100, 200, 100, 200]]
    assert clip_boxes(boxes_yxyx, 100, 200).tolist() == expected
    assert clip_boxes(boxes_yxyx.astype(np.float32), 100, 200).dtype == np.float32


def test_hand_computed_ious():
    boxes_yxyx = np.array([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
    others_yxyx = np.array([
        [0, 0, 2, 2],  # the first box: 4/4
        [1, 1, 3, 3],  # intersection 1, union 4 + 4 - 1
        [0, 0, 1, 2],  # half of the first box: 2/4
        [2, 0, 4, 2],  # touches the first box
        [3, 3, 4, 4],  # apart along both axes: two negative sides do not make a positive intersection
        [1, 1, 1, 1],  # a point: IoU 0, with itself too, not 0/0
    ])  # fmt: skip
    expected = [[1, 1 / 7, 0.5, 0, 0, 0], [0, 0, 0, 0, 0, 0]]
    np.testing.assert_allclose(pairwise_iou(boxes_yxyx, others_yxyx), expected)
    iou = pairwise_iou(boxes_yxyx.astype(np.float32), others_yxyx.astype(np.float32))
    np.testing.assert_allclose(iou, expected, rtol=1e-6)
    assert iou.dtype == np.float32


def test_iou_of_no_boxes():
    empty, two = np.zeros((0, 4)), np.ones((2, 4))
    assert pairwise_iou(empty, two).shape == (0, 2)
    assert pairwise_iou(two, empty).shape == (2, 0)
