"""Anchors on maps of one to four locations, typed by hand, and the published numbers of them."""

from types import SimpleNamespace

import numpy as np
import pytest

from ssd.boxes.anchors import DefaultBoxes, GridAnchors, create_anchors

CLOSE = {"rtol": 0, "atol": 1e-6}


def test_default_boxes_of_a_first_level_without_ratios():
    anchors = DefaultBoxes((10, 10), [10], 0.2, 0.95, [[]])
    # A square of 0.1, then 0.2 wide and tall with ratio 2: 0.2 / sqrt 2 = 0.1414214 and 0.2 * sqrt 2 = 0.2828427.
    expected = [
        [0.5, 0.5, 0.1, 0.1],
        [0.5, 0.5, 0.1414214, 0.2828427],
        [0.5, 0.5, 0.2828427, 0.1414214],
    ]
    np.testing.assert_allclose(anchors.boxes_cyxhw, expected, **CLOSE)
    assert len(anchors) == 3 and anchors.num_per_location == [3] and anchors.feature_sizes == [(1, 1)]


def test_default_boxes_of_two_levels_in_order():
    anchors = DefaultBoxes((100, 100), [50, 100], 0.2, 0.8, [[4], [4]])
    # Scales 0.2 and 0.8, then 1. Ratio 4 halves one side and doubles the other, the wide box first. The last box of a
    # location has the geometric mean with the next scale: sqrt(0.2 * 0.8) = 0.4, sqrt(0.8 * 1) = 0.8944272.
    sizes_of_first = [[0.2, 0.2], [0.1, 0.4], [0.4, 0.1], [0.4, 0.4]]
    sizes_of_last = [[0.8, 0.8], [0.4, 1.6], [1.6, 0.4], [0.8944272, 0.8944272]]
    # The map of the first level is 2x2, walked row by row.
    expected = [[cy, cx, h, w] for cy in (0.25, 0.75) for cx in (0.25, 0.75) for h, w in sizes_of_first]
    expected += [[0.5, 0.5, h, w] for h, w in sizes_of_last]
    np.testing.assert_allclose(anchors.boxes_cyxhw, expected, **CLOSE)
    assert anchors.num_per_location == [4, 4] and anchors.feature_sizes == [(2, 2), (1, 1)]


def test_default_box_scales_are_evenly_spaced():
    anchors = DefaultBoxes((8, 8), [8, 8, 8, 8], 0.2, 0.8, [[2]] * 4)
    np.testing.assert_allclose(anchors.boxes_cyxhw[::4, 2], [0.2, 0.4, 0.6, 0.8], **CLOSE)  # the squares of each level


def test_default_boxes_of_a_tall_image():
    anchors = DefaultBoxes((200, 100), [100], 0.2, 0.9, [[]])
    # Two rows and one column; sizes are shares of each side, so the square is square only in units of the image.
    np.testing.assert_allclose(anchors.boxes_cyxhw[::3], [[0.25, 0.5, 0.1, 0.1], [0.75, 0.5, 0.1, 0.1]], **CLOSE)
    assert anchors.feature_sizes == [(2, 1)]


def test_a_map_is_rounded_up_and_its_centres_follow_the_step():
    anchors = DefaultBoxes((300, 300), [64], 0.2, 0.9, [[]])
    assert anchors.feature_sizes == [(5, 5)]  # 300 / 64 = 4.7
    # Centres 32, 96, 160, 224 and 288 pixels, not five even parts of the image.
    centres = np.array([32, 96, 160, 224, 288]) / 300
    np.testing.assert_allclose(anchors.boxes_cyxhw[:15:3, 1], centres, **CLOSE)
    np.testing.assert_allclose(anchors.boxes_cyxhw[::15, 0], centres, **CLOSE)


def test_grid_anchors_of_one_location_in_order():
    anchors = GridAnchors((8, 8), [8])
    # 4 steps = 32 pixels, 4 times the image, and 4 * sqrt 2 = 5.6568542. Both sizes of width over height 1, then of 2
    # (4 / sqrt 2 = 2.8284271 high and twice as wide), then of 1/2.
    sizes = [[4, 4], [5.6568542, 5.6568542], [2.8284271, 5.6568542], [4, 8], [5.6568542, 2.8284271], [8, 4]]
    np.testing.assert_allclose(anchors.boxes_cyxhw, [[0.5, 0.5, h, w] for h, w in sizes], **CLOSE)


def test_grid_anchors_of_a_wide_image():
    anchors = GridAnchors((8, 16), [8], scale=1.0, scales_per_octave=1, aspect_ratios=[1.0, 4.0])
    # One row and two columns. 8 pixels are the whole height and half the width; ratio 4 is 4 pixels high and 16 wide.
    expected = [[0.5, cx, h, w] for cx in (0.25, 0.75) for h, w in ([1, 0.5], [0.5, 1])]
    np.testing.assert_allclose(anchors.boxes_cyxhw, expected, **CLOSE)


def test_corners_belong_to_the_centres_and_are_not_clipped():
    anchors = GridAnchors((8, 8), [8])
    np.testing.assert_allclose(anchors.boxes_yxyx[0], [-1.5, -1.5, 2.5, 2.5], **CLOSE)  # 4 around 0.5
    np.testing.assert_allclose(anchors.boxes_yxyx[3], [-1.5, -3.5, 2.5, 4.5], **CLOSE)  # 4 high, 8 wide
    assert anchors.boxes_yxyx.dtype == anchors.boxes_cyxhw.dtype == np.float32


