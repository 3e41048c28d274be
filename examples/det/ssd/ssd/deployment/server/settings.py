"""Limits of the service."""

from __future__ import annotations

import dataclasses

from ...data.image_limits import MAX_PIXELS

MAX_BUFFERED_BYTES = 2**28  # request bodies in memory at the same time, of all clients together


@dataclasses.dataclass(frozen=True)
class ServerSettings:
    """Limits of the service.

    batch_size: largest number of images in a batch; a model with a fixed batch size uses that size
    queue_size: largest number of images that are decoded, wait or are in the model; more get status 429
    max_bytes: largest size of a request body in bytes
    max_pixels: largest number of pixels of an image
    timeout: seconds from the start of a request to its result
    """

    batch_size: int = 8
    queue_size: int = 64
    max_bytes: int = 2**25
    max_pixels: int = MAX_PIXELS
    timeout: float = 30.0

    @property
    def max_buffered_bytes(self) -> int:
        """Number of bytes of request bodies that may be in memory at the same time."""
        return max(MAX_BUFFERED_BYTES, self.max_bytes)
