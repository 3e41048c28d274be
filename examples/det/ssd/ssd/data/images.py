"""Encoded images: decode them, read files as a viewer shows them, check that they are complete, probe their headers.

`decode_image` serves training and evaluation, `read_image_file` serves prediction; JPEGs have the same pixels in both.
"""

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

from ..errors import os_reason
from ..runtime.prefetch import prefetch

try:  # optional; decodes JPEGs to the same pixels as OpenCV in three quarters of the time
    import simplejpeg
except ImportError:
    simplejpeg = None

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .bmp .dib .tif .tiff .gif .avif .jp2 .ppm .pgm .pbm .pnm".split()
)
JPEG_SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".jfif"))

# File signatures and markers.
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_START = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
_START_OF_SCAN = 0xDA
# SOF0 to SOF15 carry the size of a JPEG. DHT, JPG and DAC share their range of numbers and do not.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

# Annotations refer to the stored pixels: pycocotools and MindCV's example ignore the EXIF orientation too.
_OPENCV_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
# libjpeg can shrink an image while decoding it, which is faster: by 2 takes 0.4 of the time.
_OPENCV_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
SCALE_DENOMINATORS = (1, *_OPENCV_REDUCED)


def decode_image(encoded: bytes, scale_denominator: int = 1) -> np.ndarray:
    """Decode an image to RGB, at full size or reduced. The EXIF orientation is ignored.

    encoded: bytes of a file of any format that OpenCV reads
    scale_denominator: one of SCALE_DENOMINATORS, s below

    Returns (ceil(H / s), ceil(W / s), 3) uint8. A pixel is about the mean of s x s pixels of the full image. At the
    lower and right border the last pixels are repeated to fill a square.
    Raises ValueError if the image does not decode.
    """
    if simplejpeg is not None and encoded.startswith(_JPEG_START):
        with contextlib.suppress(ValueError):  # OpenCV copes with more colour spaces and with slight damage
            return _decode_with_simplejpeg(encoded, scale_denominator)
    return decode_with_opencv(encoded, scale_denominator)


