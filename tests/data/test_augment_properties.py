"""Properties of crop windows: inside their canvas, IoU constraint, alignment, and batch equals single images."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from box_strategies import boxes, unit_draws
from ssd.boxes.ops import pairwise_iou
from ssd.data.augment import (
    CROP_RATIO_RANGE,
    CROP_TRIALS,
    align_windows,
    choose_scale_denominator,
    contains_center,
    random_iou_crops,
    scaled_windows,
    zoom_out_canvases,
)
from ssd.data.images import SCALE_DENOMINATORS

sides = st.integers(1, 5000)
sizes = st.lists(st.tuples(sides, sides), min_size=3, max_size=3).map(np.array)
input_sizes = st.tuples(st.integers(16, 640), st.integers(16, 640))
min_ious = arrays(np.float64, 3, elements=st.sampled_from([0.0, 0.1, 0.5, 0.9]))
seeds = st.integers(0, 2**31)


def crop(canvases, found, min_iou, image_size, seed):
    """Crop a batch, with boxes that are fractions of the canvases. Returns (windows, found, boxes in pixels)."""
    extents = np.tile(canvases[:, 2:] - canvases[:, :2], 2)[:, None]
    pixels = np.stack(found) * extents + np.tile(canvases[:, :2], 2)[:, None]
    draws = np.random.default_rng(seed).random((len(canvases), CROP_TRIALS, 4))
    labels = np.ones(pixels.shape[:2])
    windows, is_found = random_iou_crops(canvases, pixels, labels, min_iou=min_iou, image_size=image_size, draws=draws)
    return windows, is_found, pixels


@given(sizes, unit_draws(3, 3), st.floats(0, 0.9))
def test_scaled_windows_keep_the_shape_and_touch_the_image(size, draws, jitter):
    windows = scaled_windows(size, jitter, draws)
    extents = windows[:, 2:] - windows[:, :2]
    assert (extents >= 1).all()
    assert (extents >= np.floor(size / (1 + jitter))).all() and (extents <= np.ceil(size / (1 - jitter)) + 1).all()
    smaller = extents <= size
    assert (windows[:, :2][smaller] >= 0).all() and (windows[:, 2:][smaller] <= size[smaller]).all()
    assert (windows[:, :2][~smaller] <= 0).all() and (windows[:, 2:][~smaller] >= size[~smaller]).all()


@given(sizes, unit_draws(3, 3), st.floats(1, 16))
def test_canvases_contain_their_image(size, draws, max_ratio):
    canvases = zoom_out_canvases(size, max_ratio, draws)
    assert (canvases[:, :2] <= 0).all() and (canvases[:, 2:] >= size).all()
    assert (canvases[:, 2:] - canvases[:, :2] <= np.ceil(size * max_ratio) + 1).all()


@given(sizes, st.lists(boxes(4, 4), min_size=3, max_size=3), min_ious, input_sizes, seeds)
def test_crops_are_inside_and_meet_their_constraint(size, found, min_iou, image_size, seed):
    canvases = np.concatenate([-(size // 2), size], axis=1)
    windows, is_found, pixels = crop(canvases, found, min_iou, image_size=image_size, seed=seed)
    for index in np.flatnonzero(is_found):
        window = windows[index]
        height, width = window[2:] - window[:2]
        assert (window[:2] >= canvases[index, :2]).all() and (window[2:] <= canvases[index, 2:]).all()
        assert height > 0 and width > 0
        assert CROP_RATIO_RANGE[0] * width <= height <= CROP_RATIO_RANGE[1] * width
        is_valid = pairwise_iou(window[None].astype(float), pixels[index])[0] >= min_iou[index]
        assert (is_valid & contains_center(window[None], pixels[index])[0]).any()


@given(sizes, st.lists(boxes(4, 4), min_size=3, max_size=3), min_ious, input_sizes, seeds)
def test_crops_of_a_batch_equal_those_of_its_images(size, found, min_iou, image_size, seed):
    canvases = np.concatenate([np.zeros_like(size), size], axis=1)
    draws = np.random.default_rng(seed).random((3, CROP_TRIALS, 4))
    pixels = np.stack(found) * np.tile(size, 2)[:, None]
    batch = random_iou_crops(canvases, pixels, np.ones((3, 4)), min_iou=min_iou, image_size=image_size, draws=draws)
    for index in range(3):
        row = slice(index, index + 1)
        single = random_iou_crops(
            canvases[row], pixels[row], np.ones((1, 4)), min_iou=min_iou[row], image_size=image_size, draws=draws[row]
        )
        assert batch[1][index] == single[1][0]
        if batch[1][index]:
            assert batch[0][index].tolist() == single[0][0].tolist()


@given(sizes, unit_draws(3, 3), input_sizes)
def test_aligned_windows_contain_the_window_in_whole_blocks(size, draws, image_size):
    windows = zoom_out_canvases(size, 4, draws)
    denominators = choose_scale_denominator(windows[:, 2:] - windows[:, :2], image_size)
    aligned = align_windows(windows, denominators)
    assert (aligned[:, :2] <= windows[:, :2]).all() and (aligned[:, 2:] >= windows[:, 2:]).all()
    assert (aligned % denominators[:, None] == 0).all()
    assert (np.abs(aligned - windows) < denominators[:, None]).all()
    np.testing.assert_array_equal(align_windows(aligned, denominators), aligned)


@given(sizes, input_sizes)
def test_a_reduced_window_is_at_least_as_large_as_the_input(size, image_size):
    for side, denominator in zip(size, choose_scale_denominator(size, image_size)):
        assert denominator in SCALE_DENOMINATORS
        assert denominator == 1 or (side / denominator >= image_size).all()
        assert denominator == SCALE_DENOMINATORS[-1] or (side / (2 * denominator) < image_size).any()
