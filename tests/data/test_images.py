"""Decoding: colours in RGB, pixels as stored, and no image taken for one that is none."""

import cv2
import numpy as np
import pytest
from ssd.data.images import decode_image, is_truncated_jpeg


def encode(image, extension=".jpg"):
    return cv2.imencode(extension, image)[1].tobytes()


def noise(height=40, width=60):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def with_exif(jpeg, payload):
    """A JPEG with an EXIF block behind its start marker."""
    block = b"Exif\x00\x00" + payload
    return jpeg[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + jpeg[2:]


def orientation(value):
    """A TIFF header with one entry: tag 0x0112, orientation, one SHORT."""
    entry = (
        (0x0112).to_bytes(2, "big")
        + (3).to_bytes(2, "big")
        + (1).to_bytes(4, "big")
        + value.to_bytes(2, "big")
        + b"\x00\x00"
    )
    return b"MM\x00\x2a" + (8).to_bytes(4, "big") + (1).to_bytes(2, "big") + entry + bytes(4)


def test_pixels_are_rgb():
    bgr = np.zeros((2, 3, 3), np.uint8)
    bgr[:, 0] = (255, 0, 0)  # blue, as OpenCV writes it
    bgr[:, 1] = (0, 0, 255)
    image = decode_image(encode(bgr, ".png"))
    assert image.shape == (2, 3, 3) and image.dtype == np.uint8
    assert image[0].tolist() == [[0, 0, 255], [255, 0, 0], [0, 0, 0]]


def test_bytes_and_arrays_of_them_decode_alike():
    encoded = encode(noise())
    assert np.array_equal(decode_image(encoded), decode_image(np.frombuffer(encoded, np.uint8)))


@pytest.mark.parametrize(
    "stored", [np.full((4, 5), 77, np.uint8), np.full((4, 5, 4), 77, np.uint8), np.full((4, 5, 3), 77 << 8, np.uint16)]
)
def test_grey_transparent_and_deep_images_have_three_channels_of_a_byte(stored):
    image = decode_image(encode(stored, ".png"))
    assert image.shape == (4, 5, 3) and image.dtype == np.uint8 and (image == 77).all()


def test_exif_orientation_is_ignored():
    turned = with_exif(encode(noise(40, 60)), orientation(6))
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (
        60,
        40,
        3,
    )  # the header is understood
    assert decode_image(turned).shape == (40, 60, 3)


@pytest.mark.parametrize("encoded", [b"", b"no image", encode(noise())[:100]])
def test_what_is_no_image_is_refused(encoded):
    with pytest.raises(ValueError):
        decode_image(encoded)


def test_a_whole_jpeg_is_not_truncated():
    whole = encode(noise())
    assert not is_truncated_jpeg(whole)
    assert not is_truncated_jpeg(whole + bytes(2))  # padding behind the end is common and harmless


@pytest.mark.parametrize("progressive", [0, 1])
def test_a_cut_jpeg_is_known(progressive):
    whole = cv2.imencode(".jpg", noise(), [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])[1].tobytes()
    for length in (len(whole) * 3 // 4, len(whole) - 2):
        assert is_truncated_jpeg(whole[:length])


def test_a_cut_jpeg_filled_up_with_zeros_is_known():
    """What an interrupted download may leave: of the right size, and decoded without complaint."""
    whole = encode(noise())
    filled = whole[: len(whole) // 2] + bytes(len(whole) // 2)
    assert decode_image(filled).shape == (40, 60, 3)
    assert is_truncated_jpeg(filled)


def test_a_cut_jpeg_is_known_by_its_own_end_not_its_thumbnail_s():
    whole = with_exif(encode(noise()), encode(noise(4, 4)))
    assert not is_truncated_jpeg(whole)
    assert is_truncated_jpeg(whole[:-100])


def test_a_png_is_no_truncated_jpeg():
    assert not is_truncated_jpeg(encode(noise(), ".png"))
