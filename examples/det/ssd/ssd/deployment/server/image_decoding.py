"""Decoding of the images of clients."""

from __future__ import annotations

import numpy as np

from ...data.image_headers import read_stored_size
from ...data.images import decode_image_file
from .request_error import RequestError


def decode_client_image(encoded: bytes, max_pixels: int) -> np.ndarray:
    """Decode an image as training and evaluation do, unless it has too many pixels.

    encoded: bytes of an image file
    max_pixels: largest number of pixels; the size is read from the header, before any pixels are decoded
    Returns (H, W, 3) uint8 RGB. Raises RequestError with status 413 for a large image, and 422 for no valid image.
    """
    if not encoded:
        raise RequestError(422, "image: the file is empty. Send the bytes of an image file.")
    try:
        size = read_stored_size(encoded)
    except ValueError as error:
        raise RequestError(413, f"image: {error}. Send a smaller image.") from None
    if size and size[0] * size[1] > max_pixels:
        raise RequestError(
            413,
            f"image: {size[1]}x{size[0]} pixels are more than {max_pixels:,}. "
            "Send a smaller image, or start the server with a larger --max_pixels.",
        )
    try:
        return decode_image_file(encoded)
    except ValueError as error:
        raise RequestError(422, f"image: {error}. Send a valid JPEG or PNG image.") from None
