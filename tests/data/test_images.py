"""Decoding: colours in RGB, pixels as stored, reduced exactly, and no image taken for one that is none."""

import cv2
import numpy as np
import pytest

from ssd.data import images
from ssd.data.images import check_image, decode_image, decode_with_opencv, is_truncated_jpeg, read_size


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


# --- by simplejpeg ---


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
@pytest.mark.parametrize("height, width", [(64, 96), (65, 103), (1, 1), (7, 300)])
@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("sampling", [cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444, None])
def test_simplejpeg_and_opencv_decode_alike(height, width, reduction, progressive, sampling):
    assert images.simplejpeg is not None  # it is among the requirements
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
    options += [] if sampling is None else [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    image = cv2.GaussianBlur(noise(height, width), (5, 5), 2)
    encoded = cv2.imencode(".jpg", image[..., 0] if sampling is None else image, options)[1].tobytes()
    assert np.array_equal(decode_image(encoded, reduction), decode_with_opencv(encoded, reduction))


def test_opencv_decodes_what_simplejpeg_does_not():
    encoded = encode(noise())
    harmed = encoded[:-2] + b"\x00" * 9 + encoded[-2:]  # bytes too many before the end marker
    with pytest.raises(ValueError):
        images.simplejpeg.decode_jpeg(harmed)
    assert np.array_equal(decode_image(harmed), decode_image(encoded))


def test_without_simplejpeg_opencv_decodes(monkeypatch):
    encoded = encode(noise())
    expected = decode_image(encoded, 2)
    monkeypatch.setattr(images, "simplejpeg", None)
    assert np.array_equal(decode_image(encoded, 2), expected)


# --- reduced ---


@pytest.mark.parametrize("extension", [".jpg", ".png", ".bmp"])
@pytest.mark.parametrize("reduction", [2, 4, 8])
@pytest.mark.parametrize("height, width", [(64, 96), (65, 103), (3, 5)])
def test_a_reduced_pixel_is_the_mean_of_its_square(height, width, reduction, extension):
    ramp = np.mgrid[:height, :width].sum(axis=0) * 1.2
    encoded = encode(np.repeat(ramp[..., None], 3, axis=2).astype(np.uint8), extension)
    full, image = decode_image(encoded), decode_image(encoded, reduction)
    rows, columns = -(-height // reduction), -(-width // reduction)
    assert image.shape == (rows, columns, 3) and image.dtype == np.uint8
    padded = np.pad(full, [(0, rows * reduction - height), (0, columns * reduction - width), (0, 0)], mode="edge")
    means = padded.reshape(rows, reduction, columns, reduction, 3).mean(axis=(1, 3))
    whole = np.s_[: height // reduction, : width // reduction]
    np.testing.assert_allclose(image[whole], means[whole], atol=3)  # JPEG is not exact
    np.testing.assert_allclose(image, means, atol=12)  # how the last squares are filled is the codec's affair


def test_exif_orientation_is_ignored_in_reduced_images():
    assert decode_image(with_exif(encode(noise(40, 60)), orientation(6)), 2).shape == (20, 30, 3)


# --- size ---


@pytest.mark.parametrize("extension", [".jpg", ".png", ".bmp", ".webp"])
@pytest.mark.parametrize("height, width", [(1, 1), (40, 60), (65, 3), (300, 517)])
def test_the_size_is_that_of_the_pixels(height, width, extension):
    encoded = encode(noise(height, width), extension)
    assert read_size(encoded) == check_image(encoded) == decode_image(encoded).shape[:2] == (height, width)


def test_the_size_of_a_jpeg_is_its_own_not_its_thumbnail_s():
    turned = with_exif(with_exif(encode(noise(40, 60)), encode(noise(4, 4))), orientation(6))
    assert read_size(turned) == (40, 60)
    progressive = cv2.imencode(".jpg", noise(41, 61), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert read_size(progressive) == (41, 61)


def test_fill_bytes_before_a_marker_are_skipped():
    whole = encode(noise(40, 60))
    assert read_size(whole[:2] + b"\xff\xff\xff" + whole[2:]) == (40, 60)


@pytest.mark.parametrize(
    "encoded", [b"", b"no image", b"\xff\xd8", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", encode(noise())[:100]]
)
def test_the_size_of_no_image_is_refused(encoded):
    for function in (read_size, check_image):
        with pytest.raises(ValueError):
            function(encoded)


# --- wholeness ---


def test_a_damaged_png_is_refused():
    whole = encode(noise(), ".png")
    check_image(whole + b"behind the end")
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (whole[:-1], whole[: len(whole) // 2], whole[:-12], bytes(flipped)):
        with pytest.raises(ValueError, match="a PNG that is damaged or ends too early"):
            check_image(damaged)


@pytest.mark.parametrize("extension", [".bmp", ".webp"])
def test_other_formats_are_decoded_to_know(extension):
    with pytest.raises(ValueError):
        check_image(encode(noise(), extension)[:60])


@pytest.mark.parametrize("thumbnail", [b"", encode(noise(4, 4))], ids=["plain", "with thumbnail"])
def test_a_jpeg_cut_anywhere_is_refused(thumbnail):
    whole = with_exif(encode(noise(8, 9)), thumbnail)
    assert check_image(whole) == (8, 9)
    for length in range(len(whole)):
        with pytest.raises(ValueError):
            check_image(whole[:length])


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
