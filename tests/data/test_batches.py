"""From records to batches: the rectangle is where the box says, probabilities are shares, luck is each image's own."""

import types

import cv2
import numpy as np
import pytest

from ssd.boxes.ops import pairwise_iou
from ssd.config.loading import Augment
from ssd.data.batches import EvalBatch, TrainBatch
from ssd.data.transforms import FILL
from ssd.errors import UserError

NOTHING = {"crop_prob": 0, "zoom_out_prob": 0, "flip_prob": 0, "color_prob": 0}
EVERYTHING = {"crop_prob": 0.7, "zoom_out_prob": 0.5, "flip_prob": 0.5, "color_prob": 0.7}
MILD = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.05}


def record(objects, height=80, width=120, extension=".png"):
    """Encoded image and annotation of a grey image with a red rectangle where the first object is."""
    image = np.full((height, width, 3), 100, np.uint8)
    if objects:
        y0, x0, y1, x1, _ = objects[0]
        image[y0:y1, x0:x1] = (0, 0, 255)  # BGR
    options = [cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    encoded = cv2.imencode(extension, image, options if extension == ".jpg" else [])[1]
    return encoded.tobytes(), np.float32(objects or [[0, 0, 0, 0, 0]])


def sampler(size=(80, 120), seed=0, **augment):
    """sample(image_id, epoch, encoded, annotation) -> image, boxes, labels, with nothing done but what is given"""
    batch = TrainBatch(size, Augment(**{**NOTHING, **augment}), max_boxes=5, seed=seed)

    def sample(image_id, epoch, encoded, annotation):
        image, boxes_yxyx, labels = batch(*rows_of((encoded, annotation), first=image_id), info(epoch))
        return image[0], boxes_yxyx[0][labels[0] > 0], labels[0][labels[0] > 0]

    return sample


def rows_of(*records, first=0):
    """A batch as MindSpore hands it over: lists of arrays. first: image id of the first record"""
    ids = [np.array([image_id]) for image_id in range(first, first + len(records))]
    return ids, [np.array(encoded) for encoded, _ in records], [annotation for _, annotation in records]


def info(epoch):
    return types.SimpleNamespace(get_epoch_num=lambda: epoch)


# --- the law of augmentation ---


@pytest.mark.parametrize("extension", [".png", ".jpg"])
@pytest.mark.parametrize("scale", [1, 5, 13], ids=["full", "reduced", "reduced more"])
@pytest.mark.parametrize(
    "augment",
    [{"crop_prob": 1}, {"zoom_out_prob": 1}, {"flip_prob": 1}, {"color_prob": 1, **MILD}, {**EVERYTHING, **MILD}],
    ids=lambda augment: next(iter(augment)) if len(augment) < 8 else "everything",
)
def test_the_rectangle_is_where_the_box_says(augment, scale, extension):
    size = (100, 150)
    sample = sampler(size, **augment)
    height, width, rectangle = 79 * scale + 2, 119 * scale + 1, tuple(scale * side for side in (20, 30, 60, 70))
    drawn = record([(*rectangle, 3)], height, width, extension)
    for epoch in range(30):
        image, boxes_yxyx, labels = sample(7, epoch, *drawn)
        assert labels.tolist() == [3] and boxes_yxyx.shape == (1, 4)
        red = image[..., 0].astype(int) - image[..., 1] > 70  # half the way from grey, after any of these colours
        rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
        found = np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1])
        # a pixel of the image is at most two of the sample when nothing is reduced, and less than one when it is
        np.testing.assert_allclose(boxes_yxyx[0] * [*size, *size], found, atol=2.5 if scale == 1 else 1.5)


def test_augmented_places_are_many():
    sample, drawn = sampler(**EVERYTHING), record([(20, 30, 60, 70, 3)])
    assert len({tuple(sample(7, epoch, *drawn)[1].ravel().tolist()) for epoch in range(40)}) > 30


@pytest.mark.parametrize("zoom_out_prob", [0, 1])
def test_a_crop_overlaps_an_object_as_promised(zoom_out_prob):
    """What an only object's box covers of the patch is at least its IoU with the patch, and that is promised."""
    sample = sampler(crop_prob=1, crop_min_iou=(0.5,), zoom_out_prob=zoom_out_prob, zoom_out_max=1.5)
    drawn, cropped = record([(10, 20, 70, 100, 1)]), 0
    for epoch in range(100):
        _, boxes_yxyx, _ = sample(1, epoch, *drawn)
        covered = pairwise_iou(boxes_yxyx, np.array([[0, 0, 1, 1]]))[0, 0]
        whole = boxes_yxyx[0] * [80, 120, 80, 120]
        if zoom_out_prob or not np.allclose(whole, [10, 20, 70, 100], atol=0.01):
            cropped += covered >= 0.5
            assert covered >= 0.5 or zoom_out_prob
    assert cropped > 50


def test_objects_outside_a_crop_are_left_out():
    sample = sampler(crop_prob=1, crop_min_iou=(0.3,))
    encoded, annotation = record([(5, 5, 35, 45, 1), (50, 80, 75, 115, 2)])
    counts = {tuple(sample(1, epoch, encoded, annotation)[2].tolist()) for epoch in range(60)}
    assert counts == {(1,), (2,), (1, 2)}


