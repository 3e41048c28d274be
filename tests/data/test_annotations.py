"""What readers need to know of files: size, orientation, lines; what is none of these is refused by name."""

import pytest
from PIL import Image
from ssd.data.annotations import is_turned, read_lines, size_of_file
from ssd.errors import UserError


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp"])
def test_size_is_height_and_width(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (60, 40)).save(path)
    assert size_of_file(path) == (40, 60)


@pytest.mark.parametrize("orientation, turned", [(None, False), (0, False), (1, False), (3, True), (6, True)])
def test_orientation(orientation, turned, tmp_path):
    path, exif = tmp_path / "a.jpg", Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.new("RGB", (60, 40)).save(path, exif=exif)
    assert is_turned(path) is turned and size_of_file(path) == (40, 60)  # of the pixels as stored


def test_what_is_no_image_is_refused_and_not_turned(tmp_path):
    path = tmp_path / "a.jpg"
    for what in (None, b"", b"text", b"\xff\xd8"):
        if what is not None:
            path.write_bytes(what)
        with pytest.raises(UserError, match=f"{path}: got .*expected an image"):
            size_of_file(path)
        assert not is_turned(path)


def test_lines(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffKäfer\r\n猫\n".encode())
    assert read_lines(path) == ["Käfer", "猫"]
    path.write_bytes(b"K\xe4fer")
    with pytest.raises(UserError, match="a.txt: got .*UTF-8"):
        read_lines(path)
    with pytest.raises(UserError, match="b.txt: got no such file"):
        read_lines(tmp_path / "b.txt")
