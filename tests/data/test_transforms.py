"""Pixel operations: crop windows, filling, resizing, and photometric distortion."""

import colorsys

import cv2
import numpy as np
import pytest

from ssd.data.transforms import FILL, color_matrices, mean_luma, render_crop_window, resize

GREY, RED = (100, 100, 100), (255, 0, 0)


def noise(height=20, width=30):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def render(image, window, size, scale_denominator=1, color_matrix=None, flip=False):
    """Return the crop window of an image, drawn at `size`."""
    out = np.full((*size, 3), 7, np.uint8)
    window = np.array(window)
    render_crop_window(
        image, window, scale_denominator=scale_denominator, out=out, color_matrix=color_matrix, flip=flip
    )
    return out


def matrix(brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0):
    return color_matrices(np.array([[brightness, contrast, saturation, hue]]))[0]


def distort(image, **factors):
    """Apply photometric distortion to a whole image, without resizing it."""
    image = np.uint8(image)
    return render(image, [0, 0, *image.shape[:2]], image.shape[:2], color_matrix=matrix(**factors))


# --- crop window ---


def test_window_of_the_output_size_is_cut_out():
    image = noise()
    assert np.array_equal(render(image, [3, 5, 13, 25], (10, 20)), image[3:13, 5:25])


def test_window_of_a_reduced_image_is_in_pixels_of_the_full_image():
    image = noise()
    assert np.array_equal(render(image, [8, 4, 48, 84], (10, 20), scale_denominator=4), image[2:12, 1:21])


def test_colors_and_direction_are_kept_by_default():
    image, out = noise(), np.empty((20, 30, 3), np.uint8)
    render_crop_window(image, np.array([0, 0, 20, 30]), 1, out=out)
    assert np.array_equal(out, image)


def test_flip_by_hand():
    image = noise(2, 3)
    assert np.array_equal(render(image, [0, 0, 2, 3], (2, 3), flip=True), image[:, ::-1])


def test_pixels_outside_the_image_are_filled():
    image = noise(4, 6)
    out = render(image, [-2, -1, 7, 9], (9, 10))
    assert np.array_equal(out[2:6, 1:7], image)
    outside = np.ones((9, 10), bool)
    outside[2:6, 1:7] = False
    assert (out[outside] == FILL).all()


def test_filled_pixels_have_the_mean_color_of_imagenet():
    np.testing.assert_allclose(FILL, 255 * np.array([0.485, 0.456, 0.406]), atol=0.5)


@pytest.mark.parametrize("window", [[1, 2, 4, 6], [-2, -3, 5, 4], [3, 5, 9, 9]])
@pytest.mark.parametrize("size", [(3, 4), (7, 7), (30, 40), (1, 1)])
def test_window_equals_a_crop_of_the_padded_image(window, size):
    """The result does not depend on the order of cropping, filling and resizing."""
    image = noise(4, 6)
    padded = np.full((24, 26, 3), FILL, np.uint8)
    padded[10:14, 10:16] = image
    y0, x0, y1, x1 = np.array(window) + 10
    expected = cv2.resize(padded[y0:y1, x0:x1], size[::-1])
    np.testing.assert_allclose(render(image, window, size).astype(int), expected, atol=1)
    assert np.array_equal(render(image, window, size, flip=True), render(image, window, size)[:, ::-1])


@pytest.mark.parametrize("size", [(10, 15), (20, 30), (60, 90)])
def test_filled_pixels_keep_their_colour(size):
    image = np.full((20, 30, 3), GREY, np.uint8)
    darker = matrix(brightness=0.5)
    assert (render(image, [0, 0, 20, 30], size, color_matrix=darker) == 50).all()
    out = render(image, [0, -30, 20, 30], size, color_matrix=darker)
    assert (out[:, : size[1] // 2 - 1] == FILL).all() and (out[:, size[1] // 2 + 1 :] == 50).all()


def test_input_image_is_not_changed():
    image = noise()
    before = image.copy()
    for size in ((5, 5), (50, 50)):
        render(image, [0, 0, 20, 30], size, color_matrix=matrix(brightness=1.2, hue=0.1), flip=True)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("size", [(90, 40), (45, 80), (200, 300)])
def test_resize_to_height_and_width(size):
    image = np.full((90, 80, 3), GREY, np.uint8)
    image[30:60, 20:50] = RED
    out = np.empty((*size, 3), np.uint8)
    resize(image, out, exact=True)
    rows, columns = (np.flatnonzero((out[..., 0] > 180).any(axis=axis)) for axis in (1, 0))
    found = np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1])
    np.testing.assert_allclose(found, np.array([30, 20, 60, 50]) * ([size[0] / 90, size[1] / 80] * 2), atol=1)


