"""Training images that cannot be decoded: their replacements in a batch, and how many there are in each epoch."""

from __future__ import annotations

import threading
from collections.abc import Collection

from .record_check import UndecodableImageError


def replacements(num_rows: int, broken: Collection[int]) -> list[int]:
    """Return for each row of a batch the row whose image it shows: itself, or if it is broken the next intact row.

    num_rows: number of images in the batch
    broken: rows whose images cannot be decoded; at least one row is intact. After the last row comes the first one.
    The result depends only on the batch, so that a resumed run trains on the same images.
    """
    return [
        next(row for row in ((first + offset) % num_rows for offset in range(num_rows)) if row not in broken)
        for first in range(num_rows)
    ]


class BrokenImages:
    """The training images that could not be decoded, by epoch. Data threads add images, and the main thread reads."""

    def __init__(self) -> None:
        self._errors: dict[int, dict[int, str]] = {}  # {epoch: {image id: message}}
        self._lock = threading.Lock()

    def add(self, epoch: int, error: UndecodableImageError) -> None:
        """Add an image. epoch: epoch of its batch, counted from 0"""
        with self._lock:
            self._errors.setdefault(epoch, {})[error.image_id] = str(error)

    def take(self, epoch: int) -> dict[int, str]:
        """Return {image id: message} of the images of an epoch, counted from 0, and forget them."""
        with self._lock:
            return dict(sorted(self._errors.pop(epoch, {}).items()))
