"""Encoded images: decoding at full and reduced size, size from the header, detection of incomplete files."""

import cv2
import numpy as np
import pytest

from ssd.data import images
from ssd.data.image_headers import is_truncated_jpeg
from ssd.data.images import check_image, decode_image, decode_with_opencv, read_size


def encode(image, extension=".jpg"):
    return cv2.imencode(extension, image)[1].tobytes()


def noise(height=40, width=60):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def with_exif(jpeg, payload):
    """Insert an EXIF block behind the start marker of a JPEG."""
    block = b"Exif\x00\x00" + payload
    return jpeg[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + jpeg[2:]


def orientation(value):
    """Return a TIFF header with one entry: tag 0x0112 (orientation), one SHORT."""
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


@pytest.mark.parametrize(
    "stored, value",
    [
        (np.full((4, 5), 77, np.uint8), 77),
        (np.full((4, 5, 4), 102, np.uint8), 194),  # 40% opaque on white: 0.4 * 102 + 0.6 * 255
        (np.full((4, 5, 3), 77 << 8, np.uint16), 77),
    ],
)
def test_grey_transparent_and_16_bit_images_become_rgb_uint8(stored, value):
    image = decode_image(encode(stored, ".png"))
    assert image.shape == (4, 5, 3) and image.dtype == np.uint8 and (image == value).all()


@pytest.mark.parametrize("value", range(1, 9))
def test_exif_orientation_is_applied_as_opencv_does(value):
    stored = encode(noise(40, 60))
    rotated = with_exif(stored, orientation(value))
    upright = cv2.imdecode(np.frombuffer(rotated, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert (upright.shape == (60, 40, 3)) == (value >= 5)  # the EXIF block of this test is valid
    assert np.array_equal(decode_image(rotated), upright)
    assert np.array_equal(decode_image(rotated, upright=False), decode_image(stored))
    assert read_size(rotated) == check_image(rotated) == upright.shape[:2]
    assert read_size(rotated, upright=False) == (40, 60)


@pytest.mark.parametrize("encoded", [b"", b"no image", encode(noise())[:100]])
def test_undecodable_image_is_an_error(encoded):
    with pytest.raises(ValueError):
        decode_image(encoded)


# --- simplejpeg ---


@pytest.mark.parametrize("scale_denominator", [1, 2, 4, 8])
@pytest.mark.parametrize("height, width", [(64, 96), (65, 103), (1, 1), (7, 300)])
@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("sampling", [cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444, None])
def test_simplejpeg_and_opencv_decode_to_the_same_pixels(height, width, scale_denominator, progressive, sampling):
    assert images.simplejpeg is not None  # installed with the requirements
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
    options += [] if sampling is None else [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    image = cv2.GaussianBlur(noise(height, width), (5, 5), 2)
    encoded = cv2.imencode(".jpg", image[..., 0] if sampling is None else image, options)[1].tobytes()
    assert np.array_equal(decode_image(encoded, scale_denominator), decode_with_opencv(encoded, scale_denominator))


def test_opencv_decodes_a_jpeg_that_simplejpeg_refuses():
    encoded = encode(noise())
    damaged_jpeg = encoded[:-2] + b"\x00" * 9 + encoded[-2:]  # extra bytes before the end marker
    with pytest.raises(ValueError):
        images.simplejpeg.decode_jpeg(damaged_jpeg)
    assert np.array_equal(decode_image(damaged_jpeg), decode_image(encoded))


def test_opencv_decodes_without_simplejpeg(monkeypatch):
    encoded = encode(noise())
    expected = decode_image(encoded, 2)
    monkeypatch.setattr(images, "simplejpeg", None)
    assert np.array_equal(decode_image(encoded, 2), expected)


# --- reduced size ---


@pytest.mark.parametrize("extension", [".jpg", ".png", ".bmp"])
@pytest.mark.parametrize("scale_denominator", [2, 4, 8])
@pytest.mark.parametrize("height, width", [(64, 96), (65, 103), (3, 5)])
def test_reduced_pixel_is_the_mean_of_its_square(height, width, scale_denominator, extension):
    ramp = np.mgrid[:height, :width].sum(axis=0) * 1.2
    encoded = encode(np.repeat(ramp[..., None], 3, axis=2).astype(np.uint8), extension)
    full, image = decode_image(encoded), decode_image(encoded, scale_denominator)
    rows, columns = -(-height // scale_denominator), -(-width // scale_denominator)
    assert image.shape == (rows, columns, 3) and image.dtype == np.uint8
    missing_rows, missing_columns = rows * scale_denominator - height, columns * scale_denominator - width
    padded = np.pad(full, [(0, missing_rows), (0, missing_columns), (0, 0)], mode="edge")
    means = padded.reshape((rows, scale_denominator, columns, scale_denominator, 3)).mean(axis=(1, 3))
    complete = np.s_[: height // scale_denominator, : width // scale_denominator]
    np.testing.assert_allclose(image[complete], means[complete], atol=3)  # JPEG is lossy
    np.testing.assert_allclose(image, means, atol=12)  # codecs differ in how they fill the last squares


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("scale_denominator", [2, 4, 8])
@pytest.mark.parametrize("height, width", [(64, 96), (65, 103), (3, 5)])
def test_pixel_of_a_turned_image_is_the_mean_of_its_upright_square(height, width, scale_denominator, value):
    ramp = np.mgrid[:height, :width][0] + np.mgrid[:height, :width][1] * 1.2  # different in all directions
    encoded = with_exif(encode(np.repeat(ramp[..., None], 3, axis=2).astype(np.uint8)), orientation(value))
    full, image = decode_image(encoded), decode_image(encoded, scale_denominator)
    assert image.shape == (*(-(-side // scale_denominator) for side in full.shape[:2]), 3)
    rows, columns = (side // scale_denominator for side in full.shape[:2])
    squares = full[: rows * scale_denominator, : columns * scale_denominator]
    means = squares.reshape((rows, scale_denominator, columns, scale_denominator, 3)).mean(axis=(1, 3))
    np.testing.assert_allclose(image[:rows, :columns], means, atol=2)


# --- size ---


@pytest.mark.parametrize("extension", [".jpg", ".png", ".bmp", ".webp"])
@pytest.mark.parametrize("height, width", [(1, 1), (40, 60), (65, 3), (300, 517)])
def test_size_is_that_of_the_decoded_pixels(height, width, extension):
    encoded = encode(noise(height, width), extension)
    assert read_size(encoded) == check_image(encoded) == decode_image(encoded).shape[:2] == (height, width)


def test_size_of_a_jpeg_is_not_that_of_its_thumbnail():
    rotated = with_exif(with_exif(encode(noise(40, 60)), encode(noise(4, 4))), orientation(6))
    assert read_size(rotated) == (60, 40)
    progressive = cv2.imencode(".jpg", noise(41, 61), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert read_size(progressive) == (41, 61)


def test_fill_bytes_before_a_marker_are_skipped():
    whole = encode(noise(40, 60))
    assert read_size(whole[:2] + b"\xff\xff\xff" + whole[2:]) == (40, 60)


@pytest.mark.parametrize(
    "encoded", [b"", b"no image", b"\xff\xd8", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", encode(noise())[:100]]
)
def test_size_of_an_undecodable_image_is_an_error(encoded):
    for function in (read_size, check_image):
        with pytest.raises(ValueError):
            function(encoded)


# --- completeness ---


def test_damaged_png_is_an_error():
    whole = encode(noise(), ".png")
    check_image(whole + b"behind the end")
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (whole[:-1], whole[: len(whole) // 2], whole[:-12], bytes(flipped)):
        with pytest.raises(ValueError, match="PNG"):
            check_image(damaged)


@pytest.mark.parametrize("extension", [".bmp", ".webp"])
def test_other_formats_are_decoded_to_check_them(extension):
    with pytest.raises(ValueError):
        check_image(encode(noise(), extension)[:60])


@pytest.mark.parametrize("thumbnail", [b"", encode(noise(4, 4))], ids=["plain", "with thumbnail"])
def test_jpeg_truncated_at_any_byte_is_an_error(thumbnail):
    whole = with_exif(encode(noise(8, 9)), thumbnail)
    assert check_image(whole) == (8, 9)
    for length in range(len(whole)):
        with pytest.raises(ValueError):
            check_image(whole[:length])


def test_complete_jpeg_is_not_truncated():
    whole = encode(noise())
    assert not is_truncated_jpeg(whole)
    assert not is_truncated_jpeg(whole + bytes(2))  # padding behind the end is common and harmless


@pytest.mark.parametrize("progressive", [0, 1])
def test_truncated_jpeg_is_detected(progressive):
    whole = cv2.imencode(".jpg", noise(), [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])[1].tobytes()
    for length in (len(whole) * 3 // 4, len(whole) - 2):
        assert is_truncated_jpeg(whole[:length])


def test_jpeg_truncated_and_filled_with_zeros_is_detected():
    """An interrupted download may leave such a file, with the right length. It decodes without an error."""
    whole = encode(noise())
    filled = whole[: len(whole) // 2] + bytes(len(whole) // 2)
    assert decode_image(filled).shape == (40, 60, 3)
    assert is_truncated_jpeg(filled)


def test_end_marker_of_a_thumbnail_does_not_count():
    whole = with_exif(encode(noise()), encode(noise(4, 4)))
    assert not is_truncated_jpeg(whole)
    assert is_truncated_jpeg(whole[:-100])


def test_png_is_not_a_truncated_jpeg():
    assert not is_truncated_jpeg(encode(noise(), ".png"))
