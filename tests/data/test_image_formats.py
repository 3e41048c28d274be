"""Formats of images: what prediction reads, conversion, training and evaluation read too."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssd.data import image_formats
from ssd.data.image_formats import IMAGE_SUFFIXES, unidentified_reason
from ssd.data.images import check_image, decode_image, probe_image, read_image_file
from ssd.inference.sources import find_inputs

HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(100)  # the first bytes of a photograph
WITH_EXTRA = {".heic", ".heif", ".hif"}


@pytest.fixture
def pixels():
    """A red rectangle on green, which lossy formats keep nearly."""
    image = np.full((48, 80, 3), (0, 160, 0), np.uint8)
    image[8:40, 16:64] = (200, 0, 0)
    return image


def save(path: Path, pixels):
    image_format = Image.registered_extensions()[path.suffix.lower()]
    Image.fromarray(pixels).convert("1" if path.suffix == ".pbm" else "RGB").save(path, image_format)


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES - WITH_EXTRA))
def test_conversion_and_prediction_read_the_same_formats(suffix, pixels, tmp_path):
    Image.init()
    path = tmp_path / f"a{suffix.upper()}"
    save(path, pixels)
    encoded = path.read_bytes()
    assert check_image(encoded) == probe_image(path).size == (48, 80)
    for image in (decode_image(encoded), read_image_file(path)):
        assert image.shape == (48, 80, 3) and image.dtype == np.uint8
        if suffix != ".pbm":
            np.testing.assert_allclose(image[20, 40].astype(int), (200, 0, 0), atol=30)
    assert [found.path for found in find_inputs([str(tmp_path)], tmp_path / "out").images] == [path]


def test_suffixes_of_cameras_phones_and_the_web_are_listed():
    assert set(".jpg .jpeg .mpo .heic .png .webp .avif .gif .bmp .tif .tiff .jp2 .ppm".split()) <= IMAGE_SUFFIXES


def test_heic_without_the_extra_says_what_to_install_or_convert(monkeypatch, tmp_path):
    monkeypatch.setattr(image_formats, "pillow_heif", None)
    assert "pillow-heif" in unidentified_reason(HEIC) and "JPEG" in unidentified_reason(HEIC)
    assert "pillow-heif" not in unidentified_reason(b"no image" * 10)
    (tmp_path / "a.HEIC").write_bytes(HEIC)
    if not is_heif_registered():
        assert "pillow-heif" in probe_image(tmp_path / "a.HEIC").error
        for read in (decode_image, check_image):
            with pytest.raises(ValueError, match="pillow-heif"):
                read(HEIC)
        with pytest.raises(ValueError, match="pillow-heif"):
            read_image_file(tmp_path / "a.HEIC")


def is_heif_registered():
    return "HEIF" in Image.OPEN


def test_heic_is_read_with_the_extra(pixels):
    pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "HEIF")
    assert check_image(file.getvalue()) == (48, 80)
    np.testing.assert_allclose(decode_image(file.getvalue())[20, 40].astype(int), (200, 0, 0), atol=30)


def test_a_damaged_avif_is_an_error(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "AVIF")
    for content in (file.getvalue()[:60], file.getvalue()[:-100]):
        with pytest.raises(ValueError):
            check_image(content)
