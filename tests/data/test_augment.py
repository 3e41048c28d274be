"""Crop windows: crops meet their IoU constraint, canvases contain their image, windows fit their scale denominator."""

import numpy as np
import pytest

from ssd.boxes.ops import pairwise_iou
from ssd.data.augment import (
    CROP_TRIALS,
    align_windows,
    choose_scale_denominator,
    contains_center,
    random_iou_crops,
    scaled_windows,
    zoom_out_canvases,
)

BOXES = np.array([[10, 10, 110, 190], [20, 30, 60, 70], [70, 120, 110, 180]], dtype=np.float64)
WHOLE = [0, 0, 120, 200]


def crop(canvas, boxes, min_iou, image_size=(300, 300), count=300, seed=0):
    """Crop one image `count` times, and return the windows (N, 4) of those crops that were found."""
    boxes = np.reshape(boxes, (-1, 4)).astype(float)
    windows, found = random_iou_crops(
        np.broadcast_to(canvas, (count, 4)),
        boxes_yxyx=np.broadcast_to(boxes, (count, *boxes.shape)),
        labels=np.ones((count, len(boxes))),
        min_iou=np.full(count, min_iou),
        image_size=image_size,
        draws=np.random.default_rng(seed).random((count, CROP_TRIALS, 4)),
    )
    assert windows.shape == (count, 4) and windows.dtype == np.int64 and found.shape == (count,)
    return windows[found]


# --- scale ---


def test_scaled_windows_keep_the_aspect_ratio_and_stay_at_the_image():
    draws = np.random.default_rng(0).random((500, 3))
    sizes = np.broadcast_to([120, 200], (500, 2))
    windows = scaled_windows(sizes, 0.5, draws)
    assert windows.dtype == np.int64
    height, width = (windows[:, 2:] - windows[:, :2]).T
    np.testing.assert_allclose(height / 120, width / 200, atol=0.01)
    scales = 120 / height
    assert 0.5 <= scales.min() < 0.51 and 1.49 < scales.max() <= 1.52 and 0.95 < scales.mean() < 1.05
    enlarged, reduced = windows[scales > 1.01], windows[scales < 0.99]
    assert (enlarged[:, :2] >= 0).all() and (enlarged[:, 2:] <= [120, 200]).all()  # part of the image
    assert (reduced[:, :2] <= 0).all() and (reduced[:, 2:] >= [120, 200]).all()  # the whole image, and a border
    assert len(enlarged) > 150 and len(reduced) > 150


def test_scaled_windows_by_hand():
    draws = np.array([[1, 0.5, 1], [0, 0, 0.25], [0.5, 0.3, 0.7]])  # scales of 1.25, 0.75 and 1
    windows = scaled_windows(np.array([[100, 200], [90, 30], [7, 5]]), 0.25, draws)
    assert windows.tolist() == [[10, 40, 90, 200], [0, -2, 120, 38], [0, 0, 7, 5]]


def test_a_tiny_image_keeps_a_pixel():
    assert scaled_windows(np.array([[1, 1]]), 0.9, np.array([[1.0, 0.5, 0.5]])).tolist() == [[0, 0, 1, 1]]


# --- zoom out ---


def test_canvas_contains_the_image_at_a_random_position():
    draws = np.random.default_rng(0).random((500, 3))
    canvases = zoom_out_canvases(np.broadcast_to([120, 200], (500, 2)), 4, draws)
    assert canvases.dtype == np.int64
    assert (canvases[:, :2] <= 0).all() and (canvases[:, 2:] >= [120, 200]).all()
    height, width = (canvases[:, 2:] - canvases[:, :2]).T
    np.testing.assert_allclose(height / 120, width / 200, atol=0.01)  # the aspect ratio of the image, up to rounding
    ratios = height / 120
    assert ratios.min() < 1.1 and 3.9 < ratios.max() <= 4 and 2.3 < ratios.mean() < 2.7
    positions = -canvases[:, :2] / np.maximum(np.stack([height - 120, width - 200], axis=1), 1)
    assert (positions.min(axis=0) < 0.05).all() and (positions.max(axis=0) > 0.95).all()
    assert abs(np.corrcoef(positions.T)[0, 1]) < 0.2  # y and x are independent


