"""EXIF orientation of image files: byte orders, types, several blocks, and damaged data."""

import io
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from ssd.data import images
from ssd.data.image_headers import exif_orientation, is_safe_for_opencv, read_with_pillow
from ssd.data.images import decode_image, decode_image_file, read_size

JPEG = io.BytesIO()
Image.new("RGB", (60, 40)).save(JPEG, "JPEG")


def jpeg_with(*payloads):
    """Return a JPEG of 40x60 pixels with an EXIF segment for each payload."""
    segments = [b"Exif\0\0" + payload for payload in payloads]
    blocks = b"".join(b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment for segment in segments)
    return JPEG.getvalue()[:2] + blocks + JPEG.getvalue()[2:]


def tiff(order, *entries):
    """Return EXIF data. entries: (tag, number of the type, value)"""
    header = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, len(entries))
    codes = {3: "HHIHxx", 4: "HHII", 2: "HHI4s"}
    return (
        header + b"".join(struct.pack(order + codes[entry[1]], *entry[:2], 1, entry[2]) for entry in entries) + bytes(4)
    )


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value_type", [3, 4])  # SHORT, as in the standard, and LONG, as some cameras write it
def test_orientation_is_read_as_pillow_reads_it(value, order, value_type):
    encoded = jpeg_with(tiff(order, (0x010F, 2, b"abc\0"), (0x0112, value_type, value), (0x0131, 2, b"abc\0")))
    assert exif_orientation(encoded) == value
    with Image.open(io.BytesIO(encoded)) as image:
        assert image.getexif()[0x0112] == value


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"II",
        b"garbage of some length",
        b"XX*\0" + bytes(20),  # neither byte order
        tiff("<"),  # no entry
        tiff("<", (0x0112, 3, 0)),
        tiff("<", (0x0112, 3, 9)),
        tiff("<", (0x0112, 4, 2**31)),
        tiff("<", (0x0112, 2, b"6\0\0\0")),  # text
        tiff("<", (0x0112, 3, 6))[:-10],  # truncated inside the entry
        b"II*\0" + struct.pack("<I", 10**9),  # directory behind the end
    ],
)
def test_missing_and_damaged_orientation_is_upright(payload):
    encoded = jpeg_with(payload)
    assert exif_orientation(encoded) == 1
    assert read_size(encoded) == decode_image(encoded).shape[:2] == (40, 60)


def test_first_of_several_exif_segments_counts():
    assert exif_orientation(jpeg_with(tiff("<", (0x0112, 3, 6)), tiff("<", (0x0112, 3, 3)))) == 6


