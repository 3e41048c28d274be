"""Batch transforms: boxes stay on their objects, probabilities are respected, randomness depends on the image alone."""

import types

import cv2
import numpy as np
import pytest

from ssd.boxes.ops import pairwise_iou
from ssd.config.loading import Augment
from ssd.data.batches import EvalBatchTransform, TrainBatchTransform, keep_largest_boxes
from ssd.data.transforms import FILL
from ssd.errors import UserError

NO_AUGMENT = {"scale_jitter": 0, "crop_prob": 0, "zoom_out_prob": 0, "flip_prob": 0, "color_prob": 0}
FULL_AUGMENT = {"scale_jitter": 0.4, "crop_prob": 0.7, "zoom_out_prob": 0.5, "flip_prob": 0.5, "color_prob": 0.7}
MILD_COLORS = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.05}


def record(boxes, height=80, width=120, extension=".png"):
    """Return an encoded grey image with a red rectangle in its first box, and its annotation.

    boxes: rows of y0, x0, y1, x1 in pixels and class index
    """
    image = np.full((height, width, 3), 100, np.uint8)
    if boxes:
        y0, x0, y1, x1, _ = boxes[0]
        image[y0:y1, x0:x1] = (0, 0, 255)  # BGR
    options = [cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    encoded = cv2.imencode(extension, image, options if extension == ".jpg" else [])[1]
    return encoded.tobytes(), np.float32(boxes or [[0, 0, 0, 0, 0]])


def train_transform(size=(80, 120), max_boxes=5, seed=0, **augment):
    """Create a TrainBatchTransform without augmentation except for the given keys of `augment`."""
    keys = Augment(**{**NO_AUGMENT, **augment}).model_dump()
    return TrainBatchTransform(image_size=size, max_boxes=max_boxes, seed=seed, num_classes=7, upright=True, **keys)


def sampler(size=(80, 120), seed=0, **augment):
    """Return a function of (encoded, annotation), image id and epoch that transforms one record.

    The function returns image (H, W, 3), boxes (M, 4) and labels (M,), without padding.
    """
    transform = train_transform(size, seed=seed, **augment)

    def sample(drawn, image_id=1, epoch=0):
        image, gt_boxes_yxyx, gt_labels = transform(*rows_of(drawn, first=image_id), batch_info(epoch))
        return image[0], gt_boxes_yxyx[0][gt_labels[0] > 0], gt_labels[0][gt_labels[0] > 0]

    return sample


def rows_of(*records, first=0):
    """Return a batch as MindSpore passes it to the transform: lists of arrays. first: image id of the first record"""
    ids = [np.array([image_id]) for image_id in range(first, first + len(records))]
    return ids, [np.array(encoded) for encoded, _ in records], [annotation for _, annotation in records]


def batch_info(epoch):
    return types.SimpleNamespace(get_epoch_num=lambda: epoch)


# --- augmentation ---


@pytest.mark.parametrize("extension", [".png", ".jpg"])
@pytest.mark.parametrize("scale", [1, 5, 13], ids=["full size", "reduced", "reduced more"])
@pytest.mark.parametrize(
    "augment",
    [
        {"crop_prob": 1},
        {"scale_jitter": 0.2},
        {"zoom_out_prob": 1},
        {"flip_prob": 1},
        {"color_prob": 1, **MILD_COLORS},
        {**FULL_AUGMENT, **MILD_COLORS},
    ],
    ids=lambda augment: next(iter(augment)) if len(augment) < 8 else "all",
)
def test_box_encloses_the_rectangle_after_augmentation(augment, scale, extension):
    size = (100, 150)
    sample = sampler(size, **augment)
    height, width, rectangle = 79 * scale + 2, 119 * scale + 1, tuple(scale * side for side in (20, 30, 60, 70))
    drawn = record([(*rectangle, 3)], height=height, width=width, extension=extension)
    for epoch in range(30):
        image, boxes_yxyx, labels = sample(drawn, image_id=7, epoch=epoch)
        assert labels.tolist() == [3] and boxes_yxyx.shape == (1, 4)
        # The limit is half way from grey to red, after any of these distortions.
        red = image[..., 0].astype(int) - image[..., 1] > 70
        rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
        found = np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1])
        # One pixel of the image is at most two pixels of the sample at full size, and less than one if reduced.
        np.testing.assert_allclose(boxes_yxyx[0] * [*size, *size], found, atol=2.5 if scale == 1 else 1.5)