def test_published_numbers_of_anchors():
    default = DefaultBoxes((300, 300), [16, 32, 64, 100, 150, 300], 0.2, 0.95, [[], *[[2, 3]] * 5])
    # 19² x 3 + (10² + 5² + 3² + 2² + 1²) x 6
    assert len(default) == 1917 == len(default.boxes_yxyx)
    assert default.feature_sizes == [(19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]
    grid = GridAnchors((640, 640), [8, 16, 32, 64, 128])
    # (80² + 40² + 20² + 10² + 5²) x 6
    assert len(grid) == 51150 == len(grid.boxes_yxyx)
    assert grid.num_per_location == [6] * 5


def test_sizes_in_pixels_by_hand():
    anchors = DefaultBoxes((100, 200), [100], 0.2, 0.9, [[4]], box_sizes=[20, 45])
    # 20 pixels are a fifth of the height and a tenth of the width; ratio 4 is 10 high and 40 wide; sqrt(20 * 45) = 30.
    sizes = [[0.2, 0.1], [0.1, 0.2], [0.4, 0.05], [0.3, 0.15]]
    expected = [[0.5, cx, h, w] for cx in (0.25, 0.75) for h, w in sizes]
    np.testing.assert_allclose(anchors.boxes_cyxhw, expected, **CLOSE)


def test_sizes_in_pixels_have_no_reduced_first_level():
    anchors = DefaultBoxes((10, 10), [10], 0.2, 0.95, [[]], box_sizes=[4, 9])
    np.testing.assert_allclose(anchors.boxes_cyxhw, [[0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.6, 0.6]], **CLOSE)


def test_clipping_limits_centres_and_sides_but_not_corners():
    anchors = DefaultBoxes((100, 100), [80], 0.2, 0.9, [[4]], box_sizes=[80, 80], clip=True)
    # Centres 40 and 120, of which the second is limited to 100; sides 80, and with ratio 4 40 and 160, limited to 100.
    centres = [(0.4, 0.4), (0.4, 1), (1, 0.4), (1, 1)]
    sizes = [(0.8, 0.8), (0.4, 1), (1, 0.4), (0.8, 0.8)]
    expected = [[*centre, *size] for centre in centres for size in sizes]
    np.testing.assert_allclose(anchors.boxes_cyxhw, expected, **CLOSE)
    np.testing.assert_allclose(anchors.boxes_yxyx[13], [0.8, 0.5, 1.2, 1.5], **CLOSE)  # centre (1, 1), 0.4 by 1


# Of NVIDIA's SSD300: map, step, (height, width) in pixels of the boxes at a location, by hand from the sizes 21, 45,
# 99, 153, 207, 261, 315: s, s / sqrt 2 and s * sqrt 2, s / sqrt 3 and s * sqrt 3, and sqrt(s * next s).
SSD300 = [
    (38, 8, [(21, 21), (14.8492, 29.6985), (29.6985, 14.8492), (30.7409, 30.7409)]),
    (
        19,
        16,
        [(45, 45), (31.8198, 63.6396), (63.6396, 31.8198), (25.9808, 77.9423), (77.9423, 25.9808), (66.7458, 66.7458)],
    ),
    (
        10,
        32,
        [
            (99, 99),
            (70.0036, 140.0071),
            (140.0071, 70.0036),
            (57.1577, 171.4730),
            (171.4730, 57.1577),
            (123.0732, 123.0732),
        ],
    ),
    (
        5,
        64,
        [
            (153, 153),
            (108.1873, 216.3747),
            (216.3747, 108.1873),
            (88.3346, 265.0038),
            (265.0038, 88.3346),
            (177.9635, 177.9635),
        ],
    ),
    (3, 100, [(207, 207), (146.3711, 292.7422), (292.7422, 146.3711), (232.4371, 232.4371)]),
    (1, 300, [(261, 261), (184.5549, 300), (300, 184.5549), (286.7315, 286.7315)]),  # 369 pixels are limited to 300
]


def test_the_8732_boxes_of_ssd300(load_recipe):
    anchors = create_anchors(load_recipe("ssd_resnet50"))
    assert len(anchors) == 8732  # 38² x 4 + (19² + 10² + 5²) x 6 + (3² + 1²) x 4
    assert anchors.num_per_location == [4, 6, 6, 6, 4, 4]
    assert anchors.feature_sizes == [(side, side) for side, _, _ in SSD300]
    expected = [
        [min((row + 0.5) * step, 300), min((col + 0.5) * step, 300), height, width]  # 9.5 * 32 = 304
        for side, step, sizes in SSD300
        for row in range(side)
        for col in range(side)
        for height, width in sizes
    ]
    np.testing.assert_allclose(anchors.boxes_cyxhw * 300, expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("kind, expected", [("default", DefaultBoxes), ("grid", GridAnchors)])
def test_create_anchors_takes_the_recipe_s_kind(kind, expected):
    cfg = SimpleNamespace(
        anchors=kind,
        image_size=(8, 8),
        steps=(8,),
        min_scale=0.2,
        max_scale=0.95,
        aspect_ratios=((3.0,),),
        box_sizes=None,
        clip_default_boxes=False,
    )
    anchors = create_anchors(cfg)
    assert type(anchors) is expected
    # The second box: of ratio 3 and scale 0.2, 0.1154701 x 0.3464102; or the grid's larger square.
    second = {"default": [0.1154701, 0.3464102], "grid": [5.6568542, 5.6568542]}[kind]
    np.testing.assert_allclose(anchors.boxes_cyxhw[1, 2:], second, **CLOSE)
