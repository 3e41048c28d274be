"""Reading images from the shards by id."""

import pytest

from ssd.data.dataset import read_images
from ssd.errors import UserError


def test_images_are_the_bytes_of_the_files(shapes_records, shapes_coco):
    images = read_images(shapes_records, "val", [14, 11])
    assert sorted(images) == [11, 14]
    for image_id, encoded in images.items():
        (path,) = (shapes_coco / "val2017").glob(f"*{image_id}.*")
        assert encoded == path.read_bytes()
    assert sorted(read_images(shapes_records, "train", range(100))) == list(range(1, 11))


def test_unknown_ids_are_left_out(shapes_records):
    assert list(read_images(shapes_records, "val", [99, 12])) == [12]
    assert read_images(shapes_records, "val", [99]) == read_images(shapes_records, "val", []) == {}


def test_folder_without_shards_is_an_error(tmp_path):
    with pytest.raises(UserError, match="val/coco0: "):
        read_images(tmp_path, "val", [1])
