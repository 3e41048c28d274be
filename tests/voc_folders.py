"""Write Pascal VOC folders for tests, and read them."""

import cv2
import numpy as np
import pytest

from own_data import xml_image
from ssd.data.readers.splits import read_splits
from ssd.data.readers.voc import VocFolder
from ssd.errors import UserError


def add(year, name, objects=(), splits=("train", "val"), size=(40, 60), text=None):
    """Write an image of height 40 and width 60, its XML file and its name in the lists of `splits`.

    objects: results of xml_object
    size: height and width stated in the XML file
    text: content of the XML file, instead of objects and size
    Returns the path of the XML file.
    """
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (year / part).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(year / "JPEGImages" / f"{name}.jpg"), np.zeros((40, 60, 3), np.uint8))
    path = year / "Annotations" / f"{name}.xml"
    path.write_text(text or xml_image(f"{name}.jpg", *size, list(objects)), encoding="utf-8")
    for split in splits:
        with open(year / "ImageSets" / "Main" / f"{split}.txt", "a") as file:
            file.write(f"{name}\n")
    return path


def read(folder, **options):
    return read_splits(VocFolder(folder), **options)


def expect_error(folder, parts, **options):
    """Check that reading raises a UserError of one line that contains each of `parts`."""
    with pytest.raises(UserError) as caught:
        read(folder, **options)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message
