"""Checking all images of a dataset: every unusable image and every duplicate is reported."""

import shutil

import cv2
import pytest

from broken_shards import start_of_frame, zeroed_body
from ssd.data.inspection.image_check import DAMAGED_IMAGES, DUPLICATE_IMAGES, UNUSABLE_IMAGES, check_images
from ssd.data.mindrecord import UnusableImageError, read_record
from ssd.data.readers.coco import read_coco


@pytest.fixture
def coco(shapes_coco, tmp_path):
    return shutil.copytree(shapes_coco, tmp_path / "coco")


def read_splits(coco):
    """Return the training and the validation split."""
    return [
        read_coco(coco / "annotations" / f"instances_{name}.json", coco / name) for name in ("train2017", "val2017")
    ]


def check(coco):
    train, val = read_splits(coco)
    return check_images(train, val, num_workers=2)


def test_sound_images_have_no_problems(coco):
    assert not any(check(coco).values())


def test_all_unusable_images_are_reported_in_order(coco):
    first, second, third = sorted((coco / "train2017").iterdir())[:3]
    first.write_bytes(first.read_bytes()[:-100])
    cv2.imwrite(str(second), cv2.imread(str(second))[:50])
    third.write_text("no image")
    problems = check(coco)
    assert [text.partition(": ")[0] for text in problems[UNUSABLE_IMAGES]] == [str(first), str(second), str(third)]
    assert "96x50" in problems[UNUSABLE_IMAGES][1] and "96x96" in problems[UNUSABLE_IMAGES][1]
    assert problems[DUPLICATE_IMAGES] == []
    train, _ = read_splits(coco)
    with pytest.raises(UnusableImageError) as caught:
        read_record(train.images[1])
    assert problems[UNUSABLE_IMAGES][1] == caught.value.reason  # as the conversion reports it


def test_images_are_decoded(coco):
    first, second = sorted((coco / "train2017").iterdir())[:2]
    first.write_bytes(zeroed_body(first.read_bytes()))
    second.write_bytes(start_of_frame(second.read_bytes(), 0xC3))
    problems = check(coco)
    for kind, path in ((DAMAGED_IMAGES, first), (UNUSABLE_IMAGES, second)):
        (text,) = problems[kind]
        assert text.startswith(f"{path}: ")


def test_same_bytes_in_both_splits_are_a_duplicate(coco):
    train, val = sorted((coco / "train2017").iterdir())[4], sorted((coco / "val2017").iterdir())[1]
    shutil.copy(train, val)
    problems = check(coco)
    assert problems[UNUSABLE_IMAGES] == []
    (text,) = problems[DUPLICATE_IMAGES]
    assert text.index(str(val)) < text.index(str(train))
