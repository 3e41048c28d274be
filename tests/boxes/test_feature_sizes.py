"""Sizes of feature maps, and steps of anchors, against values computed by hand."""

import pytest

from ssd.boxes.feature_sizes import fitting_steps, smallest_fitting_step, strided_size


def test_sizes_are_rounded_up():
    assert strided_size((300, 301), 150) == (2, 3)
    assert strided_size((10, 7), 1) == (10, 7)


def test_a_layer_without_padding_loses_its_border():
    assert strided_size((5, 8), 1, border=2) == (3, 6)  # a 3x3 convolution
    assert strided_size((5, 8), 2, border=2) == (2, 3)


@pytest.mark.parametrize(
    "image_size, feature_size, step",
    [
        ((300, 300), (3, 3), 100),
        ((300, 300), (19, 19), 16),  # 300 / 19 = 15.8
        ((200, 300), (2, 3), 100),
        ((200, 300), (1, 1), 300),
        ((100, 10), (10, 1), 10),
        ((100, 100), (10, 1), None),  # 10 gives ten columns, and 100 gives one row
        ((100, 100), (0, 0), None),
        ((100, 100), (1, 0), None),
    ],
)
def test_the_smallest_step_fits_both_sides(image_size, feature_size, step):
    assert smallest_fitting_step(image_size, feature_size) == step


def test_preferred_steps_are_kept_if_they_fit():
    feature_sizes = [(19, 19), (10, 10), (3, 3), (10, 3)]
    # 16 gives 19 rows and columns, not 10. 149 gives 3, as 100 does.
    assert fitting_steps((300, 300), feature_sizes, preferred=[16, 16, 149, 32]) == [16, 30, 149, None]
