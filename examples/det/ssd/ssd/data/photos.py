"""Photographs as people have them: turned, grey, transparent, deep or in printing colours, all to upright 8-bit RGB."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .images import check_image

# What is taken for an image in a folder; a file given by its name is tried whatever it is called.
IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .bmp .dib .tif .tiff .gif .avif .jp2 .ppm .pgm .pbm .pnm".split()
)
JPEG_SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".jfif"))
_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
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
