"""Encoded images: their size, their soundness, and their pixels, at full size or reduced while they are decoded."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

try:  # decodes JPEGs to the same pixels as OpenCV, in three quarters of the time; not to be had everywhere
    import simplejpeg
except ImportError:
    simplejpeg = None

# Annotations speak of the pixels as stored: pycocotools and the published pipeline ignore the EXIF orientation too.
_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
# libjpeg scales its 8x8 blocks by these on the way to pixels, which costs less than decoding in full: 0.4 of it at 2.
_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
SCALE_DENOMINATORS = (1, *_REDUCED)
# The markers that carry a JPEG's size: SOF0 … SOF15 less DHT, JPG and DAC, which share their range.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"


def decode_image(encoded: bytes, reduction: int = 1) -> np.ndarray:
    """JPEG, PNG, … -> (ceil(H / reduction), ceil(W / reduction), 3) uint8 RGB. reduction: one of SCALE_DENOMINATORS.

    A pixel of a reduced image is about the mean of the square of pixels it stands for; at the lower and right border
    the last pixels are repeated to fill their squares. Raises ValueError on what is no image.
    """
    if simplejpeg is not None and encoded.startswith(_JPEG):
        with contextlib.suppress(ValueError):  # colours or small damage that OpenCV copes with
            return _decode_with_simplejpeg(encoded, reduction)
    return decode_with_opencv(encoded, reduction)


def decode_with_opencv(encoded: bytes, reduction: int = 1) -> np.ndarray:
    """decode_image by OpenCV alone. Raises ValueError."""
    is_jpeg = encoded.startswith(_JPEG)
    flags = _FLAGS | _REDUCED.get(reduction, 0) if is_jpeg else _FLAGS
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags) if encoded else None
    if image is None:
        raise ValueError("bytes that do not decode")
    if reduction == 1 or is_jpeg:
        return image
    height, width = (-(-side // reduction) for side in image.shape[:2])
    below, right = height * reduction - image.shape[0], width * reduction - image.shape[1]
    image = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _decode_with_simplejpeg(encoded: bytes, reduction: int) -> np.ndarray:
    """decode_image of a JPEG, to the same pixels. Raises ValueError."""
    if reduction == 1:
        return simplejpeg.decode_jpeg(encoded)
    height, width, _, _ = simplejpeg.decode_jpeg_header(encoded)
    sides = {"min_height": -(-height // reduction), "min_width": -(-width // reduction)}
    return simplejpeg.decode_jpeg(encoded, min_factor=reduction, **sides)


def read_size(encoded: bytes) -> tuple[int, int]:
    """(height, width) of the stored pixels, from the header where that is JPEG's or PNG's. Raises ValueError."""
    return read_header_size(encoded) or decode_image(encoded).shape[:2]


def read_header_size(encoded: bytes) -> tuple[int, int] | None:
    """(height, width) of the stored pixels, from a start of JPEG or PNG that has all of the header; None of others."""
    size = (0, 0)
    with contextlib.suppress(struct.error, IndexError, ValueError):  # a header that ends too early
        if encoded.startswith(_PNG):  # length and name of the first chunk, then its content
            size = struct.unpack_from(">II", encoded, 16)[::-1]
        elif encoded.startswith(_JPEG):
            size, _ = _read_jpeg_header(encoded)
    return size if min(size) > 0 else None


def check_image(encoded: bytes) -> tuple[int, int]:
    """(height, width) of an image, made sure that it is whole. Raises ValueError.

    JPEGs are known by header and end, PNGs by the checksums they carry, at the rate of reading; all else is decoded.
    """
    size = read_size(encoded)
    if encoded.startswith(_JPEG) and is_truncated_jpeg(encoded):
        raise ValueError("a JPEG that ends too early")
    if encoded.startswith(_PNG) and not _is_whole_png(encoded):
        raise ValueError("a PNG that is damaged or ends too early")
    if not encoded.startswith((_JPEG, _PNG)):
        decode_image(encoded)
    return size


def is_truncated_jpeg(encoded: bytes) -> bool:
    """Whether a JPEG has no end marker behind its pixels. Decoders fill what some such files lack with grey."""
    if not encoded.startswith(_JPEG):
        return False
    try:
        _, start_of_scan = _read_jpeg_header(encoded)
    except (struct.error, IndexError, ValueError):
        return True
    return encoded.rfind(b"\xff\xd9") < start_of_scan


def _read_jpeg_header(encoded: bytes) -> tuple[tuple[int, int], int]:
    """(height, width), zeros if they do not come, and where the pixels start. Thumbnails lie inside of segments and are
    passed over. Raises struct.error, IndexError or ValueError where the file ends before its pixels."""
    size, position = (0, 0), 2
    while True:
        position = encoded.index(b"\xff", position)  # decoders pass over bytes that do not belong there, too
        marker = encoded[position + 1]
        if marker in (0x00, 0xFF):  # no marker, fill byte
            position += 1
            continue
        if marker == _START_OF_SCAN:
            return size, position
        (length,) = struct.unpack_from(">H", encoded, position + 2)
        if marker in _START_OF_FRAME:  # length, bits a sample (1 byte), height, width
            size = struct.unpack_from(">HH", encoded, position + 5)
        position += 2 + length


def _is_whole_png(encoded: bytes) -> bool:
    position, name = len(_PNG), b""
    while name != b"IEND":
        if len(encoded) < position + 12:
            return False
        length, name = struct.unpack_from(">I4s", encoded, position)
        end = position + 8 + length
        if encoded[end : end + 4] != zlib.crc32(memoryview(encoded)[position + 4 : end]).to_bytes(4, "big"):
            return False
        position = end + 4
    return True


# What is taken for an image in a folder; a file given by its name is tried whatever it is called.
IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .bmp .dib .tif .tiff .gif .avif .jp2 .ppm .pgm .pbm .pnm".split()
)
JPEG_SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".jfif"))
_DEEP_GREY = ("I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes of 16-bit grey


def read_image_file(path) -> np.ndarray:
    """An image file -> (H, W, 3) uint8 RGB, as an image viewer shows it.

    The EXIF orientation is applied, unlike in training and evaluation, whose annotations speak of stored pixels. Grey
    becomes three equal channels; of 16 bits the high byte counts; CMYK is converted without colour profiles;
    transparent images are laid on white, as on a page, because the colours stored under transparent pixels are
    arbitrary; of several frames or pages the first is taken. Every other image has the pixels that evaluation sees.
    Raises OSError if the file cannot be read, ValueError if it is not a whole image.
    """
    encoded = Path(path).read_bytes()
    if encoded.startswith((_JPEG, _PNG)):
        check_image(encoded)
    try:
        if encoded.startswith(_JPEG):  # by the decoder of training and evaluation
            image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
        else:
            image = _decode_with_pillow(encoded)
    except UnidentifiedImageError:
        raise ValueError("a file that is not an image of a known kind") from None
    except Exception as error:  # what decoders raise on damaged files has no common base
        raise ValueError(" ".join(f"an image that does not decode ({error})".split())) from None
    if image is None:
        raise ValueError("a JPEG that does not decode")
    return image


def _decode_with_pillow(encoded: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(encoded)) as stored:
        is_deep_pgm = stored.format == "PPM" and stored.mode == "I"  # whose 16 bits Pillow keeps in 32
        picture = ImageOps.exif_transpose(stored)
    if picture.mode in _DEEP_GREY or is_deep_pgm:  # of which Pillow's own conversion makes white
        grey = (np.asarray(picture) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if picture.mode in ("I", "F"):
        raise ValueError("32 bits a pixel, of which nothing says what is white")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return np.asarray(picture.convert("RGB"))


_ORIENTATION = 0x0112  # the EXIF tag; 1 is upright
_HEAD = 1 << 16  # bytes of a JPEG that nearly always hold its size
_PNG_EXIF = (b"eXIf", b"exif", b"tiff:Orientation")  # of a PNG without any of these Pillow decodes all to find none
_THREADS = min(8, os.cpu_count() or 1)


@dataclasses.dataclass(frozen=True)
class ImageProbe:
    """size: (height, width) of the stored pixels, None if there are none; wrong: why, as `PATH: got …`, else empty;
    turned: whether viewers show the image otherwise than its pixels are stored"""

    size: tuple[int, int] | None
    turned: bool = False
    wrong: str = ""


def probe_images(paths: Iterable[Path]) -> Iterator[ImageProbe]:
    """probe_image each, in order, by several threads."""
    with ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(probe_image, paths)


def probe_image(path: Path) -> ImageProbe:
    """What is to be known of an image file without its pixels, of which no more than that is read if it is a JPEG."""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
            size = read_header_size(head)
            if size is None or head.startswith(_PNG):
                head += file.read()
                size = size or read_size(head)
            if head.startswith(_PNG) and not any(mark in head for mark in _PNG_EXIF):
                return ImageProbe(size)
            return ImageProbe(size, _is_turned(file))
    except OSError as error:
        return ImageProbe(None, wrong=f"{path}: got {error.strerror.lower()}")
    except ValueError as error:
        return ImageProbe(None, wrong=f"{path}: got {error}")


def _is_turned(file: BinaryIO) -> bool:
    file.seek(0)
    try:
        with Image.open(file) as image:
            return image.getexif().get(_ORIENTATION, 1) not in (0, 1)
    except Exception:  # what Pillow raises on damaged files has no common base
        return False
