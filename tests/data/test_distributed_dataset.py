"""Training images of several devices: their parts are disjoint and together make the whole dataset.

Training batches have no image ids, so each image here has one colour, which encodes its number.
"""

import json
from collections import Counter

import cv2
import numpy as np
import pytest

from ssd.config.loading import CONFIGS, load_config
from ssd.data.dataset import create_dataset
from ssd.data.mindrecord import convert
from ssd.data.readers.coco import read_coco

RECIPE = CONFIGS.parent / "examples" / "det" / "ssd" / "ssd_mobilenetv2.yaml"
COLOR_STEP = 15  # difference between the colours of consecutive images


@pytest.fixture(scope="module")
def colored_records(tmp_path_factory):
    """colored_records(count) writes `count` images as shards and returns their folder."""

    def make(count):
        folder = tmp_path_factory.mktemp("colors")
        numbers = range(count)
        images = [{"id": number, "file_name": f"{number}.png", "height": 32, "width": 32} for number in numbers]
        boxes = [{"id": 1 + number, "image_id": number, "bbox": [4, 4, 16, 16], "area": 256} for number in numbers]
        annotations = [{**box, "category_id": 1, "iscrowd": 0} for box in boxes]
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "plain"}]}
        (folder / "annotations.json").write_text(json.dumps(content))
        for number in numbers:
            cv2.imwrite(str(folder / f"{number}.png"), np.full((32, 32, 3), number * COLOR_STEP, np.uint8))
        split = read_coco(folder / "annotations.json", folder)
        convert(split, split, folder / "records", overwrite=False, num_workers=1)
        return folder / "records"

    return make


def image_numbers(folder, world_size, epochs=1, **overrides):
    """Return the numbers of the images that each rank gets: a list over ranks, epochs, batches and images."""
    plain = {"augment.crop_prob": 0, "augment.flip_prob": 0, "augment.color_prob": 0, "batch_size": 2, **overrides}
    cfg = load_config(RECIPE, {"data_dir": str(folder), "device_target": "CPU", "image_size": [32, 32], **plain})
    ranks = []
    for rank in range(world_size):
        dataset = create_dataset(cfg, "train", rank=rank, world_size=world_size)
        iterator = dataset.create_tuple_iterator(num_epochs=epochs, output_numpy=True)
        ranks.append([[_numbers(image) for image, *_ in iterator] for _ in range(epochs)])
    return ranks


def _numbers(images):
    """Return the numbers that the colours of a batch encode. images: (B, H, W, 3)"""
    return (images[:, 16, 16, 0] / COLOR_STEP).round().astype(int).tolist()


def flat(batches):
    return [number for batch in batches for number in batch]


@pytest.mark.parametrize("world_size", [2, 3])
def test_parts_are_disjoint_and_complete(world_size, colored_records):
    ranks = image_numbers(colored_records(12), world_size, epochs=3)
    for epoch in range(3):
        numbers = [number for rank in ranks for number in flat(rank[epoch])]
        assert sorted(numbers) == list(range(12))
        assert {len(rank[epoch]) for rank in ranks} == {12 // world_size // 2}  # the same number of steps on all ranks


def test_parts_change_with_the_epoch(colored_records):
    (first, second), _ = image_numbers(colored_records(12), 2, epochs=2)
    assert set(flat(first)) != set(flat(second))


@pytest.mark.parametrize("world_size", [2, 3])
def test_surplus_images_are_left_out(world_size, colored_records):
    """Of 13 images, one is left out in an epoch, and no image is used twice."""
    ranks = image_numbers(colored_records(13), world_size, batch_size=1)
    counts = Counter(number for (epoch,) in ranks for number in flat(epoch))
    assert {len(epoch) for (epoch,) in ranks} == {13 // world_size}
    assert len(counts) == 12 and set(counts.values()) == {1}


def test_parts_are_reproducible(colored_records):
    folder = colored_records(12)
    assert image_numbers(folder, 2) == image_numbers(folder, 2) != image_numbers(folder, 2, seed=7)
