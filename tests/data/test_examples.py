"""The first images of a split, in full size, in the order of the shards."""

import cv2
import numpy as np
import pytest
from ssd.data.examples import read_examples
from ssd.errors import UserError


def test_the_first_images_as_they_are(shapes_coco, shapes_records):
    examples = read_examples(shapes_records, "val", 3)
    files = {int(path.stem): path for path in (shapes_coco / "val2017").iterdir()}
    assert len({image_id for image_id, _ in examples}) == 3
    for image_id, image in examples:
        assert image.shape == (96, 96, 3) and image.dtype == np.uint8
        np.testing.assert_array_equal(image, cv2.imread(str(files[image_id]), cv2.IMREAD_COLOR_RGB))


def test_always_the_same_and_never_more_than_there_are(shapes_records):
    everything = [image_id for image_id, _ in read_examples(shapes_records, "val", 99)]
    assert sorted(everything) == [11, 12, 13, 14]
    for count in (1, 2, 4):
        assert [image_id for image_id, _ in read_examples(shapes_records, "val", count)] == everything[:count]


def test_without_shards(tmp_path):
    with pytest.raises(UserError, match="val/coco0: got no such file"):
        read_examples(tmp_path, "val", 4)
