"""Decode images, check that image files are complete, and read image sizes from file headers.

Training, evaluation and prediction use `decode_image`, so they see the same pixels of the same file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import os_reason
from ..runtime.prefetch import prefetch
from .image_formats import unidentified_reason
from .image_headers import (
    JPEG_START,
    PNG_EXIF_MARKS,
    PNG_SIGNATURE,
    exif_orientation,
    is_intact_png,
    is_safe_for_opencv,
    is_truncated_jpeg,
    pillow_orientation,
    read_header_size,
    read_stored_size,
    read_with_pillow,
)
from .image_limits import check_size, decoding, read_image_bytes
from .orientation import turn_image, turn_size

try:  # optional: simplejpeg decodes JPEGs to the same pixels as OpenCV in 3/4 of the time
    import simplejpeg
except ImportError:
    simplejpeg = None

# OpenCV decodes PNG and WebP faster than Pillow. It ignores transparency (tRNS) and EXIF data, prints warnings about
# color profiles (iCCP), and reads animations (acTL) differently.
_PNG_MARKS_FOR_PILLOW = (b"tRNS", b"iCCP", b"acTL", *PNG_EXIF_MARKS)
_PNG_TYPES_FOR_OPENCV = ((8, 0), (8, 2), (8, 3))  # bits per channel, and color type: gray, RGB and palette
_PLAIN_WEBP = b"WEBPVP8 "  # lossy, without transparency and EXIF data; other WebP files have VP8L or VP8X here

_OPENCV_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
# libjpeg can reduce an image during decoding, which is faster: at half the size, decoding takes 0.4 of the time.
_OPENCV_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
SCALE_DENOMINATORS = (1, *_OPENCV_REDUCED)


def decode_image(encoded: bytes, scale_denominator: int = 1, upright: bool = True) -> np.ndarray:
    """Decode an image at full or reduced size, as image viewers display it.

    - The EXIF orientation is applied.
    - Gray images get three equal channels. CMYK is converted without color profiles. 16-bit values keep the high byte.
    - Transparent images are drawn on white, because the colors stored under transparent pixels are arbitrary.
    - If the file has several frames or pages, only the first frame or page is read.

    encoded: bytes of an image file
    scale_denominator: reduction factor s, one of SCALE_DENOMINATORS
    upright: False ignores EXIF orientation and transparency, for shards whose `DatasetInfo.upright` is False

    Returns (ceil(H / s), ceil(W / s), 3) uint8 RGB. A pixel is approximately the mean of s x s pixels of the full
    image. At the bottom and right border, the last pixels are repeated to fill the s x s block.
    Raises ValueError if the image cannot be decoded, or has more than MAX_PIXELS pixels.
    """
    size = read_stored_size(encoded)
    with decoding(size):
        return _decode(encoded, size, scale_denominator=scale_denominator, upright=upright)


def _decode(encoded: bytes, size: tuple[int, int] | None, *, scale_denominator: int, upright: bool) -> np.ndarray:
    """Decode an image as `decode_image` explains. size: (height, width) as stored; None if unknown"""
    if upright and not encoded.startswith(JPEG_START):
        return _reduce(_decode_other_format(encoded), scale_denominator)
    orientation = exif_orientation(encoded) if upright else 1
    if orientation == 1:
        return _decode_stored(encoded, scale_denominator)
    if size and any(side % scale_denominator for side in size):
        # libjpeg would fill blocks at the stored bottom and right, which may become the top and left.
        return _reduce(turn_image(_decode_stored(encoded), orientation), scale_denominator)
    return turn_image(_decode_stored(encoded, scale_denominator), orientation)


def _decode_stored(encoded: bytes, scale_denominator: int = 1) -> np.ndarray:
    """Decode an image without EXIF orientation, with simplejpeg if possible. Returns (height, width, 3) uint8 RGB."""
    if simplejpeg is not None and encoded.startswith(JPEG_START):
        with contextlib.suppress(ValueError):  # OpenCV supports more color spaces and tolerates slight damage
            return _decode_with_simplejpeg(encoded, scale_denominator)
    return decode_with_opencv(encoded, scale_denominator)


def decode_with_opencv(encoded: bytes, scale_denominator: int = 1) -> np.ndarray:
    """Decode an image with OpenCV, reduced by the factor scale_denominator. EXIF and transparency are ignored.

    Returns (height, width, 3) uint8 RGB. Raises ValueError if the image cannot be decoded.
    """
    if encoded.startswith(PNG_SIGNATURE) and not is_safe_for_opencv(encoded):
        raise ValueError("the PNG file is damaged, truncated or animated")
    is_jpeg = encoded.startswith(JPEG_START)
    flags = _OPENCV_FLAGS | _OPENCV_REDUCED.get(scale_denominator, 0) if is_jpeg else _OPENCV_FLAGS
    image = None
    with contextlib.suppress(cv2.error):
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags) if encoded else None
    if image is None:
        raise ValueError("the image cannot be decoded")
    return image if is_jpeg else _reduce(image, scale_denominator)


def _reduce(image: np.ndarray, scale_denominator: int) -> np.ndarray:
    """Reduce an image by an integer factor. Border pixels are repeated to fill the last blocks."""
    if scale_denominator == 1:
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
    """Read an image file, and decode it as training and evaluation do.

    Returns (H, W, 3) uint8 RGB. Raises OSError if the file cannot be read, or ValueError if the image is incomplete.
    """
    return decode_image_file(read_image_bytes(Path(path)))


def decode_image_file(encoded: bytes) -> np.ndarray:
    """Decode the bytes of an image file, which must be complete, as training and evaluation do.

    Returns (H, W, 3) uint8 RGB. Raises ValueError if the image is incomplete or cannot be decoded.
    """
    if encoded.startswith((JPEG_START, PNG_SIGNATURE)):
        check_image(encoded)
    return decode_image(encoded)


def _decode_other_format(encoded: bytes) -> np.ndarray:
    """Decode an image that is not a JPEG to (H, W, 3) uint8 RGB, upright and with a white background."""
    if _is_plain_png(encoded) or encoded[8:16] == _PLAIN_WEBP:
        with contextlib.suppress(ValueError):  # Pillow's error states a reason
            return decode_with_opencv(encoded)
    try:
        return read_with_pillow(encoded, _pillow_to_rgb)
    except UnidentifiedImageError:
        raise ValueError(unidentified_reason(encoded)) from None
    except Exception as error:  # decoders raise errors of many classes on damaged files
        raise ValueError(" ".join(f"the image cannot be decoded ({error})".split())) from None


def _is_plain_png(encoded: bytes) -> bool:
    """Return whether a file is a PNG that OpenCV and Pillow decode to the same pixels."""
    is_plain_type = encoded.startswith(PNG_SIGNATURE) and tuple(encoded[24:26]) in _PNG_TYPES_FOR_OPENCV
    return is_plain_type and not any(mark in encoded for mark in _PNG_MARKS_FOR_PILLOW)


def _pillow_to_rgb(stored: Image.Image) -> np.ndarray:
    """Convert an image that Pillow has opened to (H, W, 3) uint8 RGB, upright and with a white background."""
    is_16_bit_pgm = stored.format == "PPM" and stored.mode == "I"  # Pillow stores 16-bit PGM in mode I (32 bits)
    orientation = 1 if stored.format == "TIFF" else pillow_orientation(stored)  # Pillow itself turns TIFF files
    if is_16_bit_pgm or stored.mode in ("I;16", "I;16L", "I;16B", "I;16N"):
        # Pillow's conversion to 8 bits would clip values at 255, so that almost all pixels would become white.
        gray = (np.asarray(stored) >> 8).astype(np.uint8)
        return turn_image(np.repeat(gray[..., None], 3, axis=2), orientation)
    if stored.mode in ("I", "F"):
        raise ValueError("images with 32 bits per channel are not supported, because their white level is undefined")
    image = stored
    if stored.has_transparency_data:
        image = stored.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return turn_image(np.asarray(image.convert("RGB")), orientation)


def read_size(encoded: bytes, upright: bool = True) -> tuple[int, int]:
    """Return (height, width) of an image in pixels, as `decode_image` returns it.

    JPEG and PNG headers are parsed, other formats are decoded. Raises ValueError if the image cannot be decoded.
    """
    size = read_header_size(encoded)
    if size is None:
        height, width, _ = decode_image(encoded, upright=upright).shape
        return height, width
    check_size(size)
    return turn_size(size, exif_orientation(encoded)) if upright else size


def check_image(encoded: bytes) -> tuple[int, int]:
    """Check that an image is complete, and return (height, width) of the upright image in pixels.

    A JPEG must have a header and an end marker, and a PNG must have correct checksums. Both checks are fast,
    because no pixels are decoded. Other formats are decoded. Raises ValueError if the image is incomplete or damaged.
    """
    size = read_size(encoded)
    if is_truncated_jpeg(encoded):
        raise ValueError("the JPEG file is truncated")
    if encoded.startswith(PNG_SIGNATURE) and not is_intact_png(encoded):
        raise ValueError("the PNG file is damaged or truncated")
    return size


_HEAD_BYTES = 1 << 16  # number of bytes that are read first; they nearly always contain the size of a JPEG
_PROBE_THREADS = min(8, os.cpu_count() or 1)
_PROBES_AHEAD = 1024  # maximum number of files that are read ahead of the consumer


@dataclasses.dataclass(frozen=True)
class ImageProbe:
    """Size and orientation of an image file.

    size: (height, width) of the upright image in pixels; None if the file is not a readable image
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
        head = read_image_bytes(path, _HEAD_BYTES)
        if not head.startswith(JPEG_START) or read_header_size(head) is None:
            head = read_image_bytes(path)
        return ImageProbe(read_size(head), exif_orientation=exif_orientation(head))
    except OSError as error:
        return ImageProbe(None, error=f"{path}: cannot be read ({os_reason(error)})")
    except ValueError as error:
        return ImageProbe(None, error=f"{path}: {error}")
