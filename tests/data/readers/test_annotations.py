"""What readers need to know of files: size, orientation, lines, case of names; what is none of these is told by name."""

import numpy as np
import pytest
from PIL import Image

from ssd.data import images
from ssd.data.images import ImageProbe, probe_image, probe_images
from ssd.data.readers.annotations import find_path, read_lines
from ssd.errors import UserError


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp"])
def test_size_is_height_and_width(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (60, 40)).save(path)
    assert probe_image(path) == ImageProbe((40, 60))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("orientation, turned", [(None, False), (0, False), (1, False), (3, True), (6, True)])
def test_orientation(orientation, turned, suffix, tmp_path):
    path, exif = tmp_path / f"a.{suffix}", Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.new("RGB", (60, 40)).save(path, exif=exif)
    assert probe_image(path) == ImageProbe((40, 60), turned)  # of the pixels as stored


def test_a_header_beyond_what_is_read_first_is_found(tmp_path):
    path, exif = tmp_path / "a.jpg", Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(path, exif=exif, icc_profile=bytes(200_000))
    assert path.read_bytes().index(b"\xff\xda") > 100_000
    assert probe_image(path) == ImageProbe((40, 60), True)


def test_of_a_jpeg_only_the_start_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "read_size", None)  # what is asked for a size once all of a file is read
    path = tmp_path / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (400, 600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, quality=95)
    assert path.stat().st_size > annotations._HEAD and probe_image(path) == ImageProbe((400, 600))


def test_what_is_no_image_is_told(tmp_path):
    path = tmp_path / "a.jpg"
    for what in (None, b"", b"text", b"\xff\xd8"):
        if what is not None:
            path.write_bytes(what)
        file = probe_image(path)
        assert (file.size, file.turned) == (None, False) and file.wrong.startswith(f"{path}: got ")


def test_many_are_looked_at_in_order(tmp_path):
    paths = [tmp_path / f"{width}.png" for width in range(1, 30)]
    for width, path in enumerate(paths, start=1):
        Image.new("RGB", (width, 5)).save(path)
    paths[3].unlink()
    assert [file.size for file in probe_images(paths)] == [(5, n) if n != 4 else None for n in range(1, 30)]
    assert list(probe_images([])) == []


def test_paths_are_found_whatever_their_case(tmp_path):
    (tmp_path / "Images" / "Train").mkdir(parents=True)
    assert find_path(tmp_path, "images/train") == tmp_path / "Images" / "Train"
    assert find_path(tmp_path, "images/val") is None and find_path(tmp_path / "absent", "a") is None
    (tmp_path / "images" / "train").mkdir(parents=True)
    assert find_path(tmp_path, "images/train") == tmp_path / "images" / "train"


def test_lines(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffKäfer\r\n猫\n".encode())
    assert read_lines(path) == ["Käfer", "猫"]
    path.write_bytes(b"K\xe4fer")
    with pytest.raises(UserError, match="a.txt: got .*UTF-8"):
        read_lines(path)
    with pytest.raises(UserError, match="b.txt: got no such file"):
        read_lines(tmp_path / "b.txt")
