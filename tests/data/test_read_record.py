"""Reading an annotated image as a record: clipped and dropped boxes, and images that cannot be converted."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from broken_shards import start_of_frame, zeroed_body
from ssd.data.mindrecord import UnusableImageError, read_record
from ssd.data.readers.annotations import DAMAGED_IMAGES, UNUSABLE_IMAGES, AnnotatedImage


@pytest.fixture
def jpeg(tmp_path):
    """A JPEG file with height 50 and width 100."""
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (50, 100, 3), dtype=np.uint8))
    return path


def annotated(path: Path, *boxes, size=(50, 100), crowd_boxes=0) -> AnnotatedImage:
    """boxes: y0, x0, y1, x1 in pixels and class index"""
    ground_truth = np.array(boxes, dtype=np.float64).reshape(-1, 5)
    return AnnotatedImage(image_id=7, path=path, size=size, ground_truth=ground_truth, crowd_boxes=crowd_boxes)


def expect_unusable(image, *parts):
    """Reading the image raises an error of one line that names the file, and the parts."""
    with pytest.raises(UnusableImageError) as caught:
        read_record(image)
    message, reason = str(caught.value), caught.value.reason
    assert "\n" not in message and reason.startswith(f"{image.path}: ") and message.startswith(f"{reason}. ")
    assert all(part in reason for part in parts)


def test_record_contains_the_file_and_its_boxes(jpeg):
    record = read_record(annotated(jpeg, [1.1, 2.2, 30.3, 40.4, 3], crowd_boxes=5))
    assert record.image_id == 7 and record.image == jpeg.read_bytes()
    assert record.crowd_boxes == 5 and record.dropped_boxes == 0
    assert record.ground_truth.dtype == np.float32
    np.testing.assert_array_equal(record.ground_truth, np.float32([[1.1, 2.2, 30.3, 40.4, 3]]))  # bit for bit


def test_boxes_are_clipped_to_the_image(jpeg):
    record = read_record(annotated(jpeg, [-5, -6, 55, 106, 1], [40.5, 90.5, 99, 99, 2]))
    assert record.ground_truth.tolist() == [[0, 0, 50, 100, 1], [40.5, 90.5, 50, 99, 2]]
    assert record.dropped_boxes == 0


@pytest.mark.parametrize(
    "box, is_kept",
    [
        ([10, 10, 11, 11], True),  # one pixel
        ([10, 10, 10.9, 30], False),  # lower than one pixel
        ([10, 10, 30, 10.9], False),  # narrower than one pixel
        ([10, 10, 10, 10], False),
        ([30, 30, 10, 10], False),  # both sides negative
        ([60, 10, 70, 30], False),  # below the image
        ([48.5, 10, 70, 30], True),  # 1.5 pixels of it inside
        ([49.5, 10, 70, 30], False),  # half a pixel of it inside
    ],
)
def test_thin_boxes_are_dropped_and_counted(box, is_kept, jpeg):
    record = read_record(annotated(jpeg, [*box, 1], [5, 5, 25, 25, 2]))
    assert record.ground_truth[:, 4].tolist() == ([1, 2] if is_kept else [2])
    assert record.dropped_boxes == (not is_kept)


def test_image_without_boxes_is_a_record(jpeg):
    record = read_record(annotated(jpeg))
    assert record.ground_truth.shape == (0, 5) and record.dropped_boxes == 0


def test_image_without_annotated_size_is_accepted(jpeg):
    assert read_record(annotated(jpeg, [0, 0, 80, 80, 1], size=None)).ground_truth.tolist() == [[0, 0, 50, 80, 1]]


def test_other_size_than_annotated_is_an_error(jpeg):
    expect_unusable(annotated(jpeg, size=(100, 50)), "100x50", "50x100")  # width x height


def test_unreadable_file_is_an_error(jpeg):
    expect_unusable(annotated(jpeg.with_name("absent.jpg")))
    expect_unusable(annotated(jpeg.parent))


@pytest.mark.parametrize("length", [0, 20, -200, -2])
def test_truncated_file_is_an_error(length, jpeg):
    jpeg.write_bytes(jpeg.read_bytes()[:length])
    expect_unusable(annotated(jpeg))


def test_file_that_ends_in_zeros_is_an_error(jpeg):
    whole = jpeg.read_bytes()
    jpeg.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    expect_unusable(annotated(jpeg))


def test_file_that_is_not_an_image_is_an_error(jpeg):
    jpeg.write_text("<html>404</html>")
    expect_unusable(annotated(jpeg))


def test_damaged_pixels_are_an_error_only_when_decoding(jpeg):
    jpeg.write_bytes(zeroed_body(jpeg.read_bytes()))
    assert read_record(annotated(jpeg)).image == jpeg.read_bytes()
    with pytest.raises(UnusableImageError, match="a.jpg: .*--decode") as caught:
        read_record(annotated(jpeg), decode=True)
    assert caught.value.kind == DAMAGED_IMAGES


@pytest.mark.parametrize("decode", [False, True])
def test_a_coding_that_decoders_do_not_support_is_an_error(decode, jpeg):
    jpeg.write_bytes(start_of_frame(jpeg.read_bytes(), 0xC3))
    with pytest.raises(UnusableImageError, match="a.jpg: ") as caught:
        read_record(annotated(jpeg), decode=decode)
    assert caught.value.kind == UNUSABLE_IMAGES
