"""Anchors on feature maps of a few locations against hand-computed boxes, and the published numbers of anchors."""

from types import SimpleNamespace

import numpy as np
import pytest

from ssd.boxes.anchors import DefaultBoxes, GridAnchors, create_anchors

CLOSE = {"rtol": 0, "atol": 1e-6}


def test_default_boxes_of_a_first_level_without_aspect_ratios():
    anchors = DefaultBoxes((10, 10), [10], min_scale=0.2, max_scale=0.95, aspect_ratios=[[]])
    # A square of 0.1, then the wide and the tall box of scale 0.2 and ratio 2, whose sides are 0.2 / sqrt 2 = 0.1414214
    # and 0.2 * sqrt 2 = 0.2828427.
    expected = [
        [0.5, 0.5, 0.1, 0.1],
        [0.5, 0.5, 0.1414214, 0.2828427],
        [0.5, 0.5, 0.2828427, 0.1414214],
    ]
    np.testing.assert_allclose(anchors.boxes_cyxhw, expected, **CLOSE)
    assert len(anchors) == 3 and anchors.num_per_location == [3] and anchors.feature_sizes == [(1, 1)]


def test_order_of_default_boxes_of_two_levels():
    anchors = DefaultBoxes((100, 100), [50, 100], min_scale=0.2, max_scale=0.8, aspect_ratios=[[4], [4]])
    # The scales are 0.2 and 0.8, then 1. Ratio 4 halves one side and doubles the other; the wide box comes first. The
    # last box of a location has the geometric mean of its scale and the next: sqrt(0.2 * 0.8) = 0.4 and
    # sqrt(0.8 * 1) = 0.8944272.
    first_level_sizes = [[0.2, 0.2], [0.1, 0.4], [0.4, 0.1], [0.4, 0.4]]
    last_level_sizes = [[0.8, 0.8], [0.4, 1.6], [1.6, 0.4], [0.8944272, 0.8944272]]
    # The map of the first level has 2x2 locations, which are listed row by row.
    expected = [[cy, cx, h, w] for cy in (0.25, 0.75) for cx in (0.25, 0.75) for h, w in first_level_sizes]
    expected += [[0.5, 0.5, h, w] for h, w in last_level_sizes]
    np.testing.assert_allclose(anchors.boxes_cyxhw, expected, **CLOSE)
    assert anchors.num_per_location == [4, 4] and anchors.feature_sizes == [(2, 2), (1, 1)]


def test_default_box_scales_are_evenly_spaced():
    anchors = DefaultBoxes((8, 8), [8, 8, 8, 8], min_scale=0.2, max_scale=0.8, aspect_ratios=[[2]] * 4)
    np.testing.assert_allclose(anchors.boxes_cyxhw[::4, 2], [0.2, 0.4, 0.6, 0.8], **CLOSE)  # the squares of each level


def test_default_boxes_of_an_image_that_is_not_square():
    anchors = DefaultBoxes((200, 100), [100], min_scale=0.2, max_scale=0.9, aspect_ratios=[[]])
    # Two rows and one column. Sizes are fractions of each side, so the square is square only in these units.
    np.testing.assert_allclose(anchors.boxes_cyxhw[::3], [[0.25, 0.5, 0.1, 0.1], [0.75, 0.5, 0.1, 0.1]], **CLOSE)
    assert anchors.feature_sizes == [(2, 1)]


def test_map_sizes_are_rounded_up_and_centers_are_multiples_of_the_step():
    anchors = DefaultBoxes((300, 300), [64], min_scale=0.2, max_scale=0.9, aspect_ratios=[[]])
    assert anchors.feature_sizes == [(5, 5)]  # 300 / 64 = 4.7
    # Centers are 32, 96, 160, 224 and 288 pixels, not the middles of five equal parts of the image.
    centers = np.array([32, 96, 160, 224, 288]) / 300
    np.testing.assert_allclose(anchors.boxes_cyxhw[:15:3, 1], centers, **CLOSE)
    np.testing.assert_allclose(anchors.boxes_cyxhw[::15, 0], centers, **CLOSE)


