"""Laws of pixels: what is shown is the patch, what is beyond the image is filled, neutral factors change nothing."""

import colorsys

import cv2
import numpy as np
import pytest

from ssd.data.transforms import FILL, color_matrices, mean_grey, render_window, resize

GREY, RED = (100, 100, 100), (255, 0, 0)


def noise(height=20, width=30):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def shown(image, patch, size, reduction=1, **how):
    out = np.full((*size, 3), 7, np.uint8)
    render_window(image, np.array(patch), reduction, out, **how)
    return out


def colors(brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0):
    return color_matrices(np.array([[brightness, contrast, saturation, hue]]))[0]


def adjusted(image, **factors):
    image = np.uint8(image)
    return shown(image, [0, 0, *image.shape[:2]], image.shape[:2], colors=colors(**factors))


# --- the patch ---


def test_a_patch_of_its_own_size_is_cut_out():
    image = noise()
    assert np.array_equal(shown(image, [3, 5, 13, 25], (10, 20)), image[3:13, 5:25])


def test_a_patch_of_a_reduced_image_is_in_pixels_of_the_full_one():
    image = noise()
    assert np.array_equal(shown(image, [8, 4, 48, 84], (10, 20), reduction=4), image[2:12, 1:21])


def test_mirroring_by_hand():
    image = noise(2, 3)
    assert np.array_equal(shown(image, [0, 0, 2, 3], (2, 3), mirrored=True), image[:, ::-1])


def test_what_is_beyond_the_image_is_filled():
    image = noise(4, 6)
    out = shown(image, [-2, -1, 7, 9], (9, 10))
    assert np.array_equal(out[2:6, 1:7], image)
    outside = np.ones((9, 10), bool)
    outside[2:6, 1:7] = False
    assert (out[outside] == FILL).all()


@pytest.mark.parametrize("patch", [[1, 2, 4, 6], [-2, -3, 5, 4], [3, 5, 9, 9]])
@pytest.mark.parametrize("size", [(3, 4), (7, 7), (30, 40), (1, 1)])
def test_a_patch_is_a_cut_of_the_filled_plane(patch, size):
    """Whatever order the steps are taken in."""
    image = noise(4, 6)
    plane = np.full((24, 26, 3), FILL, np.uint8)
    plane[10:14, 10:16] = image
    y0, x0, y1, x1 = np.array(patch) + 10
    expected = cv2.resize(plane[y0:y1, x0:x1], size[::-1])
    np.testing.assert_allclose(shown(image, patch, size).astype(int), expected, atol=1)
    assert np.array_equal(shown(image, patch, size, mirrored=True), shown(image, patch, size)[:, ::-1])


@pytest.mark.parametrize("size", [(10, 15), (20, 30), (60, 90)])
def test_colours_change_in_the_image_alone(size):
    image = np.full((20, 30, 3), GREY, np.uint8)
    darker = colors(brightness=0.5)
    assert (shown(image, [0, 0, 20, 30], size, colors=darker) == 50).all()
    out = shown(image, [0, -30, 20, 30], size, colors=darker)
    assert (out[:, : size[1] // 2 - 1] == FILL).all() and (out[:, size[1] // 2 + 1 :] == 50).all()


def test_showing_leaves_the_image_as_it_is():
    image = noise()
    before = image.copy()
    for size in ((5, 5), (50, 50)):
        shown(image, [0, 0, 20, 30], size, colors=colors(brightness=1.2, hue=0.1), mirrored=True)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("size", [(90, 40), (45, 80), (200, 300)])
def test_resize_takes_height_and_width(size):
    image = np.full((90, 80, 3), GREY, np.uint8)
    image[30:60, 20:50] = RED
    out = np.empty((*size, 3), np.uint8)
    resize(image, out, exact=True)
    rows, columns = (np.flatnonzero((out[..., 0] > 180).any(axis=axis)) for axis in (1, 0))
    found = np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1])
    np.testing.assert_allclose(found, np.array([30, 20, 60, 50]) * ([size[0] / 90, size[1] / 80] * 2), atol=1)