def test_canvas_by_hand():
    draws = np.array([[0.5, 0.25, 1], [0.5, 0, 0]])
    # Half way from 1 to 3 is a ratio of 2.
    canvases = zoom_out_canvases(np.array([[100, 200], [10, 10]]), 3, draws)
    assert canvases.tolist() == [[-25, -200, 175, 200], [0, 0, 20, 20]]


# --- crop ---


@pytest.mark.parametrize("canvas", [WHOLE, [-60, -150, 180, 250]], ids=["image", "zoomed out"])
@pytest.mark.parametrize("image_size", [(300, 300), (20, 20)], ids=["full size", "reduced"])
@pytest.mark.parametrize("min_iou", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_crop_meets_its_constraints(min_iou, image_size, canvas):
    windows = crop(canvas, BOXES, min_iou, image_size=image_size, count=3000 if min_iou == 0.9 else 300)
    assert len(windows) > (0 if min_iou == 0.9 else 20)
    canvas = np.array(canvas)
    for window in windows:
        scale_denominator = choose_scale_denominator(window[2:] - window[:2], image_size)
        assert (window % scale_denominator == 0).all()
        assert (window[:2] >= canvas[:2]).all() and (window[2:] <= canvas[2:]).all()
        height, width = window[2:] - window[:2]
        assert 0.5 <= height / width <= 2
        assert (window[2:] - window[:2] >= 0.3 * (canvas[2:] - canvas[:2]) - 2 * scale_denominator).all()
        has_center = contains_center(window[None], BOXES)[0]
        assert pairwise_iou(window[None], BOXES)[0, has_center].max() >= min_iou


def crop_by_hand(canvas, draws, boxes, min_iou=0.0):
    windows, found = random_iou_crops(
        np.array([canvas]),
        boxes_yxyx=np.array([boxes], float),
        labels=np.ones((1, len(boxes))),
        min_iou=np.array([min_iou]),
        image_size=(300, 300),
        draws=np.array([draws], float),
    )
    return windows[0].tolist() if found[0] else None


def test_crop_by_hand():
    canvas, box = [10, 20, 110, 220], [[50, 60, 70, 80]]
    # The first window is 30 high and 200 wide, too wide. The second is 0.3 + 0.7 * 0.5 = 0.65 of 100 high and 0.3 of
    # 200 wide. It starts at 10 + 0.25 * 35 = 18.75 and 20 + 0.125 * 140 = 37.5, and is rounded inwards.
    draws = [[0, 1, 0.5, 0.5], [0.5, 0, 0.25, 0.125], [1, 1, 0, 0]]
    assert crop_by_hand(canvas, draws, box) == [19, 38, 83, 97]


def test_crop_limits_are_included():
    wide, tall = [0, 0, 50, 100], [0, 0, 100, 50]  # height / width is 1/2 and 2
    whole = [[1, 1, 0, 0]]
    assert crop_by_hand(wide, whole, [wide], min_iou=1) == wide
    assert crop_by_hand(tall, whole, [tall], min_iou=1) == tall
    assert crop_by_hand([0, 0, 49, 100], whole, [wide]) is crop_by_hand([0, 0, 100, 49], whole, [tall]) is None


def test_crops_depend_on_the_random_numbers_alone():
    first, repeated, other = (crop(WHOLE, BOXES, 0.3, seed=seed, count=20).tolist() for seed in (0, 0, 1))
    assert first == repeated != other and len({tuple(window) for window in first}) > 15


def test_batch_of_crops_equals_single_crops():
    draws = np.random.default_rng(0).random((2, CROP_TRIALS, 4))
    boxes, labels = np.zeros((2, 3, 4)), np.array([[1, 2, 1], [3, 0, 0]])
    boxes[0], boxes[1, 0] = BOXES, [20, 30, 60, 70]
    canvases, min_iou = np.array([WHOLE, [-40, -40, 100, 100]]), np.array([0.5, 0.1])
    windows, found = random_iou_crops(
        canvases, boxes_yxyx=boxes, labels=labels, min_iou=min_iou, image_size=(300, 300), draws=draws
    )
    assert found.all()
    for row, count in ((0, 3), (1, 1)):
        single, _ = random_iou_crops(
            canvases[[row]],
            boxes_yxyx=boxes[[row], :count],
            labels=labels[[row], :count],
            min_iou=min_iou[[row]],
            image_size=(300, 300),
            draws=draws[[row]],
        )
        assert windows[row].tolist() == single[0].tolist()


@pytest.mark.parametrize("min_iou", [0.0, 0.1])
def test_no_crop_is_found_without_boxes(min_iou):
    _, found = random_iou_crops(
        np.array([[-50, -50, 50, 50]]),  # contains the corner of the image, where padding lies
        boxes_yxyx=np.zeros((1, 2, 4)),
        labels=np.zeros((1, 2)),
        min_iou=np.array([min_iou]),
        image_size=(300, 300),
        draws=np.random.default_rng(0).random((1, CROP_TRIALS, 4)),
    )
    assert not found.any()


def test_no_crop_is_found_if_the_constraint_is_impossible():
    # A box of 5x5 pixels covers at most 25 of the 900 pixels of the smallest window.
    assert len(crop([0, 0, 100, 100], [50, 50, 55, 55], 0.9)) == 0


def test_image_of_one_pixel_can_be_cropped():
    with np.errstate(all="raise"):
        assert (crop([0, 0, 1, 1], [0, 0, 1, 1], 0.1) == [0, 0, 1, 1]).all()


def test_contains_center_by_hand():
    # The centres are (60, 100), (40, 50) and (90, 150). A centre on the border is outside.
    windows = np.array([[0, 0, 50, 60], [40, 0, 120, 200], [0, 0, 120, 200]])
    expected = [[False, True, False], [True, False, True], [True, True, True]]
    assert contains_center(windows, BOXES).tolist() == expected
    # The center of the first box is on the border: below, left and right.
    windows = np.array([[0, 0, 60, 200], [0, 100, 120, 200], [0, 0, 120, 100]])
    expected = [[False, True, False], [False, False, True], [False, True, False]]
    assert contains_center(windows, BOXES).tolist() == expected


# --- scale denominator ---


@pytest.mark.parametrize(
    "sides, expected",
    [((299, 299), 1), ((600, 599), 1), ((600, 600), 2), ((10000, 600), 2), ((1199, 1300), 2), ((1200, 1200), 4)]
    + [((2399, 2400), 4), ((2400, 2400), 8), ((9600, 9600), 8)],
)
def test_scale_denominator_by_hand(sides, expected):
    assert choose_scale_denominator(np.array(sides), (300, 300)) == expected


def test_scale_denominator_of_an_input_that_is_not_square():
    sides = np.array([[300, 400], [1200, 100], [1200, 200], [600, 1000]])
    assert choose_scale_denominator(sides, (300, 100)).tolist() == [1, 1, 2, 2]
    assert choose_scale_denominator(sides[:, ::-1], (100, 300)).tolist() == [1, 1, 2, 2]


def test_batch_of_scale_denominators_equals_single_ones():
    sides = np.random.default_rng(0).integers(1, 3000, (50, 2))
    single = [int(choose_scale_denominator(one, (300, 200))) for one in sides]
    assert choose_scale_denominator(sides, (300, 200)).tolist() == single


def test_align_windows_by_hand():
    windows, scale_denominators = np.array([[-3, 0, 5, 8], [-3, 1, 5, 9]]), np.array([4, 1])
    assert align_windows(windows, scale_denominators).tolist() == [[-4, 0, 8, 8], [-3, 1, 5, 9]]
