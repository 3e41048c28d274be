"""Read sizes and EXIF orientations from the headers of image files, and check that JPEGs and PNGs are complete."""

from __future__ import annotations

import contextlib
import functools
import io
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import TypeVar

from PIL import Image

from .image_formats import PILLOW_FORMATS
from .image_limits import MAX_PIXELS, check_size, decoding

T = TypeVar("T")

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # of large images below MAX_PIXELS
_limit_lock = threading.Lock()  # held while Pillow's limit is replaced, which applies to the whole process

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_START = b"\xff\xd8"
_APNG_CHUNKS = frozenset((b"acTL", b"fcTL", b"fdAT"))
_JPEG_END = b"\xff\xd9"
_START_OF_SCAN = 0xDA
# JPEG markers after which the image size is stored. OpenCV cannot decode the other codings, for example lossless.
_START_OF_FRAME = frozenset((0xC0, 0xC1, 0xC2, 0xC9, 0xCA))
_APP1, _EXIF_NAME = 0xE1, b"Exif\0\0"  # JPEG marker and name of the segment of EXIF data

ORIENTATION_TAG = 0x0112  # EXIF tag number of the orientation
_INTEGER_TYPES = {3: "H", 4: "I"}  # EXIF number of a type: its code in struct
# A PNG without any of these marks has no EXIF data. Pillow would decode the whole image to search for EXIF data.
PNG_EXIF_MARKS = (b"eXIf", b"exif")


def read_header_size(encoded: bytes) -> tuple[int, int] | None:
    """Parse (height, width) in pixels from the header of a JPEG or PNG, as stored, before EXIF orientation.

    encoded: bytes of the whole image file, or only the first bytes
    Returns None for other formats and incomplete headers.
    """
    size = (0, 0)
    with contextlib.suppress(struct.error, IndexError, ValueError):  # the header is incomplete
        if encoded.startswith(PNG_SIGNATURE):  # 8 bytes; length and name of a chunk; image size
            width, height = struct.unpack_from(">II", encoded, 16)
            size = (height, width)
        elif encoded.startswith(JPEG_START):
            size, _, _ = _read_jpeg_header(encoded)
    return size if min(size) > 0 else None


def read_stored_size(encoded: bytes) -> tuple[int, int] | None:
    """Read (height, width) in pixels from the header of an image of any format, as stored, before EXIF orientation.

    Returns None if the header is damaged. Raises ValueError if the image has too many pixels.
    """
    size = read_header_size(encoded)
    if size is None and not encoded.startswith((JPEG_START, PNG_SIGNATURE)):
        try:
            width, height = read_with_pillow(encoded, lambda image: image.size)
        except Image.DecompressionBombError as error:
            raise ValueError(f"the image has too many pixels ({error})") from None
        except Exception:  # Pillow raises errors of many classes on damaged files; decoding raises them again
            return None
        size = (height, width)
    if size:
        check_size(size)
    return size


def exif_orientation(encoded: bytes) -> int:
    """Return the EXIF orientation of an image file, 1..8. Returns 1 (upright) if it is missing or invalid.

    encoded: bytes of the whole image file; of a JPEG, the bytes up to the pixels suffice
    """
    if encoded.startswith(JPEG_START):
        try:
            _, _, exif = _read_jpeg_header(encoded)
            return _parse_orientation(exif) if exif else 1
        except (struct.error, LookupError, ValueError):  # the header or the EXIF data are damaged
            return 1
    if encoded.startswith(PNG_SIGNATURE) and not any(mark in encoded for mark in PNG_EXIF_MARKS):
        return 1
    try:
        with decoding(read_stored_size(encoded)):
            return read_with_pillow(encoded, pillow_orientation)
    except Exception:  # Pillow raises errors of many classes on damaged files
        return 1