def test_zooming_out_shows_the_image_small_in_a_field_of_the_mean_colour():
    sample, drawn = sampler(zoom_out_prob=1, zoom_out_max=3), record([(0, 0, 80, 120, 1)])
    for epoch in range(20):
        image, boxes_yxyx, _ = sample(1, epoch, *drawn)
        sides = boxes_yxyx[0, 2:] - boxes_yxyx[0, :2]
        assert (sides > 1 / 3 - 0.02).all() and (sides <= 1).all() and abs(sides[0] - sides[1]) < 0.03
        share = (np.abs(image.astype(int) - FILL).max(axis=2) == 0).mean()
        assert abs(share - (1 - sides.prod())) < 0.05


# --- probabilities ---


@pytest.mark.parametrize("flip_prob, expected", [(0, [0.25, 0.25, 0.75, 0.5]), (1, [0.25, 0.5, 0.75, 0.75])])
def test_probabilities_of_zero_and_one(flip_prob, expected):
    sample = sampler(flip_prob=flip_prob)
    for epoch in range(10):
        image, boxes_yxyx, _ = sample(1, epoch, *record([(20, 30, 60, 60, 1)]))
        np.testing.assert_allclose(boxes_yxyx, [expected], atol=1e-6)
        assert image[0, 0].tolist() == [100, 100, 100]


@pytest.mark.parametrize("key", NOTHING)
def test_probabilities_are_shares(key):
    sample, plain, drawn = sampler(**{key: 0.25}, crop_min_iou=(0.1,)), sampler(), record([(20, 30, 60, 60, 1)])
    untouched = plain(1, 0, *drawn)[0]
    touched = sum(not np.array_equal(sample(1, epoch, *drawn)[0], untouched) for epoch in range(200))
    assert 30 < touched < 70  # 50 expected; the deviation is 6


def test_one_kind_of_augmentation_does_not_change_another():
    drawn = record([(20, 30, 60, 60, 1)])
    both, alone = sampler(flip_prob=0.5, color_prob=0.5), sampler(flip_prob=0.5)
    for epoch in range(20):
        assert np.array_equal(both(1, epoch, *drawn)[1], alone(1, epoch, *drawn)[1])


def test_colours_vary_both_ways_and_within_their_range():
    sample = sampler(color_prob=1, brightness=0.4, contrast=0, saturation=0)
    greys = [sample(1, epoch, *record([]))[0][0, 0, 0] for epoch in range(100)]
    assert 60 <= min(greys) < 70 and 130 < max(greys) <= 140  # 100, times 0.6 to 1.4


# --- randomness ---


def test_luck_is_that_of_the_seed_the_image_and_the_epoch():
    drawn = record([(20, 30, 60, 60, 1)])
    first = sampler(**EVERYTHING)(1, 0, *drawn)
    for other in (
        sampler(seed=1, **EVERYTHING)(1, 0, *drawn),
        *(sampler(**EVERYTHING)(*key, *drawn) for key in ((2, 0), (1, 1), (-1, 0))),
    ):
        assert not np.array_equal(first[0], other[0])
    sample = sampler(**EVERYTHING)
    sample(5, 3, *drawn)  # what was done before does not matter
    assert all(np.array_equal(a, b) for a, b in zip(first, sample(1, 0, *drawn)))


# --- batches ---


def test_a_batch_is_its_samples():
    records = [
        record([(20, 30, 60, 60, 1), (5, 5, 40, 40, 2)]),
        record([]),
        record([(0, 0, 30, 30, 3)], 33, 45, ".jpg"),
    ]
    batch = TrainBatch((48, 64), Augment(**EVERYTHING), max_boxes=3, seed=0)
    image, boxes_yxyx, labels = batch(*rows_of(*records), info(4))
    assert image.shape == (3, 48, 64, 3) and image.dtype == np.uint8
    assert boxes_yxyx.shape == (3, 3, 4) and boxes_yxyx.dtype == np.float32
    assert labels.shape == (3, 3) and labels.dtype == np.int32
    assert (boxes_yxyx[labels == 0] == 0).all() and not labels[1].any()  # an image without objects is a sample
    sample = sampler((48, 64), **EVERYTHING)
    for row, drawn in enumerate(records):
        pixels, boxes, classes = sample(row, 4, *drawn)
        assert np.array_equal(image[row], pixels)
        assert labels[row][labels[row] > 0].tolist() == classes.tolist()
        np.testing.assert_array_equal(boxes_yxyx[row][labels[row] > 0], boxes)


def test_evaluation_shows_all_of_each_image():
    records = [record([(20, 30, 60, 60, 1)]), record([], 400, 300, ".jpg")]
    ids, images, _ = rows_of(*records)
    pixels, image_id, original_size = EvalBatch((48, 64))(ids, images, info(0))
    assert image_id.tolist() == [0, 1] and image_id.dtype == np.int64
    assert original_size.tolist() == [[80, 120], [400, 300]] and original_size.dtype == np.int32
    for row, (encoded, _) in zip(pixels, records):
        full = cv2.cvtColor(cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        assert np.array_equal(row, cv2.resize(full, (64, 48)))  # however large the image is


def test_an_image_that_does_not_decode_is_named():
    ids, images, annotations = rows_of(record([]), (b"no image", np.zeros((1, 5), np.float32)))
    for make in (
        lambda: TrainBatch((48, 64), Augment(), 3, 0)(ids, images, annotations, info(0)),
        lambda: EvalBatch((48, 64))(ids, images, info(0)),
    ):
        with pytest.raises(UserError, match="image 1 of the shards: got bytes that do not decode, expected a whole"):
            make()
