"""Properties of box operations: round trips, symmetry, limits, and invariance to order, translation and batching."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from box_strategies import boxes, permutations
from ssd.boxes.ops import (
    box_area,
    clip_boxes,
    cyxhw_to_yxyx,
    pairwise_iou,
    xywh_to_yxyx,
    yxyx_to_cyxhw,
    yxyx_to_xywh,
)

COORDINATE = 1e9  # pixels; annotation readers refuse larger ones
anything = arrays(np.float32, (3, 4), elements=st.floats(-COORDINATE, COORDINATE, width=32))


@given(boxes())
def test_conversions_are_inverse(corners):
    np.testing.assert_allclose(cyxhw_to_yxyx(yxyx_to_cyxhw(corners)), corners, atol=1e-12)
    np.testing.assert_allclose(xywh_to_yxyx(yxyx_to_xywh(corners)), corners, atol=1e-12)
    xywh = yxyx_to_xywh(corners)
    np.testing.assert_allclose(box_area(corners), xywh[:, 2] * xywh[:, 3], atol=1e-12)


@given(boxes(), boxes())
def test_iou_is_symmetric_and_a_share(first, second):
    iou = pairwise_iou(first, second)
    np.testing.assert_array_equal(iou, pairwise_iou(second, first).T)
    assert iou.shape == (len(first), len(second)) and (iou >= 0).all() and (iou <= 1 + 1e-12).all()
    shared = np.minimum(box_area(first)[:, None], box_area(second))
    assert (iou * np.maximum(box_area(first)[:, None], box_area(second)) <= shared + 1e-12).all()


@given(boxes(min_side=1 / 8))
def test_a_box_has_iou_1_with_itself_and_0_with_its_neighbor(corners):
    np.testing.assert_allclose(np.diagonal(pairwise_iou(corners, corners)), 1)
    sides = corners[:, 2:] - corners[:, :2]
    above = np.concatenate([corners[:, :2] - sides, corners[:, :2]], axis=1)
    np.testing.assert_allclose(np.diagonal(pairwise_iou(corners, above)), 0)


@given(anything, anything)
def test_iou_is_never_nan(first, second):
    """Also of reversed corners, of boxes without area, and of a billion pixels in float32."""
    iou = pairwise_iou(first, second)
    assert np.isfinite(iou).all() and (iou >= 0).all() and (iou <= 1 + 1e-5).all()


@given(boxes(on_grid=True), boxes(on_grid=True), st.integers(-64, 64), st.integers(1, 64))
def test_iou_ignores_translation_scale_and_the_axes(first, second, shift, scale):
    iou = pairwise_iou(first, second)
    np.testing.assert_array_equal(pairwise_iou(first + shift, second + shift), iou)
    np.testing.assert_array_equal(pairwise_iou(first * 2 * scale, second * 2 * scale), iou)
    swapped = [1, 0, 3, 2]
    np.testing.assert_array_equal(pairwise_iou(first[:, swapped], second[:, swapped]), iou)


@given(st.lists(boxes(3, 3), min_size=2, max_size=3), boxes(2, 2))
def test_iou_of_a_batch_equals_that_of_each_image(images, others):
    batch = pairwise_iou(np.stack(images), np.broadcast_to(others, (len(images), 2, 4)))
    for image, iou in zip(images, batch):
        np.testing.assert_array_equal(iou, pairwise_iou(image, others))


@given(boxes(5, 5), boxes(), permutations(5))
def test_iou_follows_the_order_of_boxes(first, second, order):
    np.testing.assert_array_equal(pairwise_iou(first[order], second), pairwise_iou(first, second)[order])


@given(anything, st.integers(1, 1000), st.integers(1, 1000))
def test_clipped_boxes_are_inside_and_clipping_again_changes_nothing(corners, height, width):
    clipped = clip_boxes(corners, height, width)
    assert (clipped >= 0).all() and (clipped <= [height, width, height, width]).all()
    np.testing.assert_array_equal(clip_boxes(clipped, height, width), clipped)
    assert (box_area(clipped) <= box_area(corners)).all()
    inside = ((corners >= 0) & (corners <= [height, width, height, width])).all(axis=1)
    np.testing.assert_array_equal(clipped[inside], corners[inside])