def test_an_exact_resize_is_opencv_s_own_whatever_was_done_before():
    image, out = noise(47, 61), np.empty((30, 40, 3), np.uint8)
    expected = cv2.resize(image, (40, 30))
    resize(image, out, exact=False)
    np.testing.assert_allclose(out.astype(int), expected, atol=1)
    resize(image, out, exact=True)
    assert np.array_equal(out, expected)


# --- colour ---


def test_a_batch_of_matrices_is_each_of_them():
    factors = np.random.default_rng(0).random((5, 4))
    for matrix, row in zip(color_matrices(factors), factors, strict=True):
        assert matrix.shape == (3, 4) and matrix.dtype == np.float32
        assert np.array_equal(matrix, color_matrices(row[None])[0])


def test_mean_grey_by_hand():
    image = np.full((64, 32, 3), 90, np.uint8)
    image[:16] = (255, 0, 0)  # a quarter
    assert abs(mean_grey(image) - (0.25 * 0.299 * 255 + 0.75 * 90)) < 1e-9
    gradient = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None, None], (200, 300, 3))
    assert abs(mean_grey(gradient) - 99.5) < 7  # half a step of the grid


def test_neutral_factors_change_nothing():
    assert np.array_equal(adjusted(noise()), noise())


def test_brightness_multiplies():
    assert adjusted([[[50, 100, 200]]], brightness=1.2).tolist() == [[[60, 120, 240]]]
    assert adjusted([[[50, 100, 200]]], brightness=2).tolist() == [[[100, 200, 255]]]  # and stops at white


def test_contrast_is_about_the_mean_grey():
    image = [[[100] * 3, [200] * 3]]  # mean 150
    assert adjusted(image, contrast=0.5)[0, :, 0].tolist() == [125, 175]
    assert adjusted(image, contrast=1.2)[0, :, 0].tolist() == [90, 210]
    assert adjusted(image, brightness=0.5, contrast=0)[0, :, 0].tolist() == [75, 75]  # the mean of the darkened image


def test_saturation_is_a_distance_from_grey():
    grey = adjusted(noise(), saturation=0)
    assert (grey == grey[..., :1]).all()
    # 0.299 red + 0.587 green + 0.114 blue, ITU-R BT.601
    np.testing.assert_allclose(grey[..., 0], noise() @ [0.299, 0.587, 0.114], atol=1)
    half = adjusted(noise(), saturation=0.5).astype(float)
    np.testing.assert_allclose(half, (noise().astype(float) + grey) / 2, atol=1)


def test_hue_leaves_greys_and_luma():
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    np.testing.assert_allclose(adjusted(greys, hue=0.3).astype(int), greys, atol=1)
    pale = (noise() // 4 + 96).astype(np.uint8)  # far from where colours are cut off
    turned = adjusted(pale, hue=0.2)
    np.testing.assert_allclose(turned @ [0.299, 0.587, 0.114], pale @ [0.299, 0.587, 0.114], atol=1)
    assert np.abs(turned.astype(int) - pale).max() > 20


def test_a_whole_turn_of_hue_is_none():
    np.testing.assert_allclose(adjusted(noise(), hue=1).astype(int), noise(), atol=1)


@pytest.mark.parametrize("hue", [-0.1, -0.05, 0.05, 0.1])
def test_hue_turns_as_the_colour_wheel_does(hue):
    """Red towards green and green towards blue for a positive turn, by about as much as HSV's hue."""
    for color in ([180, 100, 100], [100, 180, 100], [100, 100, 180], [160, 160, 90]):
        before, after = (
            colorsys.rgb_to_hsv(*pixel / 255)[0] for pixel in (np.array(color), adjusted([[color]], hue=hue)[0, 0])
        )
        turn = (after - before + 0.5) % 1 - 0.5
        assert np.sign(turn) == np.sign(hue) and 0.4 * abs(hue) < abs(turn) < 2 * abs(hue)
