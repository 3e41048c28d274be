"""What the test suites of torchvision and detectron2 check of box operations, NMS, coder, matcher and default boxes.

The cases are rewritten for our box formats; the expected numbers are theirs, or computed by hand.
"""

import numpy as np
import pytest
from greedy_nms import greedy_nms

from ssd.boxes import matcher as matcher_module
from ssd.boxes.anchors import DefaultBoxes
from ssd.boxes.coder import BoxCoder
from ssd.boxes.matcher import Matcher
from ssd.boxes.nms import hard_nms
from ssd.boxes.ops import (
    box_area,
    clip_boxes,
    cyxhw_to_yxyx,
    pairwise_iou,
    xywh_to_yxyx,
    yxyx_to_cyxhw,
    yxyx_to_xywh,
)

# Four boxes of torchvision's conversion tests, one of them a point, in all formats
XYXY = np.array([[0, 0, 100, 100], [0, 0, 0, 0], [10, 15, 30, 35], [23, 35, 93, 95]], np.float32)
XYWH = np.array([[0, 0, 100, 100], [0, 0, 0, 0], [10, 15, 20, 20], [23, 35, 70, 60]], np.float32)
CXCYWH = np.array([[50, 50, 100, 100], [0, 0, 0, 0], [20, 25, 20, 20], [58, 65, 70, 60]], np.float32)
# Three large boxes with IoUs near 1
NEAR = np.array([
    [285.3538, 185.5758, 1193.5110, 851.4551],
    [285.1472, 188.7374, 1192.4984, 851.0669],
    [279.2440, 197.9812, 1189.4746, 849.2019],
])  # fmt: skip


def swap(boxes):
    """Swap x and y: turn (x0, y0, x1, y1) into (y0, x0, y1, x1), or (cx, cy, w, h) into (cy, cx, h, w)."""
    return np.asarray(boxes)[..., [1, 0, 3, 2]]


def test_box_conversions_of_torchvision():
    yxyx, cyxhw = swap(XYXY), swap(CXCYWH)
    np.testing.assert_array_equal(yxyx_to_xywh(yxyx), XYWH)
    np.testing.assert_array_equal(xywh_to_yxyx(XYWH), yxyx)
    np.testing.assert_array_equal(yxyx_to_cyxhw(yxyx), cyxhw)
    np.testing.assert_array_equal(cyxhw_to_yxyx(cyxhw), yxyx)
    np.testing.assert_array_equal(yxyx_to_cyxhw(xywh_to_yxyx(XYWH)), cyxhw)
    np.testing.assert_array_equal(yxyx_to_xywh(cyxhw_to_yxyx(cyxhw)), XYWH)


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 0.1), (np.float64, 1e-4)])
def test_areas_of_torchvision(dtype, tolerance):
    expected = [604723.0806, 600965.4666, 592761.0085]
    np.testing.assert_allclose(box_area(NEAR.astype(dtype)), expected, rtol=0, atol=tolerance)
    assert box_area(np.array([[0, 0, 100, 100], [0, 0, 0, 0]])).tolist() == [10000, 0]


def test_ious_of_torchvision():
    boxes = np.array([[0, 0, 100, 100], [0, 0, 50, 50], [200, 200, 300, 300], [0, 0, 25, 25]])
    expected = [[1, 0.25, 0], [0.25, 1, 0], [0, 0, 1], [0.0625, 0.25, 0]]
    np.testing.assert_array_equal(pairwise_iou(boxes, boxes[:3]), expected)
    near = [[1, 0.9933, 0.9673], [0.9933, 1, 0.9737], [0.9673, 0.9737, 1]]
    for dtype in (np.float32, np.float64):
        np.testing.assert_allclose(pairwise_iou(NEAR.astype(dtype), NEAR.astype(dtype)), near, rtol=0, atol=1e-4)


def test_ious_of_two_sets_are_those_of_their_pairs():
    rng = np.random.default_rng(0)
    low = rng.random((12, 2))
    boxes = np.concatenate([low, low + rng.random((12, 2))], axis=1)
    pairs = [[pairwise_iou(one[None], other[None])[0, 0] for other in boxes[5:]] for one in boxes[:5]]
    np.testing.assert_array_equal(pairwise_iou(boxes[:5], boxes[5:]), pairs)