def test_order_of_grid_anchors_of_one_location():
    anchors = GridAnchors((8, 8), [8])
    # 4 steps are 32 pixels, 4 times the image; the other size is 4 * sqrt 2 = 5.6568542. Both sizes come with ratio 1,
    # then with ratio 2 (4 / sqrt 2 = 2.8284271 high and twice as wide), then with ratio 1/2.
    sizes = [[4, 4], [5.6568542, 5.6568542], [2.8284271, 5.6568542], [4, 8], [5.6568542, 2.8284271], [8, 4]]
    np.testing.assert_allclose(anchors.boxes_cyxhw, [[0.5, 0.5, h, w] for h, w in sizes], **CLOSE)


def test_grid_anchors_of_a_wide_image():
    anchors = GridAnchors((8, 16), [8], scale=1.0, scales_per_octave=1, aspect_ratios=[1.0, 4.0])
    # One row and two columns. 8 pixels are the whole height and half the width. Ratio 4 is 4 pixels high, 16 wide.
    expected = [[0.5, cx, h, w] for cx in (0.25, 0.75) for h, w in ([1, 0.5], [0.5, 1])]
    np.testing.assert_allclose(anchors.boxes_cyxhw, expected, **CLOSE)


def test_corners_match_centers_and_sizes_and_are_not_clipped():
    anchors = GridAnchors((8, 8), [8])
    np.testing.assert_allclose(anchors.boxes_yxyx[0], [-1.5, -1.5, 2.5, 2.5], **CLOSE)  # 4 around 0.5
    np.testing.assert_allclose(anchors.boxes_yxyx[3], [-1.5, -3.5, 2.5, 4.5], **CLOSE)  # 4 high, 8 wide
    assert anchors.boxes_yxyx.dtype == anchors.boxes_cyxhw.dtype == np.float32


def test_published_numbers_of_anchors():
    default = DefaultBoxes(
        image_size=(300, 300),
        steps=[16, 32, 64, 100, 150, 300],
        min_scale=0.2,
        max_scale=0.95,
        aspect_ratios=[[], *[[2, 3]] * 5],
    )
    # 19² x 3 + (10² + 5² + 3² + 2² + 1²) x 6
    assert len(default) == 1917 == len(default.boxes_yxyx)
    assert default.feature_sizes == [(19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]
    grid = GridAnchors((640, 640), [8, 16, 32, 64, 128])
    # (80² + 40² + 20² + 10² + 5²) x 6
    assert len(grid) == 51150 == len(grid.boxes_yxyx)
    assert grid.num_per_location == [6] * 5


def test_box_sizes_in_pixels():
    anchors = DefaultBoxes((100, 200), [100], min_scale=0.2, max_scale=0.9, aspect_ratios=[[4]], box_sizes=[20, 45])
    # 20 pixels are a fifth of the height and a tenth of the width; ratio 4 is 10 high and 40 wide; sqrt(20 * 45) = 30.
    sizes = [[0.2, 0.1], [0.1, 0.2], [0.4, 0.05], [0.3, 0.15]]
    expected = [[0.5, cx, h, w] for cx in (0.25, 0.75) for h, w in sizes]
    np.testing.assert_allclose(anchors.boxes_cyxhw, expected, **CLOSE)


def test_box_sizes_in_pixels_do_not_reduce_the_first_level():
    anchors = DefaultBoxes((10, 10), [10], min_scale=0.2, max_scale=0.95, aspect_ratios=[[]], box_sizes=[4, 9])
    np.testing.assert_allclose(anchors.boxes_cyxhw, [[0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.6, 0.6]], **CLOSE)


def test_clip_limits_centers_and_sizes_but_not_corners():
    anchors = DefaultBoxes(
        (100, 100), [80], min_scale=0.2, max_scale=0.9, aspect_ratios=[[4]], box_sizes=[80, 80], clip=True
    )
    # Centers are 40 and 120 pixels, the second clipped to 100. Sizes are 80, and 40 and 160 for ratio 4, 160 clipped
    # to 100.
    centers = [(0.4, 0.4), (0.4, 1), (1, 0.4), (1, 1)]
    sizes = [(0.8, 0.8), (0.4, 1), (1, 0.4), (0.8, 0.8)]
    expected = [[*center, *size] for center in centers for size in sizes]
    np.testing.assert_allclose(anchors.boxes_cyxhw, expected, **CLOSE)
    np.testing.assert_allclose(anchors.boxes_yxyx[13], [0.8, 0.5, 1.2, 1.5], **CLOSE)  # center (1, 1), 0.4 high, 1 wide


# Levels of NVIDIA's SSD300: side of the map, step, (height, width) in pixels of the boxes of a location. They are
# computed by hand from the sizes 21, 45, 99, 153, 207, 261, 315: s, s / sqrt 2 and s * sqrt 2, s / sqrt 3 and
# s * sqrt 3, and sqrt(s * next s).
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
    (1, 300, [(261, 261), (184.5549, 300), (300, 184.5549), (286.7315, 286.7315)]),  # 369 pixels are clipped to 300
]