def test_augmented_boxes_vary():
    sample, drawn = sampler(**FULL_AUGMENT), record([(20, 30, 60, 70, 3)])
    assert len({tuple(sample(drawn, image_id=7, epoch=epoch)[1].ravel().tolist()) for epoch in range(40)}) > 30


@pytest.mark.parametrize("zoom_out_prob", [0, 1])
def test_crop_meets_the_iou_constraint(zoom_out_prob):
    """The share of the crop window that its only box covers is at least their IoU, which is constrained."""
    sample = sampler(crop_prob=1, crop_min_iou=(0.5,), zoom_out_prob=zoom_out_prob, zoom_out_max=1.5)
    drawn, cropped = record([(10, 20, 70, 100, 1)]), 0
    for epoch in range(100):
        _, boxes_yxyx, _ = sample(drawn, epoch=epoch)
        covered = pairwise_iou(boxes_yxyx, np.array([[0, 0, 1, 1]]))[0, 0]
        whole = boxes_yxyx[0] * [80, 120, 80, 120]
        if zoom_out_prob or not np.allclose(whole, [10, 20, 70, 100], atol=0.01):
            cropped += covered >= 0.5
            assert covered >= 0.5 or zoom_out_prob
    assert cropped > 50


def test_boxes_outside_the_crop_become_padding():
    sample = sampler(crop_prob=1, crop_min_iou=(0.3,))
    drawn = record([(5, 5, 35, 45, 1), (50, 80, 75, 115, 2)])
    label_sets = {tuple(sample(drawn, epoch=epoch)[2].tolist()) for epoch in range(60)}
    assert label_sets == {(1,), (2,), (1, 2)}


def test_zoom_out_surrounds_the_image_with_the_mean_colour():
    sample, drawn = sampler(zoom_out_prob=1, zoom_out_max=3), record([(0, 0, 80, 120, 1)])
    for epoch in range(20):
        image, boxes_yxyx, _ = sample(drawn, epoch=epoch)
        sides = boxes_yxyx[0, 2:] - boxes_yxyx[0, :2]
        assert (sides > 1 / 3 - 0.02).all() and (sides <= 1).all() and abs(sides[0] - sides[1]) < 0.03
        share = (np.abs(image.astype(int) - FILL).max(axis=2) == 0).mean()
        assert abs(share - (1 - sides.prod())) < 0.05


# --- probabilities ---


@pytest.mark.parametrize("flip_prob, expected", [(0, [0.25, 0.25, 0.75, 0.5]), (1, [0.25, 0.5, 0.75, 0.75])])
def test_flip_probability_of_zero_and_one(flip_prob, expected):
    sample = sampler(flip_prob=flip_prob)
    for epoch in range(10):
        image, boxes_yxyx, _ = sample(record([(20, 30, 60, 60, 1)]), epoch=epoch)
        np.testing.assert_allclose(boxes_yxyx, [expected], atol=1e-6)
        assert image[0, 0].tolist() == [100, 100, 100]


@pytest.mark.parametrize("key", [key for key in NO_AUGMENT if key.endswith("_prob")])
def test_probability_is_the_share_of_augmented_samples(key):
    sample, plain, drawn = sampler(**{key: 0.25}, crop_min_iou=(0.1,)), sampler(), record([(20, 30, 60, 60, 1)])
    unchanged = plain(drawn)[0]
    changed = sum(not np.array_equal(sample(drawn, epoch=epoch)[0], unchanged) for epoch in range(200))
    assert 30 < changed < 70  # 50 expected; the standard deviation is 6


