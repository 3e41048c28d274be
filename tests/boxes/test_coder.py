"""Box coding against hand-computed offsets, and round trips."""

import numpy as np
import pytest

from ssd.boxes.coder import BoxCoder
from ssd.boxes.ops import yxyx_to_cyxhw

ANCHOR = np.array([0.5, 0.5, 0.2, 0.4])  # cy, cx, h, w


def test_encode_and_decode_against_hand_computed_offsets():
    # The center is 0.52, 0.58; the box is twice as high and half as wide as the anchor.
    box_yxyx = np.array([0.32, 0.48, 0.72, 0.68])
    # 0.02 / (0.2 * 0.1), 0.08 / (0.4 * 0.1), ln 2 / 0.2 = 0.6931472 / 0.2, and its negative
    offsets = [1.0, 2.0, 3.4657359, -3.4657359]
    np.testing.assert_allclose(BoxCoder().encode(box_yxyx, ANCHOR), offsets, atol=1e-6)
    np.testing.assert_allclose(BoxCoder().decode(np.array(offsets), ANCHOR), box_yxyx, atol=1e-6)


def test_prior_scaling_divides_center_and_size_offsets():
    box_yxyx = np.array([0.32, 0.48, 0.72, 0.68])
    expected = [0.02 / 0.2 / 0.5, 0.08 / 0.4 / 0.5, np.log(2), -np.log(2)]
    np.testing.assert_allclose(BoxCoder((0.5, 1.0)).encode(box_yxyx, ANCHOR), expected, atol=1e-6)


def test_offsets_of_the_anchor_itself_are_0():
    np.testing.assert_allclose(BoxCoder().encode(np.array([0.4, 0.3, 0.6, 0.7]), ANCHOR), np.zeros(4), atol=1e-12)


@pytest.mark.parametrize("prior_scaling", [(0.1, 0.2), (1.0, 1.0)])
def test_decode_inverts_encode(prior_scaling):
    rng = np.random.default_rng(0)
    corners = rng.uniform(size=(2, 500, 2))
    boxes_yxyx = np.concatenate([corners.min(axis=0), corners.max(axis=0)], axis=1)
    anchors_cyxhw = rng.uniform(0.05, 1, size=(500, 4))
    coder = BoxCoder(prior_scaling)
    np.testing.assert_allclose(
        coder.decode(coder.encode(boxes_yxyx, anchors_cyxhw), anchors_cyxhw), boxes_yxyx, atol=1e-12
    )
    # Broadcasting one box to all anchors gives the same offsets as encoding it anchor by anchor.
    broadcast = coder.encode(boxes_yxyx[0], anchors_cyxhw)
    assert broadcast.shape == (500, 4)
    np.testing.assert_array_equal(broadcast[7], coder.encode(boxes_yxyx[0], anchors_cyxhw[7]))


def test_offsets_of_an_empty_box_are_finite():
    point = np.array([0.5, 0.5, 0.5, 0.5])
    offsets = BoxCoder().encode(point, ANCHOR)
    np.testing.assert_allclose(offsets, [0, 0, -69.0775528, -69.0775528])  # ln 1e-6 / 0.2
    np.testing.assert_allclose(BoxCoder().decode(offsets, ANCHOR), point, atol=1e-6)


def test_decode_clips_to_the_image():
    # dy = 40 moves the center by 40 * 0.1 * 0.2 = 0.8, out of the image. log w = 5 gives e^(5 * 0.2) = 2.7 anchor
    # widths, 1.09.
    decoded = BoxCoder().decode(np.array([[40.0, 0, 0, 5.0], [-40.0, 0, 0, 0]]), ANCHOR)
    np.testing.assert_allclose(decoded, [[1, 0, 1, 1], [0, 0.3, 0, 0.7]], atol=1e-12)


def test_no_boxes():
    empty = np.zeros((0, 4))
    assert BoxCoder().encode(empty, empty).shape == (0, 4)
    assert BoxCoder().decode(empty, yxyx_to_cyxhw(empty)).shape == (0, 4)