def test_jpeg_without_exif_and_other_bytes_are_upright():
    for encoded in (JPEG.getvalue(), JPEG.getvalue()[:30], b"", b"no image", b"\xff\xd8", b"\x89PNG\r\n\x1a\n"):
        assert exif_orientation(encoded) == 1


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF"])
def test_damaged_exif_of_other_formats_is_upright(image_format):
    file = io.BytesIO()
    exif = tiff("<", (0x0112, 3, 6)) if image_format == "TIFF" else b"Exif\0\0II*\0\xff\xff"
    Image.new("RGB", (60, 40), "red").save(file, image_format, **({} if image_format == "TIFF" else {"exif": exif}))
    assert exif_orientation(file.getvalue()) == 1
    assert decode_image(file.getvalue()).shape == (40, 60, 3)


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("value", [1, 3, 6])
def test_orientation_of_other_formats(image_format, value):
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = value
    Image.new("RGB", (60, 40), "red").save(file, image_format, exif=exif)
    assert exif_orientation(file.getvalue()) == value
    expected = (60, 40) if value == 6 else (40, 60)
    assert read_size(file.getvalue()) == decode_image(file.getvalue()).shape[:2] == expected


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_orientation_in_xmp_data_is_ignored(image_format):
    xmp, info, file = b'<rdf:Description tiff:Orientation="6"/>', PngImagePlugin.PngInfo(), io.BytesIO()
    info.add_itxt("XML:com.adobe.xmp", xmp.decode())
    options = {"pnginfo": info} if image_format == "PNG" else {"xmp": xmp}
    Image.new("RGB", (60, 40), "red").save(file, image_format, **options)
    with Image.open(io.BytesIO(file.getvalue())) as image:
        assert image.getexif()[0x0112] == 6  # Pillow reads XMP data
    assert exif_orientation(file.getvalue()) == 1
    assert decode_image(file.getvalue()).shape == (40, 60, 3)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_limit_of_pillow_is_raised_only_while_a_large_image_is_read(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((40, 60, 4), np.uint8)).save(file, "PNG", exif=exif)
    assert read_with_pillow(file.getvalue(), lambda image: (image.size, Image.MAX_IMAGE_PIXELS)) == ((60, 40), 2**27)
    assert Image.MAX_IMAGE_PIXELS == 1000
    assert exif_orientation(file.getvalue()) == 6
    assert decode_image(file.getvalue()).shape == (60, 40, 3)
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_large_images_are_read_without_warnings():
    """Pillow warns from 89 megapixels on. Warnings of a test run are shown in any case, so a new process tries it."""
    code = """
import io
from PIL import Image
from ssd.data.image_headers import read_with_pillow
file = io.BytesIO()
Image.new("1", (12000, 8000)).save(file, "PNG")
print(read_with_pillow(file.getvalue(), lambda image: image.size))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (result.stdout, result.stderr) == ("(12000, 8000)\n", "")


def png_with_length(length, name=b"IDAT", width=4):
    """Return a PNG of 4 rows, in which a chunk before the pixels states this number of bytes."""
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    whole = file.getvalue()
    start = whole.index(b"IDAT") - 4
    return (
        whole[:16] + struct.pack(">I", width) + whole[20:start] + struct.pack(">I", length) + name + whole[start + 8 :]
    )


def expect_no_opencv(encoded, monkeypatch):
    """Neither a request nor a shard brings the file to OpenCV, and it is no image."""
    monkeypatch.setattr(images.cv2, "imdecode", lambda *_: pytest.fail("OpenCV must not read this file"))
    for decode in (decode_image_file, images.decode_with_opencv):
        with pytest.raises(ValueError):
            decode(encoded)


@pytest.mark.parametrize("name", [b"IDAT", b"tEXt", b"AAAA"])
@pytest.mark.parametrize("width", [4, 0])  # 0: the header states no size
def test_a_png_chunk_is_not_longer_than_its_file(name, width, monkeypatch):
    """OpenCV would allocate 1.5 GiB for a file of 70 bytes."""
    encoded = png_with_length(0x60000000, name, width)
    assert not is_safe_for_opencv(encoded)
    expect_no_opencv(encoded, monkeypatch)


def test_opencv_reads_only_pngs_with_an_end(monkeypatch):
    """OpenCV 4.11 reads on behind the end of the file, until the memory is full."""
    whole = png_with_length(len(png_with_length(0)) - 57)
    assert is_safe_for_opencv(whole) and is_safe_for_opencv(whole + b"behind the end")
    assert not is_safe_for_opencv(whole.replace(b"IDAT", b"IDAX"))  # OpenCV looks for IDAT behind IEND
    assert decode_image_file(whole).shape == (4, 4, 3)
    for length in range(8, len(whole)):
        assert not is_safe_for_opencv(whole[:length])
    with monkeypatch.context() as patch:
        expect_no_opencv(whole[:-4], patch)


def test_animations_are_decoded_by_pillow(monkeypatch):
    """Frames that are larger than the image overwrite the memory of OpenCV 4.11."""
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    file = io.BytesIO()
    red.save(file, "PNG", save_all=True, append_images=[blue], default_image=False)
    monkeypatch.setattr(images.cv2, "imdecode", lambda *_: pytest.fail("OpenCV must not read this file"))
    assert decode_image_file(file.getvalue()).reshape(-1, 3).tolist() == [[255, 0, 0]] * 16
