"""From an annotated image to its record: what is kept, what is dropped and counted, what is refused."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from ssd.data.mindrecord import read_record
from ssd.data.readers.annotations import CocoImage
from ssd.errors import UserError


@pytest.fixture
def jpeg(tmp_path):
    """A JPEG file of height 50 and width 100."""
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (50, 100, 3), dtype=np.uint8))
    return path


def annotated(path: Path, *objects, size=(50, 100), crowd_boxes=0) -> CocoImage:
    """objects: y0, x0, y1, x1 in pixels, class"""
    return CocoImage(7, path, size, np.array(objects, dtype=np.float64).reshape(-1, 5), crowd_boxes)


def refused(image, *parts):
    with pytest.raises(UserError) as caught:
        read_record(image)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{image.path}: got ")
    for part in parts:
        assert part in message


def test_a_record_holds_the_file_and_its_objects(jpeg):
    record = read_record(annotated(jpeg, [1.1, 2.2, 30.3, 40.4, 3], crowd_boxes=5))
    assert record.image_id == 7 and record.image == jpeg.read_bytes()
    assert record.crowd_boxes == 5 and record.dropped_boxes == 0
    assert record.objects.dtype == np.float32
    np.testing.assert_array_equal(record.objects, np.float32([[1.1, 2.2, 30.3, 40.4, 3]]))  # to the last bit


def test_boxes_are_clipped_to_the_image(jpeg):
    record = read_record(annotated(jpeg, [-5, -6, 55, 106, 1], [40.5, 90.5, 99, 99, 2]))
    assert record.objects.tolist() == [[0, 0, 50, 100, 1], [40.5, 90.5, 50, 99, 2]]
    assert record.dropped_boxes == 0


@pytest.mark.parametrize(
    "box, is_kept",
    [
        ([10, 10, 11, 11], True),  # one pixel
        ([10, 10, 10.9, 30], False),  # flatter than one
        ([10, 10, 30, 10.9], False),  # narrower than one
        ([10, 10, 10, 10], False),
        ([30, 30, 10, 10], False),  # both sides negative
        ([60, 10, 70, 30], False),  # below the image
        ([48.5, 10, 70, 30], True),  # 1.5 pixels of it inside
        ([49.5, 10, 70, 30], False),  # half a pixel of it inside
    ],
)
def test_degenerate_boxes_are_dropped_and_counted(box, is_kept, jpeg):
    record = read_record(annotated(jpeg, [*box, 1], [5, 5, 25, 25, 2]))
    assert record.objects[:, 4].tolist() == ([1, 2] if is_kept else [2])
    assert record.dropped_boxes == (not is_kept)


def test_an_image_without_objects_is_a_record(jpeg):
    record = read_record(annotated(jpeg))
    assert record.objects.shape == (0, 5) and record.dropped_boxes == 0


def test_an_image_without_annotated_size_is_taken_as_it_is(jpeg):
    assert read_record(annotated(jpeg, [0, 0, 80, 80, 1], size=None)).objects.tolist() == [[0, 0, 50, 80, 1]]


def test_another_size_is_refused_with_both(jpeg):
    refused(annotated(jpeg, size=(100, 50)), "100x50 stored", "50x100 as annotated")  # width x height


def test_unreadable_files_are_refused(jpeg):
    refused(annotated(jpeg.with_name("absent.jpg")), "no such file")
    refused(annotated(jpeg.parent), "directory")


@pytest.mark.parametrize("length", [0, 20, -200, -2])
def test_a_file_that_ends_too_early_is_refused(length, jpeg):
    jpeg.write_bytes(jpeg.read_bytes()[:length])
    refused(annotated(jpeg), "expected a whole image")


def test_a_file_that_is_zero_from_some_point_on_is_refused(jpeg):
    whole = jpeg.read_bytes()
    jpeg.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    refused(annotated(jpeg), "ends too early")


def test_a_file_that_is_no_image_is_refused(jpeg):
    jpeg.write_text("<html>404</html>")
    refused(annotated(jpeg), "do not decode")
