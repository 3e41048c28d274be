"""Decode images to find damage that headers and end markers do not show."""

from __future__ import annotations

import re

from .image_headers import read_stored_size
from .image_limits import decoding
from .images import decode_image, simplejpeg

# libjpeg's warnings about bytes that are missing or cannot be the pixels of the image. It fills such pixels with gray.
_DAMAGE = ("Corrupt JPEG data", "Premature end of JPEG", "Inconsistent progression")
# Bytes that are left over after the last pixel. A few are harmless: some cameras write them.
_LEFT_OVER = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
HARMLESS_SHARE = 0.01  # of the file


class DamagedPixelsError(ValueError):
    """Error for an image that decoders accept, but whose pixels are damaged."""


def check_pixels(encoded: bytes) -> None:
    """Decode an image, and check that no pixels are damaged.

    encoded: bytes of an image file
    Raises DamagedPixelsError if libjpeg reports damage, and another ValueError if the image cannot be decoded. Without
    simplejpeg, which is optional, only images that cannot be decoded are found.
    """
    if simplejpeg is None or not encoded.startswith(b"\xff\xd8"):
        decode_image(encoded)
        return
    try:
        with decoding(read_stored_size(encoded)):
            simplejpeg.decode_jpeg(encoded)
    except ValueError as error:
        reported = str(error)
    else:
        return
    if not reported.startswith(_DAMAGE):
        decode_image(encoded)  # OpenCV supports more color spaces
        return
    left_over = _LEFT_OVER.match(reported)
    if not left_over or int(left_over[1]) > HARMLESS_SHARE * len(encoded):
        raise DamagedPixelsError(f"the pixels are damaged (libjpeg: {reported})")
