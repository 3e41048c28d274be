"""Properties of BoxCoder: decoding undoes encoding, and any offsets give boxes inside the image."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from box_strategies import boxes
from ssd.boxes.coder import BoxCoder
from ssd.boxes.ops import yxyx_to_cyxhw

scalings = st.tuples(st.floats(0.01, 1), st.floats(0.01, 1))


@given(boxes(4, 4, min_side=0.01), boxes(4, 4, min_side=0.01), scalings)
def test_decoding_undoes_encoding(corners, anchors, scaling):
    coder, anchors_cyxhw = BoxCoder(scaling), yxyx_to_cyxhw(anchors)
    offsets = coder.encode(corners, anchors_cyxhw)
    np.testing.assert_allclose(coder.decode(offsets, anchors_cyxhw), corners, atol=1e-9)
    np.testing.assert_allclose(coder.encode(coder.decode(offsets, anchors_cyxhw), anchors_cyxhw), offsets, atol=1e-4)


@given(boxes(4, 4, min_side=0.01), scalings)
def test_an_anchor_has_no_offset_from_itself(anchors, scaling):
    np.testing.assert_allclose(BoxCoder(scaling).encode(anchors, yxyx_to_cyxhw(anchors)), 0, atol=1e-9)


@given(boxes(4, 4), boxes(4, 4, min_side=0.01))
def test_offsets_are_finite_also_of_boxes_without_area(corners, anchors):
    assert np.isfinite(BoxCoder().encode(corners, yxyx_to_cyxhw(anchors))).all()


@given(boxes(4, 4, min_side=0.01), arrays(np.float32, (4, 4), elements=st.floats(-(2.0**99), 2.0**99, width=32)))
def test_any_offsets_give_boxes_inside_the_image(anchors, offsets):
    with np.errstate(over="ignore"):  # of exp; an infinite side is clipped
        decoded = BoxCoder().decode(offsets, yxyx_to_cyxhw(anchors).astype(np.float32))
    assert (decoded >= 0).all() and (decoded <= 1).all()  # both are False for NaN
    assert (decoded[:, 2:] >= decoded[:, :2]).all()


@given(st.lists(boxes(3, 3), min_size=2, max_size=2), boxes(3, 3, min_side=0.01))
def test_a_batch_equals_its_images(images, anchors):
    coder, anchors_cyxhw = BoxCoder(), yxyx_to_cyxhw(anchors)
    batch = coder.encode(np.stack(images), anchors_cyxhw)
    decoded = coder.decode(batch, anchors_cyxhw)
    for index, corners in enumerate(images):
        np.testing.assert_array_equal(batch[index], coder.encode(corners, anchors_cyxhw))
        np.testing.assert_array_equal(decoded[index], coder.decode(batch[index], anchors_cyxhw))


@given(boxes(4, 4, min_side=1 / 8, on_grid=True), boxes(4, 4, min_side=1 / 8, on_grid=True), st.integers(1, 500))
def test_offsets_do_not_depend_on_the_unit(corners, anchors, scale):
    offsets = BoxCoder().encode(corners, yxyx_to_cyxhw(anchors))
    np.testing.assert_allclose(BoxCoder().encode(corners * scale, yxyx_to_cyxhw(anchors * scale)), offsets, atol=1e-9)
