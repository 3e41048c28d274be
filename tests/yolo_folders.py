"""Write YOLO folders for tests, and read them."""

import cv2
import numpy as np
import pytest

from ssd.data.readers.splits import read_splits
from ssd.data.readers.yolo import YoloFolder
from ssd.errors import UserError


def add(folder, name, labels=None, images="images", beside=False):
    """Write an image of height 40 and width 80 and its labels, if any, and return the path of the label file.

    images: folder of the image, relative to `folder`
    beside: whether the label file is beside the image, instead of in the folder with `labels` in place of `images`
    """
    path = folder / images / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((40, 80, 3), np.uint8))
    label = path.with_suffix(".txt") if beside else folder / images.replace("images", "labels") / f"{name}.txt"
    if labels is not None:
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(labels)
    return label


def read(folder, names=None, **options):
    return read_splits(YoloFolder(folder, names), **options)


def stems(split):
    return [image.path.stem for image in split.images]


def expect_error(folder, parts, names=None, **options):
    """Check that reading raises a UserError of one line that contains each of `parts`."""
    with pytest.raises(UserError) as caught:
        read(folder, names, **options)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message
