"""Laws of augmentation: boxes go where pixels go, crops keep their promise, and neutral factors change nothing."""

import numpy as np
import pytest
from ssd.boxes.ops import pairwise_iou
from ssd.data.transforms import adjust_color, flip, pad_objects, random_crop, resize

GREY, RED, GREEN = (100, 100, 100), (255, 0, 0), (0, 255, 0)


def draw(height, width, rectangles):
    """A grey image with {colour: (y0, x0, y1, x1)} drawn into it."""
    image = np.full((height, width, 3), GREY, np.uint8)
    for colour, (y0, x0, y1, x1) in rectangles.items():
        image[y0:y1, x0:x1] = colour
    return image


def find(image, colour):
    """boxes_yxyx, (4,) pixels, of the pixels that are nearer to a colour than to grey."""
    pixels = image.astype(int)
    near = np.abs(pixels - colour).sum(axis=2) < np.abs(pixels - GREY).sum(axis=2)
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    return np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1])


def position_image(height, width):
    """An image whose pixels tell where they are: red is y, green is x; so a patch tells where it was cut."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = np.mgrid[:height, :width]
    return image


# --- crop ---


def test_boxes_follow_a_crop():
    rectangles = {RED: (10, 20, 60, 80), GREEN: (50, 90, 90, 140)}
    image, boxes = draw(100, 160, rectangles), np.float32(list(rectangles.values()))
    kept = {1: 0, 2: 0}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        patch, patch_boxes, labels = random_crop(image, boxes, np.int32([1, 2]), 0.1, rng)
        assert patch.shape != image.shape and len(labels) > 0
        for box, label in zip(patch_boxes, labels):
            assert box.tolist() == find(patch, {1: RED, 2: GREEN}[label]).tolist()
            kept[int(label)] += 1
    assert min(kept.values()) > 10  # both were seen, so both were checked


@pytest.mark.parametrize("min_iou", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_crop_keeps_its_promise(min_iou):
    image = position_image(120, 200)
    boxes = np.float32([[10, 10, 110, 190], [20, 30, 60, 70], [70, 120, 110, 180]])
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    labels = np.int32([1, 2, 3])
    crops = 0
    for seed in range(100):
        patch, patch_boxes, patch_labels = random_crop(image, boxes, labels, min_iou, np.random.default_rng(seed))
        if patch.shape == image.shape:
            continue
        crops += 1
        height, width = patch.shape[:2]
        y0, x0 = patch[0, 0, :2].astype(int)
        assert 0.5 <= height / width <= 2 and height >= 0.3 * 120 - 1 and width >= 0.3 * 200 - 1
        where = np.array([[y0, x0, y0 + height, x0 + width]])
        inside = ((centres > where[:, :2]) & (centres < where[:, 2:])).all(axis=1)
        assert patch_labels.tolist() == labels[inside].tolist()
        assert pairwise_iou(where, boxes)[0, inside].max() >= min_iou
        limits = np.array([height, width] * 2)
        np.testing.assert_array_equal(patch_boxes, np.clip(boxes[inside] - [y0, x0, y0, x0], 0, limits))
    assert crops > 20


def test_crops_differ_and_repeat_with_their_generator():
    image, boxes, labels = position_image(100, 100), np.float32([[10, 10, 90, 90]]), np.int32([1])
    patches = [random_crop(image, boxes, labels, 0.3, np.random.default_rng(seed))[0] for seed in (0, 1, 2, 0)]
    assert np.array_equal(patches[0], patches[3])
    assert len({patch.shape for patch in patches[:3]}) == 3


def test_a_crop_without_objects_is_the_whole_image():
    image, boxes, labels = position_image(40, 50), np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
    patch, patch_boxes, patch_labels = random_crop(image, boxes, labels, 0.1, np.random.default_rng(0))
    assert np.array_equal(patch, image) and patch_boxes.shape == (0, 4) and patch_labels.shape == (0,)


def test_a_crop_that_cannot_be_is_the_whole_image():
    image, boxes, labels = position_image(100, 100), np.float32([[50, 50, 55, 55]]), np.int32([4])
    # 5x5 pixels are at most 25/900 of a patch
    patch, patch_boxes, patch_labels = random_crop(image, boxes, labels, 0.9, np.random.default_rng(0))
    assert np.array_equal(patch, image) and np.array_equal(patch_boxes, boxes) and patch_labels.tolist() == [4]


def test_the_smallest_image_can_be_cropped():
    image, boxes = np.zeros((1, 1, 3), np.uint8), np.float32([[0, 0, 1, 1]])
    for seed in range(5):
        with np.errstate(all="raise"):
            patch, _, labels = random_crop(image, boxes, np.int32([1]), 0.1, np.random.default_rng(seed))
        assert patch.size > 0 and len(labels) == 1


# --- flip and resize ---


def test_flip_by_hand():
    # 3..8 from the left of 20 is 12..17 from it in the mirror.
    image, boxes = flip(draw(10, 20, {RED: (1, 3, 5, 8)}), np.float32([[1, 3, 5, 8]]))
    assert boxes.tolist() == [[1, 12, 5, 17]] == [find(image, RED).tolist()]


def test_flipping_twice_changes_nothing():
    image, boxes = position_image(30, 40), np.float32([[1.5, 2.5, 20, 30], [0, 0, 30, 40]])
    twice = flip(*flip(image, boxes))
    assert np.array_equal(twice[0], image) and np.array_equal(twice[1], boxes)
    assert flip(image, boxes[:0])[1].shape == (0, 4)


@pytest.mark.parametrize("size", [(90, 40), (45, 80), (200, 300)])
def test_resize_takes_height_and_width(size):
    image = resize(draw(90, 80, {RED: (30, 20, 60, 50)}), size)
    assert image.shape == (*size, 3)
    scale = np.array([size[0] / 90, size[1] / 80] * 2)
    np.testing.assert_allclose(find(image, RED), np.array([30, 20, 60, 50]) * scale, atol=1)


# --- colour ---


def test_factors_of_one_change_nothing():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert np.array_equal(adjust_color(image, 1, 1, 1), image)


def test_brightness_multiplies():
    image = np.uint8([[[50, 100, 200]]])
    assert adjust_color(image, 1.2, 1, 1).tolist() == [[[60, 120, 240]]]
    assert adjust_color(image, 2, 1, 1).tolist() == [[[100, 200, 255]]]  # and stops at white


def test_contrast_is_about_the_mean_grey():
    image = np.uint8([[[100] * 3, [200] * 3]])  # mean 150
    assert adjust_color(image, 1, 0.5, 1)[0, :, 0].tolist() == [125, 175]
    assert adjust_color(image, 1, 1.2, 1)[0, :, 0].tolist() == [90, 210]
    assert adjust_color(image, 0.5, 0, 1)[0, :, 0].tolist() == [75, 75]  # the mean of the darkened image


def test_saturation_is_a_distance_from_grey():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    grey = adjust_color(image, 1, 1, 0)
    assert (grey == grey[..., :1]).all()
    # 0.299 red + 0.587 green + 0.114 blue, ITU-R BT.601
    np.testing.assert_allclose(grey[..., 0], image @ [0.299, 0.587, 0.114], atol=1)
    half = adjust_color(image, 1, 1, 0.5).astype(float)
    np.testing.assert_allclose(half, (image.astype(float) + grey) / 2, atol=1)


# --- padding ---


def test_padding_by_hand():
    boxes, labels = pad_objects(np.float32([[0.1, 0.2, 0.3, 0.4]]), np.int32([5]), 3)
    assert boxes.dtype == np.float32 and labels.dtype == np.int32
    np.testing.assert_array_equal(boxes, np.float32([[0.1, 0.2, 0.3, 0.4], [0, 0, 0, 0], [0, 0, 0, 0]]))
    assert labels.tolist() == [5, 0, 0]


def test_padding_of_nothing_and_of_a_full_row():
    boxes, labels = pad_objects(np.zeros((0, 4), np.float32), np.zeros(0, np.int32), 2)
    assert boxes.tolist() == [[0] * 4] * 2 and labels.tolist() == [0, 0]
    boxes, labels = pad_objects(np.ones((2, 4), np.float32), np.int32([1, 2]), 2)
    assert boxes.tolist() == [[1] * 4] * 2 and labels.tolist() == [1, 2]
