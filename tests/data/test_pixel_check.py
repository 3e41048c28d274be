"""Decoding images to check them: damage that the header and the end marker of a JPEG do not show."""

import cv2
import numpy as np
import pytest

from broken_shards import BROKEN_IMAGES, start_of_frame, zeroed_body
from ssd.data import pixel_check
from ssd.data.pixel_check import DamagedPixelsError, check_pixels


def encode(extension=".jpg", channels=3, *options):
    rng = np.random.default_rng(0)
    pixels = cv2.resize(rng.integers(0, 256, (20, 30, channels), dtype=np.uint8), (300, 200))
    return cv2.imencode(extension, pixels, options)[1].tobytes()


JPEG = encode()


@pytest.mark.parametrize("extension", [".jpg", ".png", ".bmp", ".webp", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sound_images_pass(extension, channels):
    check_pixels(encode(extension, channels))


@pytest.mark.parametrize("option", [cv2.IMWRITE_JPEG_PROGRESSIVE, cv2.IMWRITE_JPEG_RST_INTERVAL])
def test_sound_jpegs_of_all_kinds_pass(option):
    check_pixels(encode(".jpg", 3, option, 1))


@pytest.mark.parametrize(
    "stray", [b"", bytes(4), b"\x12" * (len(JPEG) // 200)], ids=["none", "a few", "half a per cent"]
)
def test_a_few_bytes_after_the_pixels_are_harmless(stray):
    check_pixels(JPEG[:-2] + stray + JPEG[-2:])
    check_pixels(JPEG + stray)


@pytest.mark.parametrize(
    "damaged",
    [
        zeroed_body(JPEG),
        zeroed_body(encode(".jpg", 3, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
        zeroed_body(encode(".jpg", 1)),
        start_of_frame(JPEG, 0xC9),
        JPEG[: len(JPEG) // 2] + b"\xff\xd9",
        JPEG[: len(JPEG) // 2] + bytes(len(JPEG) // 2) + b"\xff\xd9",
        JPEG[: len(JPEG) // 2] + JPEG[-2000:],
    ],
    ids=["zeros", "zeros, progressive", "zeros, gray", "not arithmetic", "half", "half zeros", "a part is missing"],
)
def test_damaged_pixels_are_found(damaged, capfd):
    with pytest.raises(DamagedPixelsError) as caught:
        check_pixels(damaged)
    assert "\n" not in str(caught.value) and capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", BROKEN_IMAGES)
def test_undecodable_images_are_another_error(kind):
    with pytest.raises(ValueError) as caught:
        check_pixels(BROKEN_IMAGES[kind](JPEG))
    assert not isinstance(caught.value, DamagedPixelsError)


def test_without_simplejpeg_undecodable_images_are_found(monkeypatch):
    monkeypatch.setattr(pixel_check, "simplejpeg", None)
    check_pixels(JPEG)
    with pytest.raises(ValueError):
        check_pixels(start_of_frame(JPEG, 0xC3))
