"""What each of several devices gets of the training images: parts that share none, and together are the whole set.

Batches tell no image ids, so each image here is of one colour, which is its number.
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
STEP = 15  # between colours


@pytest.fixture(scope="module")
def colors(tmp_path_factory):
    """colors(count) is a folder of shards of that many images, in three files."""

    def make(count):
        folder = tmp_path_factory.mktemp("colors")
        images = [{"id": number, "file_name": f"{number}.png", "height": 32, "width": 32} for number in range(count)]
        boxes = [{"id": 1 + n, "image_id": n, "bbox": [4, 4, 16, 16], "area": 256} for n in range(count)]
        annotations = [{**box, "category_id": 1, "iscrowd": 0} for box in boxes]
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "plain"}]}
        (folder / "annotations.json").write_text(json.dumps(content))
        for number in range(count):
            cv2.imwrite(str(folder / f"{number}.png"), np.full((32, 32, 3), number * STEP, np.uint8))
        split = read_coco(folder / "annotations.json", folder)
        convert(split, split, folder / "records", overwrite=False, num_workers=1)
        return folder / "records"

    return make


def parts(folder, world_size, epochs=1, **changes):
    """For each rank a list for each epoch of the numbers of its images, batch by batch."""
    plain = {"augment.crop_prob": 0, "augment.flip_prob": 0, "augment.color_prob": 0, "batch_size": 2, **changes}
    cfg = load_config(RECIPE, {"data_dir": str(folder), "device_target": "CPU", "image_size": [32, 32], **plain})
    found = []
    for rank in range(world_size):
        iterator = create_dataset(cfg, "train", rank, world_size).create_tuple_iterator(
            num_epochs=epochs, output_numpy=True
        )
        found.append(
            [
                [(image[:, 16, 16, 0] / STEP).round().astype(int).tolist() for image, *_ in iterator]
                for _ in range(epochs)
            ]
        )
    return found


def flat(batches):
    return [number for batch in batches for number in batch]


@pytest.mark.parametrize("world_size", [2, 3])
def test_parts_share_no_image_and_are_the_whole_set(world_size, colors):
    ranks = parts(colors(12), world_size, epochs=3)
    for epoch in range(3):
        numbers = [number for rank in ranks for number in flat(rank[epoch])]
        assert sorted(numbers) == list(range(12))
        assert {len(rank[epoch]) for rank in ranks} == {12 // world_size // 2}  # steps, which all ranks make together


def test_parts_are_dealt_anew_in_each_epoch(colors):
    (first, second), _ = parts(colors(12), 2, epochs=2)
    assert set(flat(first)) != set(flat(second))


@pytest.mark.parametrize("world_size", [2, 3])
def test_without_an_even_division_some_images_are_left_out(world_size, colors):
    """13 images: the one too many is another in each epoch."""
    ranks = parts(colors(13), world_size, batch_size=1)
    often = Counter(number for (epoch,) in ranks for number in flat(epoch))
    assert {len(epoch) for (epoch,) in ranks} == {13 // world_size}
    assert len(often) == 12 and set(often.values()) == {1}


def test_a_rank_alone_gets_the_same_part_again(colors):
    folder = colors(12)
    assert parts(folder, 2) == parts(folder, 2) != parts(folder, 2, seed=7)
