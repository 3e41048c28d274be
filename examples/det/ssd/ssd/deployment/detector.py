"""Python interface of an exported model, for scripts, predict.py and the service. MindSpore is not imported."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np

from ..boxes.multiclass_nms import Detections, MulticlassNMS
from ..errors import UserError
from ..inference.batch_detector import detect_images
from ..inference.preprocessing import ImageInput, PreprocessedImage, preprocess_image
from .model_metadata import METADATA_NAME, InputInfo, ModelMetadata, read_metadata
from .sessions import create_session

MAX_BATCH = 8  # images in a batch of a model that accepts any batch size; larger batches are not faster on CPUs


class Detector:
    """Detect objects in images with an exported model, as `Predictor` does with a checkpoint.

        detector = Detector("output/ssd_mobilenetv2_onnx")
        detections = detector("photo.jpg")

    folder: folder that export.py wrote
    provider: device of an ONNX model: "cpu", "cuda" or "cann". If it is missing, a warning is logged, and the CPU is
        used.
    min_score: score below which detections are dropped, at least that of the model; None for that of the model
    num_threads: number of threads of an ONNX model on a CPU; 0 for all cores

    The attributes `name`, `classes`, `category_ids`, `image_size` (height, width), `batch_size` (None if any size
    works), `min_score` and `metadata` describe the model.
    Raises UserError if the folder is not a complete exported model, or if the model cannot be loaded.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        provider: str = "cpu",
        min_score: float | None = None,
        num_threads: int = 0,
    ):
        self.folder = Path(folder)
        self.metadata: ModelMetadata = read_metadata(self.folder)
        self.name = self.metadata.name
        self.classes = self.metadata.classes
        self.category_ids = list(self.metadata.category_ids)
        self.image_size = (self.metadata.input.height, self.metadata.input.width)
        self.batch_size = self.metadata.input.batch_size
        thresholds = self.metadata.thresholds
        self.min_score = max(min_score or 0.0, thresholds.min_score)
        # A model with NMS fills unused entries with the score 0. A second NMS keeps all of its detections.
        smallest = float(np.finfo(np.float32).tiny) if self.metadata.outputs == "detections" else 0.0
        self.nms = MulticlassNMS(
            min_score=max(self.min_score, smallest),
            nms_threshold=thresholds.nms_threshold,
            max_detections=thresholds.max_detections,
            nms=thresholds.nms,
            soft_nms_sigma=thresholds.soft_nms_sigma,
        )
        self._session = create_session(self.folder, self.metadata, provider=provider, num_threads=num_threads)

    @overload
    def __call__(self, images: ImageInput) -> Detections: ...  # type: ignore[overload-overlap]  # str is a Sequence

    @overload
    def __call__(self, images: Sequence[ImageInput]) -> list[Detections]: ...

    def __call__(self, images: ImageInput | Sequence[ImageInput]) -> Detections | list[Detections]:
        """Detect objects in one image, or in each image of a list.

        images: one image or a list of images; each image is an (H, W, 3) uint8 RGB array or the path of an image file
        Returns the detections of the image, or a list with the detections of each image. Scores are at least min_score.
        Boxes are in pixels of the image, after EXIF orientation is applied to image files.
        Raises UserError if an image file cannot be read, or if an array is not (H, W, 3) uint8.
        """
        if isinstance(images, (np.ndarray, str, os.PathLike)):
            return self([images])[0]
        return detect_images(self, list(images), self.batch_size or MAX_BATCH)

    def preprocess(self, image: np.ndarray) -> PreprocessedImage:
        """Resize an image to the input size of the model. Several threads may call this method at the same time.

        image: (H, W, 3) uint8 RGB of any size
        """
        return preprocess_image(image, self.image_size)

    def detect_batch(self, batch: Sequence[PreprocessedImage], batch_size: int) -> list[Detections]:
        """Detect objects in a batch of preprocessed images.

        batch: 1..batch_size images
        batch_size: not used; a model with a fixed batch size runs several times, or on padded batches
        Returns the detections of each image, with boxes in pixels of the original image.
        """
        boxes_yxyx, scores, labels = self.run(np.stack([image.pixels for image in batch]))
        sizes = np.array([image.original_size for image in batch])
        return self.nms(boxes_yxyx, scores, labels=labels, sizes=sizes)

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Run the model on a batch of any size.

        images: (B, H, W, 3) uint8 RGB of the size image_size
        Returns (boxes_yxyx, scores, labels): boxes (B, T, 4) as fractions of the image size, 0..1; scores (B, T), 0..1
        in descending order; labels (B, T) int32, 1..K-1. They are candidates before NMS, or the final detections
        followed by entries with the score 0, as `metadata.outputs` says.
        Raises UserError if an output is not finite.
        """
        size = self.batch_size or len(images)
        chunks = [self._run_chunk(images[start : start + size]) for start in range(0, len(images), size)]
        boxes, scores, labels = (np.concatenate(outputs) for outputs in zip(*chunks))
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):  # NMS would drop such detections silently
            raise UserError(
                f"{self.folder / self.metadata.file}: the outputs contain NaN or infinity. Export another checkpoint."
            )
        if labels.size and labels.max() >= len(self.classes):
            raise UserError(
                f"{self.folder / METADATA_NAME}: classes: the model found label {labels.max()}, but there are only "
                f"{len(self.classes)} classes. Use a folder that export.py wrote, without changes."
            )
        return boxes, scores, labels

    def _run_chunk(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run the model on at most batch_size images, padded to batch_size if it is fixed."""
        count = len(images)
        if self.batch_size and count < self.batch_size:
            images = np.concatenate([images, np.zeros((self.batch_size - count, *images.shape[1:]), images.dtype)])
        outputs = self._session.run(to_model_input(images, self.metadata.input))
        return tuple(output[:count] for output in outputs)


def to_model_input(images: np.ndarray, info: InputInfo) -> np.ndarray:
    """Convert pixels to the input of a model.

    images: (B, H, W, 3) uint8 RGB
    Returns the images unchanged for the layout NHWC, or (B, 3, H, W) float32, normalized, for the layout NCHW.
    """
    if info.layout == "NHWC":
        return images
    mean = np.array(info.mean, np.float32)[:, None, None]
    inverse_std = 1 / np.array(info.std, np.float32)[:, None, None]
    return (np.moveaxis(images, 3, 1).astype(np.float32) - mean) * inverse_std