def test_one_kind_of_augmentation_leaves_the_others_unchanged():
    drawn = record([(20, 30, 60, 60, 1)])
    both, alone = sampler(flip_prob=0.5, color_prob=0.5), sampler(flip_prob=0.5)
    for epoch in range(20):
        assert np.array_equal(both(drawn, epoch=epoch)[1], alone(drawn, epoch=epoch)[1])


def test_brightness_covers_its_range():
    sample = sampler(color_prob=1, brightness=0.4, contrast=0, saturation=0)
    greys = [sample(record([]), epoch=epoch)[0][0, 0, 0] for epoch in range(100)]
    assert 60 <= min(greys) < 70 and 130 < max(greys) <= 140  # 100 times 0.6 to 1.4


# --- randomness ---


def test_sample_depends_on_seed_image_id_and_epoch_alone():
    drawn = record([(20, 30, 60, 60, 1)])
    first = sampler(**FULL_AUGMENT)(drawn, image_id=1, epoch=0)
    for other in (
        sampler(seed=1, **FULL_AUGMENT)(drawn, image_id=1, epoch=0),
        sampler(**FULL_AUGMENT)(drawn, image_id=2, epoch=0),
        sampler(**FULL_AUGMENT)(drawn, image_id=1, epoch=1),
        sampler(**FULL_AUGMENT)(drawn, image_id=-1, epoch=0),
    ):
        assert not np.array_equal(first[0], other[0])
    sample = sampler(**FULL_AUGMENT)
    sample(drawn, image_id=5, epoch=3)  # an earlier sample has no influence
    assert all(np.array_equal(a, b) for a, b in zip(first, sample(drawn, image_id=1, epoch=0)))


# --- batches ---


def test_batch_equals_single_samples():
    records = [
        record([(20, 30, 60, 60, 1), (5, 5, 40, 40, 2)]),
        record([]),
        record([(0, 0, 30, 30, 3)], height=33, width=45, extension=".jpg"),
    ]
    transform = train_transform((48, 64), max_boxes=3, **FULL_AUGMENT)
    image, boxes_yxyx, labels = transform(*rows_of(*records), batch_info(4))
    assert image.shape == (3, 48, 64, 3) and image.dtype == np.uint8
    assert boxes_yxyx.shape == (3, 3, 4) and boxes_yxyx.dtype == np.float32
    assert labels.shape == (3, 3) and labels.dtype == np.int32
    assert (boxes_yxyx[labels == 0] == 0).all() and not labels[1].any()  # an image without boxes is kept
    sample = sampler((48, 64), **FULL_AUGMENT)
    for row, drawn in enumerate(records):
        pixels, boxes, classes = sample(drawn, image_id=row, epoch=4)
        assert np.array_equal(image[row], pixels)
        assert labels[row][labels[row] > 0].tolist() == classes.tolist()
        np.testing.assert_array_equal(boxes_yxyx[row][labels[row] > 0], boxes)


BOXES = [(0, 0, 10, 10, 1), (0, 0, 30, 40, 2), (5, 5, 15, 15, 3), (10, 10, 40, 60, 4), (20, 20, 30, 30, 5)]