def test_boxes_of_detectron2_are_clipped_to_the_image():
    """detectron2 checks each side of a box that reaches beyond one edge. Height 7, width 10."""
    boxes_xyxy = [[-5, 2, 3, 5], [2, -5, 3, 5], [8, 2, 15, 5], [2, 5, 3, 15], [-5, -5, 15, 15], [12, 9, 15, 15]]
    expected = [[0, 2, 3, 5], [2, 0, 3, 5], [8, 2, 10, 5], [2, 5, 3, 7], [0, 0, 10, 7], [10, 7, 10, 7]]
    np.testing.assert_array_equal(clip_boxes(swap(boxes_xyxy).astype(np.float32), 7, 10), swap(expected))


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("seed", range(3))
def test_nms_with_an_iou_barely_above_the_threshold(seed, threshold):
    rng = np.random.default_rng(seed)
    low = rng.random((300, 2)) * 100
    boxes, scores = np.concatenate([low, low + rng.random((300, 2)) * 100], axis=1), rng.random(300)
    iou = threshold + 1e-5
    boxes[-1] = boxes[0]
    boxes[-1, 3] += (boxes[0, 3] - boxes[0, 1]) * (1 - iou) / iou  # wider: the IoU with the first box is `iou`
    assert pairwise_iou(boxes[:1], boxes[-1:])[0, 0] == pytest.approx(iou)
    kept = hard_nms(boxes, scores, np.ones(300, int), iou_threshold=threshold, max_detections=300)
    assert kept.tolist() == greedy_nms(boxes, scores, np.ones(300, int), iou_threshold=threshold)


def test_nms_of_near_boxes_keeps_the_best():
    kept = hard_nms(NEAR, np.array([0.6370, 0.7569, 0.3966]), np.ones(3, int), iou_threshold=0.2, max_detections=3)
    assert kept.tolist() == [1]


def test_nms_of_classes_is_that_of_boxes_moved_apart():
    """torchvision's two implementations of batched NMS: one class at a time, or all with an offset for each class."""
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.random((300, 2)), rng.random((300, 2)) + 10], axis=1)
    scores, labels = rng.random(300), rng.integers(1, 5, 300)
    kept = hard_nms(boxes, scores, labels, iou_threshold=0.9, max_detections=300)
    moved = boxes + labels[:, None] * 20.0
    assert len(set(labels[kept])) == 4 and kept.tolist() == greedy_nms(
        moved, scores, np.ones(len(moved), int), iou_threshold=0.9
    )


def test_the_coder_inverts_random_boxes():
    """The tests of torchvision and detectron2 encode boxes relative to others, decode, and compare."""
    rng = np.random.default_rng(0)
    low = rng.random((10, 2)) * 0.5
    anchors = yxyx_to_cyxhw(np.concatenate([low, low + 0.02 + rng.random((10, 2)) * 0.4], axis=1))
    boxes = np.tile([0.1, 0.2, 0.7, 0.9], (10, 1))
    coder = BoxCoder()
    np.testing.assert_allclose(coder.decode(coder.encode(boxes, anchors), anchors), boxes, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(coder.encode(cyxhw_to_yxyx(anchors), anchors).round(12), np.zeros((10, 4)))


def test_the_matches_of_detectron2(monkeypatch):
    """Three objects and four anchors. The best anchors of the third object belong to the other objects. detectron2 then
    gives it none; we give it its best free anchor, the third."""
    iou = np.array([[0.15, 0.45, 0.2, 0.6], [0.3, 0.65, 0.05, 0.1], [0.05, 0.4, 0.25, 0.4]])
    monkeypatch.setattr(matcher_module, "pairwise_iou", lambda *_: iou.copy())
    found = Matcher(threshold=0.5).match(np.zeros((3, 4)), np.zeros((4, 4)))
    assert found.tolist() == [-1, 1, 2, 0]
    # With a threshold of 0.3, the second anchor goes to the object with the highest IoU, as there.
    assert Matcher(threshold=0.29).match(np.zeros((3, 4)), np.zeros((4, 4))).tolist() == [1, 1, 2, 0]


def test_the_default_boxes_of_torchvision():
    """One location of an image of 15x15 pixels, scale 0.15 and next scale 0.9, aspect ratio 2. The order differs:
    torchvision has the square of the mean scale second, and we have it last."""
    expected_xyxy = [
        [6.3750, 6.3750, 8.6250, 8.6250],
        [5.9090, 6.7045, 9.0910, 8.2955],
        [6.7045, 5.9090, 8.2955, 9.0910],
        [4.7443, 4.7443, 10.2557, 10.2557],
    ]
    anchors = DefaultBoxes((15, 15), [15], min_scale=0, max_scale=0, aspect_ratios=[[2]], box_sizes=[2.25, 13.5])
    np.testing.assert_allclose(anchors.boxes_yxyx * 15, swap(expected_xyxy), rtol=0, atol=5e-5)


def test_the_centers_of_torchvision_s_grid():
    """A map of 5x10 locations has its centers at half steps, x fastest."""
    anchors = DefaultBoxes((50, 100), [10], min_scale=0.1, max_scale=0.9, aspect_ratios=[[2]])
    centers = (anchors.boxes_cyxhw[::4, :2] * [50, 100]).reshape(5, 10, 2)
    np.testing.assert_allclose(centers[0, :, 1], 10 * np.arange(10) + 5, rtol=1e-6)
    np.testing.assert_allclose(centers[:, 3, 0], 10 * np.arange(5) + 5, rtol=1e-6)
    assert anchors.feature_sizes == [(5, 10)]
