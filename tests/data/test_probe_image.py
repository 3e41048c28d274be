"""Sizes and EXIF orientations of image files, read without decoding the pixels."""

import numpy as np
import pytest
from PIL import Image

from ssd.data import images
from ssd.data.images import ImageProbe, probe_image, probe_images

ORIENTATION_TAG = 0x0112


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp"])
def test_size_is_height_and_width(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (60, 40)).save(path)
    assert probe_image(path) == ImageProbe((40, 60))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation, expected", [(None, 1), (0, 1), (1, 1), (3, 3), (6, 6), (9, 1)])
def test_exif_orientation(orientation, expected, suffix, tmp_path):
    path, exif = tmp_path / f"a.{suffix}", Image.Exif()
    if orientation is not None:
        exif[ORIENTATION_TAG] = orientation
    Image.new("RGB", (60, 40)).save(path, exif=exif)
    size = (60, 40) if orientation == 6 else (40, 60)  # upright
    assert probe_image(path) == ImageProbe(size, exif_orientation=expected)


def test_a_header_longer_than_the_first_read_is_found(tmp_path):
    path, exif = tmp_path / "a.jpg", Image.Exif()
    exif[ORIENTATION_TAG] = 6
    Image.new("RGB", (60, 40)).save(path, exif=exif, icc_profile=bytes(200_000))
    assert path.read_bytes().index(b"\xff\xda") > 100_000
    assert probe_image(path) == ImageProbe((60, 40), exif_orientation=6)


def test_only_the_start_of_a_jpeg_is_read(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (400, 600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, quality=95)
    assert path.stat().st_size > images._HEAD_BYTES
    read, read_size = [], images.read_size
    monkeypatch.setattr(images, "read_size", lambda encoded: read.append(len(encoded)) or read_size(encoded))
    assert probe_image(path) == ImageProbe((400, 600))
    assert read == [images._HEAD_BYTES]


@pytest.mark.parametrize("content", [None, b"", b"text", b"\xff\xd8"])
def test_a_file_that_is_not_an_image_has_an_error_and_no_size(content, tmp_path):
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    probe = probe_image(path)
    assert (probe.size, probe.exif_orientation) == (None, 1)
    assert probe.error.startswith(f"{path}: ")


def test_several_images_are_probed_in_order(tmp_path):
    paths = [tmp_path / f"{width}.png" for width in range(1, 30)]
    for width, path in enumerate(paths, start=1):
        Image.new("RGB", (width, 5)).save(path)
    paths[3].unlink()
    assert [probe.size for probe in probe_images(paths)] == [(5, n) if n != 4 else None for n in range(1, 30)]
    assert list(probe_images([])) == []
