"""skip_bad_images: another image of the batch takes the place of one that cannot be decoded, and both are counted."""

import logging
import types

import numpy as np
import pytest

from broken_shards import BROKEN_IMAGES, copy_shards
from fakes import step_end
from ssd.config.loading import CONFIGS, Augment, load_config
from ssd.data.batches import TrainBatchTransform
from ssd.data.broken_images import BrokenImages, replacements
from ssd.data.dataset import create_dataset, find_broken_images, iterate_batches
from ssd.data.record_check import UndecodableImageError
from ssd.errors import UserError
from ssd.training.callbacks import ReportBrokenImages

RECIPE = CONFIGS.parent / "examples" / "det" / "ssd" / "ssd_mobilenetv2.yaml"
BATCH_SIZE = 5  # of 10 images


@pytest.mark.parametrize(
    "num_rows, broken, expected",
    [
        (3, [], [0, 1, 2]),
        (4, [1], [0, 2, 2, 3]),
        (4, [1, 2], [0, 3, 3, 3]),
        (4, [0, 3], [1, 1, 2, 1]),  # the first row follows the last one
        (2, [0], [1, 1]),
    ],
)
def test_the_next_intact_row_replaces_a_broken_one(num_rows, broken, expected):
    assert replacements(num_rows, broken) == expected


def configure(folder, **changes):
    values = {"image_size": [48, 64], "batch_size": BATCH_SIZE, "num_parallel_workers": 2, "skip_bad_images": True}
    return load_config(RECIPE, {"device_target": "CPU", "data_dir": str(folder), **values, **changes})


def read_epochs(folder, *, first_epoch=0, **changes):
    """Return the training batches of two epochs from `first_epoch` on, and the dataset."""
    data = create_dataset(configure(folder, **changes), "train")
    data.set_init_step(first_epoch * data.get_dataset_size())
    batches = data.create_tuple_iterator(num_epochs=2, output_numpy=True)
    return [batch for _ in range(2 - first_epoch) for batch in batches], data


def equal(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.fixture(scope="module")
def shards(shapes_records, tmp_path_factory):
    """(folder, id of the broken image): shards with one image that has an intact header."""
    folder = tmp_path_factory.mktemp("broken") / "records"
    return folder, copy_shards(shapes_records, folder, "train", image=BROKEN_IMAGES["lossless"])


def test_other_rows_and_intact_batches_stay(shards, shapes_records):
    """Only one of two batches has the broken image, and in it only one row differs, in each epoch."""
    found, data = read_epochs(shards[0])
    expected, _ = read_epochs(shapes_records, skip_bad_images=False)
    differing = [(number, row) for number in range(4) for row in range(BATCH_SIZE)
                 if not np.array_equal(found[number][0][row], expected[number][0][row])]  # fmt: skip
    assert len(differing) == 2 and differing[0][0] < 2 <= differing[1][0]
    for number, row in differing:
        labels = found[number][2]
        assert not np.array_equal(found[number][0][row], np.zeros_like(found[number][0][row])) and labels[row].any()
    assert find_broken_images(data).take(0).keys() == find_broken_images(data).take(1).keys() == {shards[1]}
    assert find_broken_images(data).take(0) == {}


def test_a_resumed_run_gets_the_same_batches(shards):
    batches, _ = read_epochs(shards[0])
    resumed, data = read_epochs(shards[0], first_epoch=1, num_parallel_workers=1)
    assert len(batches) == 4 and len(resumed) == 2
    assert all(equal(*pair) for pair in zip(batches[2:], resumed))
    assert not find_broken_images(data).take(0) and find_broken_images(data).take(1)


def transform_of(broken_images):
    keys = Augment(scale_jitter=0, crop_prob=0, zoom_out_prob=0, flip_prob=0, color_prob=0).model_dump()
    return TrainBatchTransform(
        (8, 8), max_boxes=2, seed=0, num_classes=3, upright=True, broken_images=broken_images, **keys
    )


def batch(*images):
    """Return a batch as MindSpore passes it: image i has the id 10 + i and a box of the class 1 + i % 2."""
    annotations = [np.float32([[0, 0, 8, 8, 1 + number % 2]]) for number in range(len(images))]
    ids = [np.array([10 + number]) for number in range(len(images))]
    return ids, [np.frombuffer(image, np.uint8) for image in images], annotations, info(4)


def info(epoch):
    return types.SimpleNamespace(get_epoch_num=lambda: epoch)


def ppm(value):
    return b"P6 8 8 255\n" + bytes([value]) * 192


def test_image_and_boxes_come_from_the_same_image():
    broken_images = BrokenImages()
    images, _, labels = transform_of(broken_images)(*batch(ppm(50), b"x", b"", ppm(200)))
    assert images[:, 0, 0, 0].tolist() == [50, 200, 200, 200]
    assert labels[:, 0].tolist() == [1, 2, 2, 2]
    assert list(broken_images.take(4)) == [11, 12]


@pytest.mark.parametrize("broken_images", [None, BrokenImages()])
def test_without_the_key_and_without_an_intact_image_it_is_an_error(broken_images):
    images = (ppm(50), b"x") if broken_images is None else (b"x", b"x")
    with pytest.raises(UndecodableImageError, match="image 11 "):
        transform_of(broken_images)(*batch(*images))


def test_validation_images_are_never_skipped(shapes_records, tmp_path):
    image_id = copy_shards(shapes_records, tmp_path / "records", "val", image=BROKEN_IMAGES["garbage"])
    with pytest.raises(UserError, match=f"image {image_id} "):
        list(iterate_batches(create_dataset(configure(tmp_path / "records"), "val")))


def test_each_epoch_is_reported_in_one_line(tmp_path, caplog):
    broken_images = BrokenImages()
    report = ReportBrokenImages(broken_images, tmp_path / "train")
    for image_id in (17, 5):
        broken_images.add(1, UndecodableImageError(image_id, 0, "the image cannot be decoded"))
    with caplog.at_level(logging.WARNING, "ssd"):
        report.on_epoch_end(step_end(10))
        assert not caplog.messages
        report.on_epoch_end(step_end(20))
        report.on_epoch_end(step_end(30))
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path / 'train'}: epoch 2: 2 ") and "5, 17" in line and "image 5 " in line
    assert "\n" not in line
