"""Encoded images to pixels."""

from __future__ import annotations

import cv2
import numpy as np

# Annotations speak of the pixels as stored: pycocotools and the published pipeline ignore the EXIF orientation too.
_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def decode_image(encoded: bytes | np.ndarray) -> np.ndarray:
    """JPEG, PNG, … as bytes or an array of them -> (H, W, 3) uint8 RGB. Raises ValueError on what is no image."""
    encoded = np.frombuffer(encoded, np.uint8)
    image = cv2.imdecode(encoded, _FLAGS) if encoded.size else None
    if image is None:
        raise ValueError("bytes that do not decode")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def is_truncated_jpeg(encoded: bytes) -> bool:
    """Whether a JPEG has no end marker behind its pixels. Decoders fill what some such files lack with grey."""
    start_of_scan, end_of_image = encoded.rfind(b"\xff\xda"), encoded.rfind(b"\xff\xd9")
    return encoded.startswith(b"\xff\xd8") and end_of_image < start_of_scan