def test_8732_default_boxes_of_ssd300(load_recipe):
    anchors = create_anchors(load_recipe("ssd_resnet50"))
    assert len(anchors) == 8732  # 38² x 4 + (19² + 10² + 5²) x 6 + (3² + 1²) x 4
    assert anchors.num_per_location == [4, 6, 6, 6, 4, 4]
    assert anchors.feature_sizes == [(side, side) for side, _step, _sizes in SSD300]
    expected = [
        [min((row + 0.5) * step, 300), min((col + 0.5) * step, 300), height, width]  # 9.5 * 32 = 304
        for side, step, sizes in SSD300
        for row in range(side)
        for col in range(side)
        for height, width in sizes
    ]
    np.testing.assert_allclose(anchors.boxes_cyxhw * 300, expected, rtol=0, atol=2e-4)


# Levels of uvipen's SSDLite: side of the map, step, and sizes in pixels of the small square, of the long and short
# sides of the boxes with ratios 2 and 3, and of the large square. They are computed by hand from the sizes 60, 105,
# 150, 195, 240, 285, 330: s, s * sqrt 2 and s / sqrt 2, s * sqrt 3 and s / sqrt 3, sqrt(s * next s). 300 is the limit.
SSDLITE = [
    (19, 16, (60, (84.8528, 42.4264), (103.9230, 34.6410), 79.3725)),
    (10, 32, (105, (148.4924, 74.2462), (181.8653, 60.6218), 125.4990)),
    (5, 64, (150, (212.1320, 106.0660), (259.8076, 86.6025), 171.0263)),
    (3, 100, (195, (275.7716, 137.8858), (300, 112.5833), 216.3331)),  # 337.7499
    (2, 150, (240, (300, 169.7056), (300, 138.5641), 261.5339)),  # 339.4113 and 415.6922
    (1, 300, (285, (300, 201.5254), (300, 164.5448), 300)),  # 403.0509, 493.6345 and 306.6757
]


def test_3000_default_boxes_of_ssdlite(load_recipe):
    """Box by box: every location has the small square, (wide, tall) of ratio 2 and of ratio 3, and the large square."""
    anchors = create_anchors(load_recipe("ssdlite_mobilenetv2"))
    assert len(anchors) == 3000  # (19² + 10² + 5² + 3² + 2² + 1²) x 6
    expected = []
    for side, step, (small, (long2, short2), (long3, short3), large) in SSDLITE:
        shapes = [(small, small), (short2, long2), (long2, short2), (short3, long3), (long3, short3), (large, large)]
        for row in range(side):
            for col in range(side):
                cy, cx = min((row + 0.5) * step, 300), min((col + 0.5) * step, 300)  # 9.5 * 32 = 304
                expected += [[cy, cx, height, width] for height, width in shapes]
    np.testing.assert_allclose(anchors.boxes_cyxhw * 300, expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("kind, expected", [("default", DefaultBoxes), ("grid", GridAnchors)])
def test_create_anchors_reads_the_kind_from_the_recipe(kind, expected):
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
    # The second box is the wide one of ratio 3 and scale 0.2, or the larger square of the grid.
    second = {"default": [0.1154701, 0.3464102], "grid": [5.6568542, 5.6568542]}[kind]
    np.testing.assert_allclose(anchors.boxes_cyxhw[1, 2:], second, **CLOSE)