def decode_with_opencv(encoded: bytes, scale_denominator: int = 1) -> np.ndarray:
    """Do the same as decode_image, by OpenCV alone. Raises ValueError."""
    is_jpeg = encoded.startswith(_JPEG_START)
    flags = _OPENCV_FLAGS | _OPENCV_REDUCED.get(scale_denominator, 0) if is_jpeg else _OPENCV_FLAGS
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags) if encoded else None
    if image is None:
        raise ValueError("undecodable image")
    if scale_denominator == 1 or is_jpeg:
        return image
    height, width = (-(-side // scale_denominator) for side in image.shape[:2])
    image = cv2.copyMakeBorder(
        image,
        top=0,
        bottom=height * scale_denominator - image.shape[0],
        left=0,
        right=width * scale_denominator - image.shape[1],
        borderType=cv2.BORDER_REPLICATE,
    )
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _decode_with_simplejpeg(encoded: bytes, scale_denominator: int) -> np.ndarray:
    """Decode a JPEG to the same pixels as OpenCV. Raises ValueError."""
    if scale_denominator == 1:
        return simplejpeg.decode_jpeg(encoded)
    height, width, _, _ = simplejpeg.decode_jpeg_header(encoded)
    return simplejpeg.decode_jpeg(
        encoded,
        min_height=-(-height // scale_denominator),
        min_width=-(-width // scale_denominator),
        min_factor=scale_denominator,
    )


def read_image_file(path: Path | str) -> np.ndarray:
    """Read an image file as an image viewer shows it.

    - The EXIF orientation is applied, unlike in training and evaluation, whose annotations refer to stored pixels.
    - Grey becomes three equal channels, CMYK is converted without colour profiles, 16-bit values keep their high byte.
    - Transparent images are laid on white, because the colours stored under transparent pixels are arbitrary.
    - Files with several frames or pages give the first.

    All other images have the same pixels as in evaluation.

    Returns (H, W, 3) uint8 RGB. Raises OSError if the file cannot be read, ValueError if it is not a complete image.
    """
    encoded = Path(path).read_bytes()
    if encoded.startswith((_JPEG_START, _PNG_SIGNATURE)):
        check_image(encoded)
    try:
        if encoded.startswith(_JPEG_START):  # by OpenCV, as in evaluation
            image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
        else:
            image = _decode_with_pillow(encoded)
    except UnidentifiedImageError:
        raise ValueError("not an image of a known format") from None
    except Exception as error:  # the errors that decoders raise on damaged files have no common base class
        raise ValueError(" ".join(f"undecodable image ({error})".split())) from None
    if image is None:
        raise ValueError("undecodable JPEG")
    return image


def _decode_with_pillow(encoded: bytes) -> np.ndarray:
    """Decode an image upright, on white. Raises ValueError, and whatever Pillow raises on damaged files."""
    with Image.open(io.BytesIO(encoded)) as stored:
        is_16_bit_pgm = stored.format == "PPM" and stored.mode == "I"  # Pillow holds its 16 bits in 32
        image = ImageOps.exif_transpose(stored)
    if is_16_bit_pgm or image.mode in ("I;16", "I;16L", "I;16B", "I;16N"):
        # Pillow's own conversion to 8 bits clips at 255, so that almost all pixels become white.
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ValueError("unsupported depth: values of 32 bits have no defined white level")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def read_size(encoded: bytes) -> tuple[int, int]:
    """Return (height, width) of the stored pixels: from the header of a JPEG or PNG, else by decoding.

    Raises ValueError if there is no readable image.
    """
    size = read_header_size(encoded)
    if size is None:
        height, width, _ = decode_image(encoded).shape
        size = (height, width)
    return size


def read_header_size(encoded: bytes) -> tuple[int, int] | None:
    """Return (height, width) from the header of a JPEG or PNG; None for other formats and incomplete headers.

    encoded: a file, or only its first bytes
    """
    size = (0, 0)
    with contextlib.suppress(struct.error, IndexError, ValueError):  # the header is incomplete
        if encoded.startswith(_PNG_SIGNATURE):  # 8 bytes, then length and name of the first chunk, then its content
            width, height = struct.unpack_from(">II", encoded, 16)
            size = (height, width)
        elif encoded.startswith(_JPEG_START):
            size, _ = _read_jpeg_header(encoded)
    return size if min(size) > 0 else None


def check_image(encoded: bytes) -> tuple[int, int]:
    """Check that an image is complete, and return (height, width). Raises ValueError.

    JPEGs are checked for their header and end marker, PNGs for their checksums, both as fast as reading the file.
    Other formats are decoded.
    """
    size = read_size(encoded)
    if encoded.startswith(_JPEG_START):
        if is_truncated_jpeg(encoded):
            raise ValueError("truncated JPEG")
    elif encoded.startswith(_PNG_SIGNATURE):
        if not _is_intact_png(encoded):
            raise ValueError("damaged or truncated PNG")
    else:
        decode_image(encoded)
    return size


def is_truncated_jpeg(encoded: bytes) -> bool:
    """Return whether a JPEG has no end marker behind its pixels; False for other formats.

    Decoders accept some truncated files and fill the missing pixels with grey.
    """
    if not encoded.startswith(_JPEG_START):
        return False
    try:
        _, start_of_scan = _read_jpeg_header(encoded)
    except (struct.error, IndexError, ValueError):
        return True
    return encoded.rfind(_JPEG_END) < start_of_scan


def _read_jpeg_header(encoded: bytes) -> tuple[tuple[int, int], int]:
    """Return (height, width), or (0, 0) if the size is missing, and the position of the start-of-scan marker.

    Thumbnails lie inside segments, which are skipped. Raises struct.error, IndexError or ValueError if the file ends
    before its pixels.
    """
    size, position = (0, 0), len(_JPEG_START)
    while True:
        position = encoded.index(b"\xff", position)  # skips stray bytes between segments, as decoders do
        marker = encoded[position + 1]
        if marker in (0x00, 0xFF):  # a stuffed byte or a fill byte instead of a marker
            position += 1
            continue
        if marker == _START_OF_SCAN:
            return size, position
        (length,) = struct.unpack_from(">H", encoded, position + 2)
        if marker in _START_OF_FRAME:  # length, bits per sample (1 byte), height, width
            height, width = struct.unpack_from(">HH", encoded, position + 5)
            size = (height, width)
        position += 2 + length


def _is_intact_png(encoded: bytes) -> bool:
    """Return whether every chunk of a PNG up to IEND is there and has its checksum."""
    position, name = len(_PNG_SIGNATURE), b""
    while name != b"IEND":
        if len(encoded) < position + 12:
            return False
        length, name = struct.unpack_from(">I4s", encoded, position)
        end = position + 8 + length
        if encoded[end : end + 4] != zlib.crc32(memoryview(encoded)[position + 4 : end]).to_bytes(4, "big"):
            return False
        position = end + 4
    return True


_ORIENTATION_TAG = 0x0112  # EXIF
_HEAD_BYTES = 1 << 16  # the first bytes of a JPEG, which nearly always hold its size
# Without any of these, a PNG has no EXIF data; Pillow would decode the whole image to find that out.
_PNG_EXIF_MARKS = (b"eXIf", b"exif", b"tiff:Orientation")
_PROBE_THREADS = min(8, os.cpu_count() or 1)
_PROBES_AHEAD = 1024


@dataclasses.dataclass(frozen=True)
class ImageProbe:
    """Properties of an image file that are known without decoding its pixels.

    size: (height, width) of the stored pixels; None if there is no readable image
    exif_orientation: EXIF value 1..8; 1 is upright, and also stands for a missing or invalid value
    error: `<path>: <why there is no size>`; empty if there is a size
    """

    size: tuple[int, int] | None
    exif_orientation: int = 1
    error: str = ""


def probe_images(paths: Iterable[Path]) -> Iterator[ImageProbe]:
    """Yield probe_image(path) for each path, in order, by several threads."""
    with ThreadPoolExecutor(_PROBE_THREADS) as pool:
        yield from prefetch(pool, probe_image, paths, ahead=_PROBES_AHEAD)


def probe_image(path: Path) -> ImageProbe:
    """Read the size and the EXIF orientation of an image file. Of a JPEG, only the header is read."""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
            size = read_header_size(head)
            if size is None or head.startswith(_PNG_SIGNATURE):
                head += file.read()
                size = size or read_size(head)
            if head.startswith(_PNG_SIGNATURE) and not any(mark in head for mark in _PNG_EXIF_MARKS):
                return ImageProbe(size)
            return ImageProbe(size, exif_orientation=_read_exif_orientation(file))
    except OSError as error:
        return ImageProbe(None, error=f"{path}: {os_reason(error)}")
    except ValueError as error:
        return ImageProbe(None, error=f"{path}: {error}")


def _read_exif_orientation(file: BinaryIO) -> int:
    """Return the EXIF orientation, 1..8, of an open image file; 1 if it has none or an invalid one."""
    file.seek(0)
    try:
        with Image.open(file) as image:
            orientation = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # the errors that Pillow raises on damaged files have no common base class
        return 1
    return int(orientation) if orientation in range(2, 9) else 1
