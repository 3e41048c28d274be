"""Decode images, check that image files are complete, and read image sizes from file headers.

Training and evaluation use `decode_image`, prediction uses `read_image_file`. Both decode upright JPEGs identically.
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
from .image_formats import unidentified_reason

try:  # optional: simplejpeg decodes JPEGs to the same pixels as OpenCV in 3/4 of the time
    import simplejpeg
except ImportError:
    simplejpeg = None

# File signatures, and markers inside JPEG files.
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_START = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
_START_OF_SCAN = 0xDA
# JPEG markers after which the image size is stored. OpenCV cannot decode the other codings, for example lossless.
_START_OF_FRAME = frozenset((0xC0, 0xC1, 0xC2, 0xC9, 0xCA))

# Annotations refer to pixels before EXIF rotation; pycocotools and MindCV's example also ignore the EXIF orientation.
_OPENCV_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
# libjpeg can reduce an image during decoding, which is faster: at half the size, decoding takes 0.4 of the time.
_OPENCV_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
SCALE_DENOMINATORS = (1, *_OPENCV_REDUCED)


def decode_image(encoded: bytes, scale_denominator: int = 1) -> np.ndarray:
    """Decode an image at full or reduced size. The EXIF orientation is ignored.

    encoded: bytes of an image file in any format that OpenCV reads
    scale_denominator: reduction factor s, one of SCALE_DENOMINATORS

    Returns (ceil(H / s), ceil(W / s), 3) uint8 RGB. A pixel is approximately the mean of s x s pixels of the full
    image. At the bottom and right border, the last pixels are repeated to fill the s x s block.
    Raises ValueError if the image cannot be decoded.
    """
    if simplejpeg is not None and encoded.startswith(_JPEG_START):
        with contextlib.suppress(ValueError):  # OpenCV supports more color spaces and tolerates slight damage
            return _decode_with_simplejpeg(encoded, scale_denominator)
    return decode_with_opencv(encoded, scale_denominator)


def decode_with_opencv(encoded: bytes, scale_denominator: int = 1) -> np.ndarray:
    """Decode an image with OpenCV, reduced by the factor scale_denominator. The EXIF orientation is ignored.

    Returns (height, width, 3) uint8 RGB. Raises ValueError if the image cannot be decoded.
    """
    is_jpeg = encoded.startswith(_JPEG_START)
    flags = _OPENCV_FLAGS | _OPENCV_REDUCED.get(scale_denominator, 0) if is_jpeg else _OPENCV_FLAGS
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags) if encoded else None
    if image is None and (is_jpeg or not encoded):
        raise ValueError("the image cannot be decoded")
    if image is None:
        image = _read_with_pillow(encoded)  # for example AVIF and HEIC
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
    """Decode a JPEG to the same pixels as OpenCV. Raises ValueError if simplejpeg cannot decode the file."""
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
    """Read an image file, and return the image as image viewers display it.

    - The EXIF orientation is applied. Training and evaluation ignore it, as annotations do.
    - Gray images get three equal channels. CMYK is converted without color profiles. 16-bit values keep the high byte.
    - Transparent images are drawn on white, because the colors stored under transparent pixels are arbitrary.
    - If the file has several frames or pages, only the first frame or page is read.

    Returns (H, W, 3) uint8 RGB. Raises OSError if the file cannot be read, or ValueError if the image is incomplete.
    """
    encoded = Path(path).read_bytes()
    if encoded.startswith((_JPEG_START, _PNG_SIGNATURE)):
        check_image(encoded)
    if not encoded.startswith(_JPEG_START):
        return _read_with_pillow(encoded)
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)  # as in evaluation
    if image is None:
        raise ValueError("the JPEG file cannot be decoded")
    return image


def _read_with_pillow(encoded: bytes) -> np.ndarray:
    """Decode an image to (H, W, 3) uint8 RGB. Raises ValueError if Pillow cannot decode the image."""
    try:
        return _decode_with_pillow(encoded)
    except UnidentifiedImageError:
        raise ValueError(unidentified_reason(encoded)) from None
    except Exception as error:  # decoders raise errors of many classes on damaged files
        raise ValueError(" ".join(f"the image cannot be decoded ({error})".split())) from None


def _decode_with_pillow(encoded: bytes) -> np.ndarray:
    """Decode an image to (H, W, 3) uint8 RGB with Pillow, upright and with a white background."""
    with Image.open(io.BytesIO(encoded)) as stored:
        is_16_bit_pgm = stored.format == "PPM" and stored.mode == "I"  # Pillow stores 16-bit PGM in mode I (32 bits)
        image = ImageOps.exif_transpose(stored)
    if is_16_bit_pgm or image.mode in ("I;16", "I;16L", "I;16B", "I;16N"):
        # Pillow's conversion to 8 bits would clip values at 255, so that almost all pixels would become white.
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ValueError("images with 32 bits per channel are not supported, because their white level is undefined")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def read_size(encoded: bytes) -> tuple[int, int]:
    """Return (height, width) of an image in pixels as stored, without EXIF rotation.

    JPEG and PNG headers are parsed, other formats are decoded. Raises ValueError if the image cannot be decoded.
    """
    size = read_header_size(encoded)
    if size is None:
        height, width, _ = decode_image(encoded).shape
        size = (height, width)
    return size


def read_header_size(encoded: bytes) -> tuple[int, int] | None:
    """Parse (height, width) in pixels from the header of a JPEG or PNG; None for other formats and incomplete headers.

    encoded: bytes of the whole image file, or only the first bytes
    """
    size = (0, 0)
    with contextlib.suppress(struct.error, IndexError, ValueError):  # the header is incomplete
        if encoded.startswith(_PNG_SIGNATURE):  # 8 bytes; length and name of a chunk; image size
            width, height = struct.unpack_from(">II", encoded, 16)
            size = (height, width)
        elif encoded.startswith(_JPEG_START):
            size, _ = _read_jpeg_header(encoded)
    return size if min(size) > 0 else None


def check_image(encoded: bytes) -> tuple[int, int]:
    """Check that an image is complete, and return (height, width) in pixels.

    A JPEG must have a header and an end marker, and a PNG must have correct checksums. Both checks are fast,
    because no pixels are decoded. Other formats are decoded. Raises ValueError if the image is incomplete or damaged.
    """
    size = read_size(encoded)
    if encoded.startswith(_JPEG_START):
        if is_truncated_jpeg(encoded):
            raise ValueError("the JPEG file is truncated")
    elif encoded.startswith(_PNG_SIGNATURE):
        if not _is_intact_png(encoded):
            raise ValueError("the PNG file is damaged or truncated")
    else:
        decode_image(encoded)
    return size


def is_truncated_jpeg(encoded: bytes) -> bool:
    """Return True if a JPEG lacks the end marker after its pixels. Returns False for other formats.

    Decoders accept some truncated JPEGs and fill the missing pixels with gray.
    """
    if not encoded.startswith(_JPEG_START):
        return False
    try:
        _, start_of_scan = _read_jpeg_header(encoded)
    except (struct.error, IndexError, ValueError):
        return True
    return encoded.rfind(_JPEG_END) < start_of_scan


def _read_jpeg_header(encoded: bytes) -> tuple[tuple[int, int], int]:
    """Parse the segments that precede the pixels of a JPEG.

    Each segment is skipped as a whole, including any thumbnail inside the segment.
    Returns (height, width), or (0, 0) if no segment states the size, and the byte offset of the start-of-scan marker.
    Raises struct.error, IndexError or ValueError if the file ends before its pixels.
    """
    size, position = (0, 0), len(_JPEG_START)
    while True:
        position = encoded.index(b"\xff", position)  # skip stray bytes between segments, as decoders do
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
    """Return True if all chunks of a PNG up to IEND are complete and have correct checksums."""
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


_ORIENTATION_TAG = 0x0112  # EXIF tag number of the orientation
_HEAD_BYTES = 1 << 16  # number of bytes that are read first; they nearly always contain the size of a JPEG
# A PNG without any of these marks has no EXIF data. Pillow would decode the whole image to search for EXIF data.
_PNG_EXIF_MARKS = (b"eXIf", b"exif", b"tiff:Orientation")
_PROBE_THREADS = min(8, os.cpu_count() or 1)
_PROBES_AHEAD = 1024  # maximum number of files that are read ahead of the consumer


@dataclasses.dataclass(frozen=True)
class ImageProbe:
    """Size and orientation of an image file.

    size: (height, width) in pixels as stored, without EXIF rotation; None if the file is not a readable image
    exif_orientation: EXIF value 1..8; 1 (upright) if the value is missing or invalid
    error: `<path>: <what is wrong>` if size is None, otherwise empty
    """

    size: tuple[int, int] | None
    exif_orientation: int = 1
    error: str = ""


def probe_images(paths: Iterable[Path]) -> Iterator[ImageProbe]:
    """Yield the size and EXIF orientation of each image file, in the order of the paths, using several threads."""
    with ThreadPoolExecutor(_PROBE_THREADS) as pool:
        yield from prefetch(pool, probe_image, paths, ahead=_PROBES_AHEAD)


def probe_image(path: Path) -> ImageProbe:
    """Read the size and the EXIF orientation of an image file. Usually only the header of a JPEG is read."""
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
        return ImageProbe(None, error=f"{path}: cannot be read ({os_reason(error)})")
    except ValueError as error:
        return ImageProbe(None, error=f"{path}: {error}")


def _read_exif_orientation(file: BinaryIO) -> int:
    """Return the EXIF orientation of an open image file, 1..8. Returns 1 if the value is missing or invalid."""
    file.seek(0)
    try:
        with Image.open(file) as image:
            orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # Pillow raises errors of many classes on damaged files
        return 1
    return int(orientation) if orientation in range(2, 9) else 1
