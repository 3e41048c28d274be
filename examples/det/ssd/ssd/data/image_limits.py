"""Limits on image files that others may have made: a file of 1 MB can state that it has gigabytes of pixels."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

# The only limit on the pixels of an image: in conversion, training, evaluation, prediction and the service. Photographs
# of phones have up to 200 million. Decoding takes 3 bytes for each pixel of a JPEG, and up to 18 of a transparent PNG.
MAX_PIXELS = 2**28
MAX_FILE_BYTES = 8 * MAX_PIXELS  # uncompressed pixels of four channels of 16 bits
_SMALL_PIXELS = 2**22  # images up to this size are decoded at any time


def check_size(size: tuple[int, int]) -> None:
    """Raise ValueError if an image has more than MAX_PIXELS pixels. size: (height, width)"""
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"the image has {size[1]}x{size[0]} pixels, but at most {MAX_PIXELS} pixels can be decoded")


def read_image_bytes(path: Path, num_bytes: int = -1) -> bytes:
    """Read an image file, or its first num_bytes bytes.

    Raises OSError if the file cannot be read, or ValueError if it is too large, or is a device or a pipe: reading from
    those may never end.
    """
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise ValueError("the path is a pipe or a device, not a file")
    with open(path, "rb") as file:
        if num_bytes < 0 and os.fstat(file.fileno()).st_size > MAX_FILE_BYTES:
            raise ValueError(f"the file has more than {MAX_FILE_BYTES:,} bytes")
        return file.read(num_bytes)


class _PixelBudget:
    """Let threads decode at the same time only as many images as have MAX_PIXELS pixels together."""

    def __init__(self) -> None:
        self._num_free = MAX_PIXELS
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def take(self, size: tuple[int, int] | None) -> Iterator[None]:
        """Wait until an image may be decoded, and count its pixels in this context.

        size: (height, width), at most MAX_PIXELS pixels; None if unknown, which counts nothing
        """
        num_pixels = size[0] * size[1] if size else 0
        if num_pixels <= _SMALL_PIXELS:
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: self._num_free >= num_pixels)
            self._num_free -= num_pixels
        try:
            yield
        finally:
            with self._changed:
                self._num_free += num_pixels
                self._changed.notify_all()


decoding = _PixelBudget().take
