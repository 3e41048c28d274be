"""Every image is read, and all that is wrong is told, not the first alone."""

import shutil

import cv2
import pytest

from ssd.data.inspection.image_check import AGAIN, BROKEN, check_images
from ssd.data.readers.coco import read_coco


@pytest.fixture
def coco(shapes_coco, tmp_path):
    return shutil.copytree(shapes_coco, tmp_path / "coco")


def check(coco):
    splits = [
        read_coco(coco / "annotations" / f"instances_{name}.json", coco / name) for name in ("train2017", "val2017")
    ]
    return check_images(*splits, num_workers=2)


def test_sound_images(coco):
    assert check(coco) == {BROKEN: [], AGAIN: []}


def test_all_broken_images_are_named_in_order(coco):
    first, second, third = sorted((coco / "train2017").iterdir())[:3]
    first.write_bytes(first.read_bytes()[:-100])
    cv2.imwrite(str(second), cv2.imread(str(second))[:50])
    third.write_text("no image")
    problems = check(coco)
    assert [text.partition(": got ")[0] for text in problems[BROKEN]] == [str(first), str(second), str(third)]
    assert "96x50 stored pixels" in problems[BROKEN][1] and problems[AGAIN] == []


def test_the_same_bytes_in_both_splits(coco):
    train, val = sorted((coco / "train2017").iterdir())[4], sorted((coco / "val2017").iterdir())[1]
    shutil.copy(train, val)
    assert check(coco) == {BROKEN: [], AGAIN: [f"{val} as {train}"]}