def test_exact_resize_equals_opencv_even_after_an_inexact_one():
    image, out = noise(47, 61), np.empty((30, 40, 3), np.uint8)
    cv2.ipp.setUseIPP_NotExact(False)  # other tests leave it switched on
    expected = cv2.resize(image, (40, 30))
    resize(image, out, exact=False)
    np.testing.assert_allclose(out.astype(int), expected, atol=1)
    resize(image, out, exact=True)
    assert np.array_equal(out, expected)


# --- photometric distortion ---


def test_batch_of_matrices_equals_single_matrices():
    factors = np.random.default_rng(0).random((5, 4))
    for matrix, row in zip(color_matrices(factors), factors, strict=True):
        assert matrix.shape == (3, 4) and matrix.dtype == np.float32
        assert np.array_equal(matrix, color_matrices(row[None])[0])


def test_mean_luma_by_hand():
    image = np.full((64, 32, 3), 90, np.uint8)
    image[:16] = (255, 0, 0)  # a quarter
    assert abs(mean_luma(image) - (0.25 * 0.299 * 255 + 0.75 * 90)) < 1e-9
    gradient = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None, None], (200, 300, 3))
    assert abs(mean_luma(gradient) - 99.5) < 7  # within half a cell of the grid


def test_mean_luma_reads_single_pixels_of_a_grid():
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    # 16 x 16 cells of 2 x 3 pixels, each represented by its first pixel
    assert mean_luma(image) == pytest.approx((image[::2, ::3] @ [0.299, 0.587, 0.114]).mean())


def test_neutral_factors_change_nothing():
    assert np.array_equal(distort(noise()), noise())


def test_brightness_multiplies():
    assert distort([[[50, 100, 200]]], brightness=1.2).tolist() == [[[60, 120, 240]]]
    assert distort([[[50, 100, 200]]], brightness=2).tolist() == [[[100, 200, 255]]]  # and stops at white


def test_contrast_is_relative_to_the_mean_luma():
    image = [[[100] * 3, [200] * 3]]  # mean 150
    assert distort(image, contrast=0.5)[0, :, 0].tolist() == [125, 175]
    assert distort(image, contrast=1.2)[0, :, 0].tolist() == [90, 210]
    assert distort(image, brightness=0.5, contrast=0)[0, :, 0].tolist() == [75, 75]  # the mean of the darkened image


def test_saturation_scales_the_distance_from_grey():
    grey = distort(noise(), saturation=0)
    assert (grey == grey[..., :1]).all()
    # 0.299 red + 0.587 green + 0.114 blue, ITU-R BT.601
    np.testing.assert_allclose(grey[..., 0], noise() @ [0.299, 0.587, 0.114], atol=1)
    half = distort(noise(), saturation=0.5).astype(float)
    np.testing.assert_allclose(half, (noise().astype(float) + grey) / 2, atol=1)


def test_hue_keeps_greys_and_luma():
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    np.testing.assert_allclose(distort(greys, hue=0.3).astype(int), greys, atol=1)
    pale = (noise() // 4 + 96).astype(np.uint8)  # far from clipping at 0 and 255
    shifted = distort(pale, hue=0.2)
    np.testing.assert_allclose(shifted @ [0.299, 0.587, 0.114], pale @ [0.299, 0.587, 0.114], atol=1)
    assert np.abs(shifted.astype(int) - pale).max() > 20


def test_full_turn_of_hue_changes_nothing():
    np.testing.assert_allclose(distort(noise(), hue=1).astype(int), noise(), atol=1)


@pytest.mark.parametrize("hue", [-0.1, -0.05, 0.05, 0.1])
def test_hue_shift_agrees_with_hsv(hue):
    """A positive shift moves red towards green and green towards blue, by about as much as the hue of HSV."""
    for color in ([180, 100, 100], [100, 180, 100], [100, 100, 180], [160, 160, 90]):
        before, after = (
            colorsys.rgb_to_hsv(*pixel / 255)[0] for pixel in (np.array(color), distort([[color]], hue=hue)[0, 0])
        )
        turn = (after - before + 0.5) % 1 - 0.5
        assert np.sign(turn) == np.sign(hue) and 0.4 * abs(hue) < abs(turn) < 2 * abs(hue)