def test_largest_boxes_stay_in_their_order():
    """The areas are 100, 1200, 100, 1500 and 100. Of equal boxes, the first stay."""
    ids, images, annotations = rows_of(record(BOXES), record(BOXES[:1]), record([]))
    for max_boxes, kept in ((1, [4]), (2, [2, 4]), (3, [1, 2, 4]), (4, [1, 2, 3, 4]), (5, [1, 2, 3, 4, 5])):
        _, boxes_yxyx, labels = train_transform(max_boxes=max_boxes)(ids, images, annotations, batch_info(0))
        assert boxes_yxyx.shape == (3, max_boxes, 4) and boxes_yxyx.dtype == np.float32
        assert labels.tolist() == [kept, [1] + [0] * (max_boxes - 1), [0] * max_boxes] and labels.dtype == np.int32
        expected = [np.divide(BOXES[label - 1][:4], [80, 120, 80, 120]) for label in kept]
        np.testing.assert_allclose(boxes_yxyx[0], expected, rtol=1e-6)
        assert (boxes_yxyx[labels == 0] == 0).all()


def test_max_boxes_counts_the_boxes_after_the_crop():
    """A crop often leaves out one of two boxes. Then the other one stays, even if it is the smaller one."""
    drawn = record([(0, 0, 35, 55, 1), (50, 80, 75, 115, 2)])
    whole, limited = (train_transform(max_boxes=rows, crop_prob=1, crop_min_iou=(0.3,)) for rows in (2, 1))
    seen = set()
    for epoch in range(60):
        _, _, labels = whole(*rows_of(drawn), batch_info(epoch))
        _, boxes_yxyx, kept = limited(*rows_of(drawn), batch_info(epoch))
        remaining = labels[labels > 0].tolist()
        seen.add(tuple(remaining))
        assert kept.shape == (1, 1) and kept[0, 0] in remaining and (boxes_yxyx[0, 0, 2:] > boxes_yxyx[0, 0, :2]).all()
    assert {(1,), (2,), (1, 2)} == seen


def test_max_boxes_changes_no_pixel_and_no_kept_box():
    records = rows_of(record(BOXES), record(BOXES[2:]))
    image, boxes_yxyx, labels = train_transform(max_boxes=5, **FULL_AUGMENT)(*records, batch_info(3))
    limited = train_transform(max_boxes=2, **FULL_AUGMENT)(*records, batch_info(3))
    assert np.array_equal(limited[0], image)
    for boxes, classes, *all_boxes in zip(*limited[1:], boxes_yxyx, labels):
        assert {(*box, label) for box, label in zip(boxes.tolist(), classes)} <= {
            (*box, label) for box, label in zip(all_boxes[0].tolist(), all_boxes[1])
        }


def test_padding_is_dropped_before_boxes_without_area():
    boxes = np.array([[[9, 9, 9, 9], [0, 0, 0, 0], [1, 1, 1, 5], [0, 0, 2, 2]]], float)
    kept, labels = keep_largest_boxes(boxes, np.array([[0, 0, 3, 4]]), max_boxes=2)
    assert labels.tolist() == [[3, 4]] and kept.tolist() == [[[1, 1, 1, 5], [0, 0, 2, 2]]]


def test_evaluation_resizes_whole_images():
    records = [record([(20, 30, 60, 60, 1)]), record([], height=400, width=300, extension=".jpg")]
    ids, images, _ = rows_of(*records)
    pixels, image_id, original_size = EvalBatchTransform((48, 64), upright=True)(ids, images, batch_info(0))
    assert image_id.tolist() == [0, 1] and image_id.dtype == np.int64
    assert original_size.tolist() == [[80, 120], [400, 300]] and original_size.dtype == np.int32
    for row, (encoded, _) in zip(pixels, records):
        full = cv2.cvtColor(cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        assert np.array_equal(row, cv2.resize(full, (64, 48)))  # at full size, however large the image is


def test_undecodable_image_is_reported_with_its_id():
    ids, images, annotations = rows_of(record([]), (b"no image", np.zeros((1, 5), np.float32)))
    with pytest.raises(UserError, match="image 1 "):
        train_transform((48, 64))(ids, images, annotations, batch_info=batch_info(0))
    with pytest.raises(UserError, match="image 1 "):
        EvalBatchTransform((48, 64), upright=True)(ids, images, batch_info(0))