def pillow_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image that Pillow has opened, 1..8; 1 if it is missing or invalid.

    An orientation in XMP data is ignored, as in JPEGs: browsers, in which most labelling tools run, ignore it too.
    """
    try:
        if image.format == "PNG":
            image.load()  # data may follow the pixels
        for key in ("xmp", "XML:com.adobe.xmp"):
            image.info.pop(key, None)
        orientation = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # Pillow raises errors of many classes on damaged EXIF data
        return 1
    return int(orientation) if orientation in range(2, 9) else 1


def read_with_pillow(encoded: bytes, read: Callable[[Image.Image], T]) -> T:
    """Open an image with Pillow, and return the result of `read`.

    Pillow refuses images with more than 179 million pixels. The limit is raised to MAX_PIXELS for such an image only,
    one image at a time.

    Raises errors of many classes if the file is damaged or its format is not supported.
    """
    formats = _pillow_formats()
    try:
        with Image.open(io.BytesIO(encoded), formats=formats) as image:
            return read(image)
    except Image.DecompressionBombError:
        with _limit_lock:
            limit = Image.MAX_IMAGE_PIXELS
            Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow refuses twice this number
            try:
                with Image.open(io.BytesIO(encoded), formats=formats) as image:
                    return read(image)
            finally:
                Image.MAX_IMAGE_PIXELS = limit


@functools.cache
def _pillow_formats() -> tuple[str, ...]:
    """Return the names of the formats that Pillow may read. It would start Ghostscript, a program, for EPS files."""
    Image.init()
    return tuple(name for name in PILLOW_FORMATS if name in Image.OPEN)


def _parse_orientation(exif: bytes) -> int:
    """Parse the orientation, 1..8, from EXIF data; 1 if the value is missing or invalid.

    This takes 2 microseconds. Pillow takes 10, and prints warnings about damaged data for each image of each epoch.

    exif: EXIF data, which have the structure of a TIFF file
    Raises struct.error or KeyError if the data are damaged.
    """
    order = {b"II": "<", b"MM": ">"}[exif[:2]]
    (directory,) = struct.unpack_from(f"{order}I", exif, 4)
    (count,) = struct.unpack_from(f"{order}H", exif, directory)
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):  # tag, type, number of values, value
        tag, value_type = struct.unpack_from(f"{order}HH", exif, entry)
        if tag == ORIENTATION_TAG:
            (value,) = struct.unpack_from(order + _INTEGER_TYPES[value_type], exif, entry + 8)
            return value if value in range(2, 9) else 1
    return 1


def is_truncated_jpeg(encoded: bytes) -> bool:
    """Return True if a JPEG lacks the end marker after its pixels. Returns False for other formats.

    Decoders accept some truncated JPEGs and fill the missing pixels with gray.
    """
    if not encoded.startswith(JPEG_START):
        return False
    try:
        _, start_of_scan, _ = _read_jpeg_header(encoded)
    except (struct.error, IndexError, ValueError):
        return True
    return encoded.rfind(_JPEG_END) < start_of_scan


def _read_jpeg_header(encoded: bytes) -> tuple[tuple[int, int], int, bytes]:
    """Parse the segments that precede the pixels of a JPEG.

    Each segment is skipped as a whole, including any thumbnail inside the segment.
    Returns (height, width), or (0, 0) if no segment states the size, the byte offset of the start-of-scan marker, and
    the EXIF data without their name, empty if the file has none.
    Raises struct.error, IndexError or ValueError if the file ends before its pixels.
    """
    size, exif, position = (0, 0), b"", len(JPEG_START)
    while True:
        position = encoded.index(b"\xff", position)  # skip stray bytes between segments, as decoders do
        marker = encoded[position + 1]
        if marker in (0x00, 0xFF):  # a stuffed byte or a fill byte instead of a marker
            position += 1
            continue
        if marker == _START_OF_SCAN:
            return size, position, exif
        (length,) = struct.unpack_from(">H", encoded, position + 2)
        if marker in _START_OF_FRAME:  # length, bits per sample (1 byte), height, width
            height, width = struct.unpack_from(">HH", encoded, position + 5)
            size = (height, width)
        elif marker == _APP1 and not exif and encoded.startswith(_EXIF_NAME, position + 4):
            exif = encoded[position + 4 + len(_EXIF_NAME) : position + 2 + length]
        position += 2 + length


def is_safe_for_opencv(encoded: bytes) -> bool:
    """Return False for PNGs that OpenCV 4.11 must not read, although checksums are not compared.

    OpenCV reads chunks until the first IDAT, also behind the end of the file, and allocates the bytes that they state,
    up to 2 GiB for a file of 100 bytes. Frames of animations (APNG) that are larger than the image overwrite memory.
    """
    try:
        names = {name for name, _, _ in _png_chunks(encoded)}
    except ValueError:
        return False
    return b"IDAT" in names and names.isdisjoint(_APNG_CHUNKS)


def is_intact_png(encoded: bytes) -> bool:
    """Return True if all chunks of a PNG up to IEND are complete and have correct checksums."""
    view = memoryview(encoded)
    try:
        return all(
            zlib.crc32(view[start:end]).to_bytes(4, "big") == view[end : end + 4]
            for _, start, end in _png_chunks(encoded)
        )
    except ValueError:
        return False


def _png_chunks(encoded: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name of each chunk of a PNG up to IEND, and the byte range of its name and data.

    The checksum follows in the next 4 bytes. Raises ValueError if a chunk is incomplete.
    """
    position, name = len(PNG_SIGNATURE), b""
    while name != b"IEND":
        if position + 12 > len(encoded):
            raise ValueError("the PNG has no IEND chunk")
        length, name = struct.unpack_from(">I4s", encoded, position)
        end = position + 8 + length
        if end + 4 > len(encoded):
            raise ValueError(f"the PNG ends within a chunk {name!r}")
        yield name, position + 4, end
        position = end + 4
