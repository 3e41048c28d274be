"""Read images, and resize them to the input size of a detector."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

from ..data.images import read_image_file
from ..data.transforms import resize
from ..errors import UserError, os_reason

ImageInput = np.ndarray | str | os.PathLike[str]  # (H, W, 3) uint8 RGB, or the path of an image file


@dataclasses.dataclass(frozen=True)
class PreprocessedImage:
    """Network input of one image.

    pixels: (H, W, 3) uint8 RGB, resized to image_size
    original_size: (height, width) in pixels of the image before resizing
    """

    pixels: np.ndarray
    original_size: tuple[int, int]


def preprocess_image(image: np.ndarray, image_size: tuple[int, int]) -> PreprocessedImage:
    """Resize an image to the input size of a network, with the same pixels on every machine.

    image: (H, W, 3) uint8 RGB of any size
    image_size: (height, width) of the input of the network in pixels
    """
    height, width = image.shape[:2]
    pixels = np.empty((*image_size, 3), dtype=np.uint8)
    resize(np.ascontiguousarray(image), pixels, exact=True)
    return PreprocessedImage(pixels, original_size=(height, width))


def load_pixels(image: ImageInput) -> np.ndarray:
    """Read an image file, or check an array.

    Returns (H, W, 3) uint8 RGB.
    Raises UserError if the file cannot be read as an image, or if the array is not (H, W, 3) uint8.
    """
    if isinstance(image, (str, os.PathLike)):
        try:
            return read_image_file(Path(image))
        except OSError as error:
            raise UserError(f"{image}: the file cannot be read ({os_reason(error)}). Check the path.") from None
        except ValueError as error:
            raise UserError(f"{image}: {error}. Replace the file with a valid JPEG or PNG image.") from None
    if not isinstance(image, np.ndarray):
        raise UserError(
            f"images: {type(image).__name__} is not a supported image type. "
            "Pass an (H, W, 3) uint8 RGB array or the path of an image file."
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UserError(
            f"images: an array of type {image.dtype} and shape {image.shape} is not an image. "
            "Pass an (H, W, 3) uint8 array in RGB order, or a list of such arrays."
        )
    return image
