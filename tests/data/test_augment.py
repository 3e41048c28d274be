"""Laws of what is seen: crops keep their promise, canvases hold their image, and patches fit how they are decoded."""

import numpy as np
import pytest

from ssd.boxes.ops import pairwise_iou
from ssd.data.augment import CROP_TRIALS, align, choose_scale_denominator, holds_center, random_crop, zoom_out

BOXES = np.array([[10, 10, 110, 190], [20, 30, 60, 70], [70, 120, 110, 180]], dtype=np.float64)
WHOLE = [0, 0, 120, 200]


def crop(canvas, boxes, min_iou, image_size=(300, 300), count=300, seed=0):
    """Many tries at one image: patches (N, 4) of those that found one."""
    boxes = np.reshape(boxes, (-1, 4)).astype(float)
    draws = np.random.default_rng(seed).random((count, CROP_TRIALS, 4))
    many = (
        np.broadcast_to(canvas, (count, 4)),
        np.broadcast_to(boxes, (count, *boxes.shape)),
        np.ones((count, len(boxes))),
    )
    patches, found = random_crop(*many, np.full(count, min_iou), image_size, draws)
    assert patches.shape == (count, 4) and patches.dtype == np.int64 and found.shape == (count,)
    return patches[found]


# --- zoom out ---


def test_a_canvas_holds_the_image_at_any_place():
    draws = np.random.default_rng(0).random((500, 3))
    canvases = zoom_out(np.broadcast_to([120, 200], (500, 2)), 4, draws)
    assert canvases.dtype == np.int64
    assert (canvases[:, :2] <= 0).all() and (canvases[:, 2:] >= [120, 200]).all()
    height, width = (canvases[:, 2:] - canvases[:, :2]).T
    np.testing.assert_allclose(height / 120, width / 200, atol=0.01)  # the image's own shape, to the pixel
    shares = height / 120
    assert shares.min() < 1.1 and 3.9 < shares.max() <= 4 and 2.3 < shares.mean() < 2.7
    places = -canvases[:, :2] / np.maximum(np.stack([height - 120, width - 200], axis=1), 1)
    assert (places.min(axis=0) < 0.05).all() and (places.max(axis=0) > 0.95).all()
    assert abs(np.corrcoef(places.T)[0, 1]) < 0.2  # down and across are independent


def test_zooming_out_by_hand():
    draws = np.array([[0.5, 0.25, 1], [0.5, 0, 0]])
    # half the way from 1 to 3 is twice as long sides
    assert zoom_out(np.array([[100, 200], [10, 10]]), 3, draws).tolist() == [[-25, -200, 175, 200], [0, 0, 20, 20]]


# --- crop ---


@pytest.mark.parametrize("canvas", [WHOLE, [-60, -150, 180, 250]], ids=["image", "zoomed out"])
@pytest.mark.parametrize("image_size", [(300, 300), (20, 20)], ids=["full", "reduced"])
@pytest.mark.parametrize("min_iou", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_crop_keeps_its_promise(min_iou, image_size, canvas):
    patches = crop(canvas, BOXES, min_iou, image_size, count=3000 if min_iou == 0.9 else 300)
    assert len(patches) > (0 if min_iou == 0.9 else 20)
    canvas = np.array(canvas)
    for patch in patches:
        reduction = choose_scale_denominator(patch[2:] - patch[:2], image_size)
        assert (patch % reduction == 0).all()  # so that it can be cut out of a reduced image
        assert (patch[:2] >= canvas[:2]).all() and (patch[2:] <= canvas[2:]).all()
        height, width = patch[2:] - patch[:2]
        assert 0.5 <= height / width <= 2
        assert (patch[2:] - patch[:2] >= 0.3 * (canvas[2:] - canvas[:2]) - 2 * reduction).all()
        inside = holds_center(patch[None], BOXES)[0]
        assert pairwise_iou(patch[None], BOXES)[0, inside].max() >= min_iou


def test_crops_are_those_of_their_draws():
    first, again, other = (crop(WHOLE, BOXES, 0.3, seed=seed, count=20).tolist() for seed in (0, 0, 1))
    assert first == again != other and len({tuple(patch) for patch in first}) > 15


def test_a_batch_is_cropped_as_each_of_its_images_is():
    draws = np.random.default_rng(0).random((2, CROP_TRIALS, 4))
    boxes, labels = np.zeros((2, 3, 4)), np.array([[1, 2, 1], [3, 0, 0]])
    boxes[0], boxes[1, 0] = BOXES, [20, 30, 60, 70]
    canvases, min_iou = np.array([WHOLE, [-40, -40, 100, 100]]), np.array([0.5, 0.1])
    patches, found = random_crop(canvases, boxes, labels, min_iou, (300, 300), draws)
    assert found.all()
    for row, count in ((0, 3), (1, 1)):
        alone = np.s_[row : row + 1]
        single, _ = random_crop(
            canvases[alone], boxes[alone, :count], labels[alone, :count], min_iou[alone], (300, 300), draws[alone]
        )
        assert patches[row].tolist() == single[0].tolist()


def test_there_is_no_crop_without_objects():
    draws = np.random.default_rng(0).random((1, CROP_TRIALS, 4))
    for min_iou in (0.0, 0.1):  # padding lies in the corner of the image, which a larger canvas holds
        _, found = random_crop(
            np.array([[-50, -50, 50, 50]]),
            np.zeros((1, 2, 4)),
            np.zeros((1, 2)),
            np.array([min_iou]),
            (300, 300),
            draws,
        )
        assert not found.any()


def test_there_is_no_crop_that_cannot_be():
    # 5x5 pixels are at most 25/900 of a patch
    assert len(crop([0, 0, 100, 100], [50, 50, 55, 55], 0.9)) == 0


def test_the_smallest_image_can_be_cropped():
    with np.errstate(all="raise"):
        assert (crop([0, 0, 1, 1], [0, 0, 1, 1], 0.1) == [0, 0, 1, 1]).all()


def test_centers_by_hand():
    # centres: (60, 100), (40, 50), (90, 150); a centre on the border is outside
    patches = np.array([[0, 0, 50, 60], [40, 0, 120, 200], [0, 0, 120, 200]])
    expected = [[False, True, False], [True, False, True], [True, True, True]]
    assert holds_center(patches, BOXES).tolist() == expected


# --- reduction ---


@pytest.mark.parametrize(
    "sides, expected",
    [((299, 299), 1), ((600, 599), 1), ((600, 600), 2), ((10000, 600), 2), ((1199, 1300), 2), ((1200, 1200), 4)]
    + [((2399, 2400), 4), ((2400, 2400), 8), ((9600, 9600), 8)],
)
def test_reduction_by_hand(sides, expected):
    assert choose_scale_denominator(np.array(sides), (300, 300)) == expected


def test_reduction_of_many_is_that_of_each():
    sides = np.random.default_rng(0).integers(1, 3000, (50, 2))
    assert choose_scale_denominator(sides, (300, 200)).tolist() == [
        int(choose_scale_denominator(one, (300, 200))) for one in sides
    ]


def test_aligning_by_hand():
    patches, reductions = np.array([[-3, 0, 5, 8], [-3, 1, 5, 9]]), np.array([4, 1])
    assert align(patches, reductions).tolist() == [[-4, 0, 8, 8], [-3, 1, 5, 9]]
