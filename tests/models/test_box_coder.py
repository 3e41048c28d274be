"""Box coding in the graph against the NumPy reference."""

import numpy as np
import pytest
from mindspore import nn

from ssd.boxes.coder import MIN_SIZE_RATIO, BoxCoder
from ssd.boxes.ops import cyxhw_to_yxyx, yxyx_to_cyxhw
from ssd.models.box_coder import GraphBoxCoder

B = 2
PRIOR_SCALINGS = [(0.1, 0.2), (0.3, 0.7)]


class Encode(nn.Cell):
    def __init__(self, coder):
        super().__init__()
        self.coder = coder

    def construct(self, boxes_yxyx):
        return self.coder.encode(boxes_yxyx)


class Decode(nn.Cell):
    def __init__(self, coder):
        super().__init__()
        self.coder = coder

    def construct(self, box_offsets):
        return self.coder.decode(box_offsets)


class DecodeBounded(nn.Cell):
    def __init__(self, coder, max_log_ratio):
        super().__init__()
        self.coder = coder
        self.max_log_ratio = max_log_ratio

    def construct(self, box_offsets):
        return self.coder.decode_bounded(box_offsets, self.max_log_ratio)


class RoundTrip(nn.Cell):
    def __init__(self, coder):
        super().__init__()
        self.coder = coder

    def construct(self, boxes_yxyx):
        return self.coder.decode(self.coder.encode(boxes_yxyx))


def random_boxes(rng, count):
    """Boxes with corners in 0..1 and sides of at least 0.05."""
    low = rng.uniform(0, 0.5, (B, count, 2))
    return np.concatenate([low, low + rng.uniform(0.05, 0.5, low.shape)], axis=-1).astype(np.float32)


def cyxhw(centers_and_sizes):
    return np.concatenate(centers_and_sizes, axis=-1)


@pytest.mark.parametrize("prior_scaling", PRIOR_SCALINGS)
def test_encode_equals_the_reference(prior_scaling, small_anchors, call, rng):
    boxes = random_boxes(rng, len(small_anchors))
    offsets = call(Encode(GraphBoxCoder(small_anchors.boxes_cyxhw, prior_scaling)), boxes)
    expected = BoxCoder(prior_scaling).encode(boxes, small_anchors.boxes_cyxhw)
    assert offsets.dtype == np.float32
    np.testing.assert_allclose(offsets, expected, rtol=1e-5, atol=1e-5)


def test_encode_of_empty_boxes_is_finite_and_equals_the_reference(small_anchors, call, rng):
    boxes = random_boxes(rng, len(small_anchors))
    boxes[..., 2:] = boxes[..., :2]
    offsets = call(Encode(GraphBoxCoder(small_anchors.boxes_cyxhw)), boxes)
    np.testing.assert_allclose(offsets[..., 2:], np.log(MIN_SIZE_RATIO) / 0.2, rtol=1e-6)
    np.testing.assert_allclose(offsets, BoxCoder().encode(boxes, small_anchors.boxes_cyxhw), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prior_scaling", PRIOR_SCALINGS)
def test_decode_equals_the_reference(prior_scaling, small_anchors, call, rng):
    offsets = rng.normal(0, 3, (B, len(small_anchors), 4)).astype(np.float32)
    centers, sizes = call(Decode(GraphBoxCoder(small_anchors.boxes_cyxhw, prior_scaling)), offsets)
    assert centers.shape == sizes.shape == (B, len(small_anchors), 2)
    corners = cyxhw_to_yxyx(cyxhw((centers, sizes)))
    assert corners.min() < 0 and corners.max() > 1  # the graph does not clip, the reference does
    expected = BoxCoder(prior_scaling).decode(offsets, small_anchors.boxes_cyxhw)
    np.testing.assert_allclose(np.clip(corners, 0, 1), expected, rtol=1e-5, atol=1e-5)


def test_decode_of_hand_computed_offsets(call):
    anchors = np.array([[0.5, 0.5, 0.2, 0.4]], np.float32)
    offsets = np.array([[[1.0, 2.0, np.log(2) / 0.2, -np.log(2) / 0.2]]], np.float32)
    centers, sizes = call(Decode(GraphBoxCoder(anchors)), offsets)
    # The center moves by 1 * 0.1 * 0.2 and 2 * 0.1 * 0.4. The height doubles, the width halves.
    np.testing.assert_allclose(centers, [[[0.52, 0.58]]], rtol=1e-6)
    np.testing.assert_allclose(sizes, [[[0.4, 0.2]]], rtol=1e-6)


def test_decode_bounded_equals_decode_within_the_bound(small_anchors, call, rng):
    offsets = rng.uniform(-4, 4, (B, len(small_anchors), 4)).astype(np.float32)  # log ratios within 0.8
    coder = GraphBoxCoder(small_anchors.boxes_cyxhw)
    for bounded, unbounded in zip(call(DecodeBounded(coder, 0.81), offsets), call(Decode(coder), offsets)):
        np.testing.assert_array_equal(bounded, unbounded)


@pytest.mark.parametrize("size_offset, ratio", [(1000, 10), (-1000, 0.1)])  # e^200 is infinite in float32
def test_decode_bounded_limits_sizes_but_not_centers(size_offset, ratio, small_anchors, call, rng):
    offsets = np.full((B, len(small_anchors), 4), size_offset, np.float32)
    offsets[..., :2] = rng.normal(0, 100, offsets[..., :2].shape)
    coder = GraphBoxCoder(small_anchors.boxes_cyxhw)
    centers, sizes = call(DecodeBounded(coder, np.log(10)), offsets)
    np.testing.assert_allclose(sizes, np.broadcast_to(ratio * small_anchors.boxes_cyxhw[:, 2:], sizes.shape), rtol=1e-5)
    expected = offsets[..., :2] * 0.1 * small_anchors.boxes_cyxhw[:, 2:] + small_anchors.boxes_cyxhw[:, :2]
    np.testing.assert_allclose(centers, expected, rtol=1e-5, atol=1e-5)


def test_decode_inverts_encode(small_anchors, call, rng):
    boxes = random_boxes(rng, len(small_anchors))
    decoded = cyxhw(call(RoundTrip(GraphBoxCoder(small_anchors.boxes_cyxhw)), boxes))
    np.testing.assert_allclose(decoded, yxyx_to_cyxhw(boxes), rtol=1e-5, atol=1e-6)


def test_boxes_have_the_unit_of_the_anchors(small_anchors, call, rng):
    boxes = random_boxes(rng, len(small_anchors))
    in_pixels = call(Encode(GraphBoxCoder(small_anchors.boxes_cyxhw * 64)), boxes * 64)
    np.testing.assert_allclose(
        in_pixels, call(Encode(GraphBoxCoder(small_anchors.boxes_cyxhw)), boxes), rtol=1e-4, atol=1e-4
    )
