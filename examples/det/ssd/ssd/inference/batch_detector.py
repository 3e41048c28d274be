"""Interface of detectors, whether they run a checkpoint with MindSpore or an exported model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ..boxes.multiclass_nms import Detections, MulticlassNMS
from .preprocessing import ImageInput, PreprocessedImage, load_pixels


class BatchDetector(Protocol):
    """Detector of objects in batches of images."""

    @property
    def nms(self) -> MulticlassNMS:
        """Selection of detections. Its attributes may be changed: score threshold, kept classes, NMS across classes."""

    @property
    def classes(self) -> Sequence[str]:
        """Class names by label, background first."""

    @property
    def category_ids(self) -> Sequence[int]:
        """COCO category ids by label, 0 for the background."""

    def preprocess(self, image: np.ndarray) -> PreprocessedImage:
        """Resize an image to the input size. Several threads may call this method at the same time.

        image: (H, W, 3) uint8 RGB of any size
        """

    def detect_batch(self, batch: Sequence[PreprocessedImage], batch_size: int) -> list[Detections]:
        """Detect objects in a batch of preprocessed images.

        batch: 1..batch_size images
        batch_size: largest number of images in a batch
        Returns the detections of each image, with boxes in pixels of the original image.
        """


def detect_images(detector: BatchDetector, images: Sequence[ImageInput], batch_size: int) -> list[Detections]:
    """Detect objects in each image of a list, in batches of at most batch_size images.

    images: each image is an (H, W, 3) uint8 RGB array or the path of an image file
    Raises UserError if an image file cannot be read, or if an array is not (H, W, 3) uint8.
    """
    detections: list[Detections] = []
    for start in range(0, len(images), batch_size):
        batch = [detector.preprocess(load_pixels(image)) for image in images[start : start + batch_size]]
        detections += detector.detect_batch(batch, batch_size)
    return detections
