"""Turn images and points upright by EXIF orientation.

The EXIF orientation (1..8) states where the first stored row and column of an image belong: 1 is upright, 3 is rotated
by 180 degrees, 6 must be rotated clockwise and 8 counterclockwise. 2, 4, 5 and 7 are also mirrored.
"""

from __future__ import annotations

import cv2
import numpy as np

# Every orientation is a transposition or none, followed by flips of the axes x and y.
TRANSPOSED = frozenset((5, 6, 7, 8))
_FLIPPED_X = frozenset((2, 3, 6, 7))
_FLIPPED_Y = frozenset((3, 4, 7, 8))
_CV2_FLIP = {(True, False): 1, (False, True): 0, (True, True): -1}  # {(flips x, flips y): code of cv2.flip}


def turn_image(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an image upright.

    image: (H, W, …) uint8 as stored
    orientation: EXIF orientation, 1..8

    Returns the upright image, contiguous. Its height and width are swapped for the orientations 5 to 8.
    """
    if orientation in TRANSPOSED:
        image = cv2.transpose(image)
    flips = (orientation in _FLIPPED_X, orientation in _FLIPPED_Y)
    return cv2.flip(image, _CV2_FLIP[flips]) if any(flips) else image


def turn_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return (height, width) of the upright image for that of the stored image. The function is its own inverse."""
    return (size[1], size[0]) if orientation in TRANSPOSED else size


def turn_points(points_xy: np.ndarray, orientation: int, stored_size: tuple[int, int]) -> np.ndarray:
    """Turn points upright together with their image.

    points_xy: (…, 2) x and y in pixels of the stored image; the image extends from 0 to its width and height
    orientation: EXIF orientation, 1..8
    stored_size: (height, width) of the stored image in pixels

    Returns (…, 2) float64, x and y in pixels of the upright image.
    """
    points = np.array(points_xy, dtype=np.float64)
    if orientation in TRANSPOSED:
        points = points[..., ::-1].copy()
    height, width = turn_size(stored_size, orientation)
    if orientation in _FLIPPED_X:
        points[..., 0] = width - points[..., 0]
    if orientation in _FLIPPED_Y:
        points[..., 1] = height - points[..., 1]
    return points
