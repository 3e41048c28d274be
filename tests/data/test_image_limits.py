"""Image files of other people: one limit on pixels, on bytes and on what may be opened."""

import io
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from ssd.data import image_limits
from ssd.data.image_headers import read_stored_size
from ssd.data.image_limits import MAX_FILE_BYTES, MAX_PIXELS, decoding, read_image_bytes
from ssd.data.images import decode_image, exif_orientation, probe_image, read_image_file
from ssd.data.mindrecord import UnusableImageError, read_record
from ssd.data.readers.annotations import AnnotatedImage
from ssd.deployment.server.settings import ServerSettings


def encode(image_format, size=(60, 40), **options):
    file = io.BytesIO()
    Image.new("RGB", size).save(file, image_format, **options)
    return file.getvalue()


def test_the_limit_has_room_for_photographs_and_is_that_of_the_service():
    assert 200_000_000 < MAX_PIXELS == ServerSettings().max_pixels


@pytest.mark.parametrize("image_format", ["BMP", "TIFF", "GIF", "PPM", "TGA", "JPEG2000"])
def test_every_format_has_the_limit_before_it_is_decoded(image_format, monkeypatch):
    encoded = encode(image_format)
    assert read_stored_size(encoded) == (40, 60) and decode_image(encoded).shape == (40, 60, 3)
    monkeypatch.setattr(image_limits, "MAX_PIXELS", 60 * 40 - 1)
    monkeypatch.setattr(Image.Image, "convert", None)
    with pytest.raises(ValueError, match="60x40"):
        decode_image(encoded)


def test_a_bomb_of_a_few_bytes_is_refused():
    bomb = bytearray(encode("BMP"))
    bomb[18:26] = (40_000).to_bytes(4, "little") * 2
    start = time.monotonic()
    with pytest.raises(ValueError, match="too many pixels"):
        decode_image(bytes(bomb))
    assert time.monotonic() - start < 2 and exif_orientation(bytes(bomb)) == 1


def test_large_images_are_not_decoded_at_the_same_time():
    running, most = [], []

    def decode(size):
        with decoding(size):
            running.append(size[0] * size[1])
            most.append(sum(running))
            time.sleep(0.01)
            running.remove(size[0] * size[1])

    sizes = [(2**14, 2**13), (2**14, 2**14), (2**13, 2**13), (2**14, 2**13)] * 3
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, sizes))
    assert max(most) <= MAX_PIXELS and len(most) == len(sizes)


def test_small_images_and_unknown_sizes_wait_for_nothing():
    with decoding((2**14, 2**14)):
        for size in ((2**10, 2**10), None):
            thread = threading.Thread(target=lambda size=size: decoding(size).__enter__(), daemon=True)
            thread.start()
            thread.join(5)
            assert not thread.is_alive()


def test_an_error_gives_the_pixels_back():
    def fail():
        for _ in range(3):
            with pytest.raises(KeyError), decoding((2**14, 2**14)):
                raise KeyError

    thread = threading.Thread(target=fail, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()


def test_ghostscript_is_never_started(monkeypatch):
    """Pillow would start this program for EPS files, whatever their suffix is."""
    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: started.append(1))
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(ValueError, match="not an image of a supported format"):
        decode_image(eps)
    assert not started


def test_pipes_and_devices_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    assert str(tmp_path / "a.jpg") in probe_image(tmp_path / "a.jpg").error
    for path in (tmp_path / "a.jpg", "/dev/zero"):
        with pytest.raises(ValueError, match="pipe"):
            read_image_file(path)
    image = AnnotatedImage(1, tmp_path / "a.jpg", size=None, ground_truth=np.zeros((0, 5)), crowd_boxes=0)
    with pytest.raises(UnusableImageError, match="a.jpg: "):
        read_record(image)


def test_huge_files_are_not_read(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0")
    os.truncate(path, MAX_FILE_BYTES + 1)  # the file system stores no zeros
    with pytest.raises(ValueError, match=f"{MAX_FILE_BYTES:,}"):
        read_image_bytes(path)
    assert read_image_bytes(path, 2) == b"II"
    assert str(path) in probe_image(path).error
