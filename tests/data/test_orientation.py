"""Turning images and points upright: all eight EXIF orientations."""

import numpy as np
import pytest

from ssd.data.orientation import turn_image, turn_points, turn_size

STORED = np.arange(6, dtype=np.uint8).reshape(2, 3)  # [[0, 1, 2], [3, 4, 5]]
UPRIGHT = {  # first stored row and column, as the EXIF standard defines them
    1: [[0, 1, 2], [3, 4, 5]],  # top, left
    2: [[2, 1, 0], [5, 4, 3]],  # top, right
    3: [[5, 4, 3], [2, 1, 0]],  # bottom, right
    4: [[3, 4, 5], [0, 1, 2]],  # bottom, left
    5: [[0, 3], [1, 4], [2, 5]],  # left, top
    6: [[3, 0], [4, 1], [5, 2]],  # right, top
    7: [[5, 2], [4, 1], [3, 0]],  # right, bottom
    8: [[2, 5], [1, 4], [0, 3]],  # left, bottom
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images(orientation):
    turned = turn_image(STORED, orientation)
    assert turned.tolist() == UPRIGHT[orientation]
    assert turned.flags["C_CONTIGUOUS"]
    assert turned.shape == turn_size((2, 3), orientation)
    assert turn_size(turned.shape, orientation) == (2, 3)
    color = turn_image(np.repeat(STORED[..., None], 3, axis=2), orientation)
    assert (color == turned[..., None]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_points_stay_on_their_pixels(orientation):
    turned = turn_image(STORED, orientation)
    for y in range(2):
        for x in range(3):
            new_x, new_y = turn_points(np.array([x + 0.5, y + 0.5]), orientation, stored_size=(2, 3))
            assert turned[int(new_y), int(new_x)] == STORED[y, x]
            assert new_x % 1 == new_y % 1 == 0.5  # the center of the pixel


def test_points_do_not_change_their_input_and_may_be_none():
    points = np.array([[1, 2]])
    assert turn_points(points, 6, stored_size=(10, 20)).tolist() == [[8, 1]]
    assert points.tolist() == [[1, 2]]
    assert turn_points(np.zeros((0, 2)), 6, stored_size=(10, 20)).shape == (0, 2)
