"""Predictor: detect objects in image files and arrays, from scripts, notebooks and predict.py."""

from __future__ import annotations

import dataclasses
import gc
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import mindspore.nn as nn
import numpy as np

from ..checkpoints.loading import choose_checkpoint, load_weights
from ..config.loading import load_config
from ..config.schema import Config, model_metadata
from ..data.images import read_image_file
from ..data.transforms import resize
from ..errors import UserError, os_reason
from ..models.detector import create_detector, to_mixed_precision
from ..models.postprocess import Detections
from ..runtime.device import set_up_runtime
from .network import create_inference_net, create_nms, run_batch

ImageInput = np.ndarray | str | os.PathLike[str]  # (H, W, 3) uint8 RGB, or the path of an image file


@dataclasses.dataclass(frozen=True)
class PreprocessedImage:
    """Input of the network for one image.

    pixels: (H, W, 3) uint8 RGB, resized to image_size
    original_size: (height, width) in pixels before resizing
    """

    pixels: np.ndarray
    original_size: tuple[int, int]


class Predictor:
    """Detect objects in images, exactly as evaluation does.

        predictor = Predictor("examples/det/ssd/ssd_mobilenetv2.yaml", "best.ckpt")
        detections = predictor("photo.jpg")

    config: path of a recipe, or a Config
    checkpoint: path; None for the recipe's ckpt_path, or without one the best or newest file in its ckpt_save_dir
    overrides: recipe keys, such as data_dir="data/own" or **{"augment.flip_prob": 0}; only with the path of a recipe

    `classes` holds the class names by label, background first.
    Creating a Predictor sets MindSpore's device, execution mode and seed for the whole process.
    Raises UserError if the recipe or the checkpoint cannot be used.
    """

    def __init__(
        self,
        config: Config | str | os.PathLike[str],
        checkpoint: str | os.PathLike[str] | None = None,
        **overrides: object,
    ):
        if isinstance(config, Config):
            if overrides:
                raise UserError(
                    f"Predictor: overrides ({', '.join(sorted(overrides))}) need the path of a recipe, not a Config. "
                    "Set these keys in the Config."
                )
            cfg = config
        else:
            cfg = load_config(Path(config), overrides)
        self.cfg = cfg
        self.checkpoint = Path(checkpoint) if checkpoint else choose_checkpoint(cfg.ckpt_path, cfg.ckpt_save_dir)
        self.runtime = set_up_runtime(
            device_target=cfg.device_target, mode=cfg.mode, jit_level=cfg.jit_level, seed=cfg.seed
        )
        detector = create_detector(cfg)
        load_weights(detector, self.checkpoint, use_ema=cfg.use_ema, metadata=model_metadata(cfg))
        net = create_inference_net(cfg, to_mixed_precision(detector, cfg.amp_level))
        net.set_train(False)
        self.nms = create_nms(cfg)
        self.classes = cfg.classes or ("background", *(f"class {label}" for label in range(1, cfg.num_classes)))
        # MindSpore 2.10 prints a complaint about every network that still exists when the interpreter exits.
        self._nets: list[nn.Cell] = [net]
        weakref.finalize(self, _release_networks, self._nets)

    @overload
    def __call__(self, images: ImageInput) -> Detections: ...  # type: ignore[overload-overlap]  # str is a Sequence

    @overload
    def __call__(self, images: Sequence[ImageInput]) -> list[Detections]: ...

    def __call__(self, images: ImageInput | Sequence[ImageInput]) -> Detections | list[Detections]:
        """Detect objects in one image, or in each image of a list.

        images: (H, W, 3) uint8 RGB array, or path of an image file, whose EXIF orientation is applied; or a list of
            these
        Returns Detections with scores of at least min_score and boxes in pixels of the (upright) image; a list of them
        for a list. Raises UserError if an image cannot be read or is not an (H, W, 3) uint8 array.

        A list runs in batches of batch_size, or of the next power of two if it is shorter. MindSpore compiles a graph
        for each batch size, which takes some seconds, so powers of two bound the number of graphs.
        """
        if isinstance(images, (np.ndarray, str, os.PathLike)):
            return self([images])[0]
        images = list(images)
        batch_size = min(self.cfg.batch_size, 1 << max(len(images) - 1, 0).bit_length())
        detections: list[Detections] = []
        for start in range(0, len(images), batch_size):
            batch = [self.preprocess(_load_pixels(image)) for image in images[start : start + batch_size]]
            detections += self.detect_batch(batch, batch_size)
        return detections

    def preprocess(self, image: np.ndarray) -> PreprocessedImage:
        """Resize an image as evaluation does. image: (H, W, 3) uint8 RGB. Several threads may call this at once."""
        height, width = image.shape[:2]
        pixels = np.empty((*self.cfg.image_size, 3), dtype=np.uint8)
        resize(np.ascontiguousarray(image), pixels, exact=True)
        return PreprocessedImage(pixels, original_size=(height, width))

    def detect_batch(self, batch: Sequence[PreprocessedImage], batch_size: int) -> list[Detections]:
        """Detect objects in 1..batch_size preprocessed images. The first call with each batch_size compiles a graph."""
        pixels = np.stack([image.pixels for image in batch])
        sizes = np.array([image.original_size for image in batch])
        boxes_yxyx, scores, labels = run_batch(self._nets[0], pixels, batch_size)
        return self.nms(boxes_yxyx, scores, labels=labels, sizes=sizes)


def _release_networks(nets: list[nn.Cell]) -> None:
    nets.clear()
    gc.collect()


def _load_pixels(image: ImageInput) -> np.ndarray:
    """Return the pixels of an image file, or check an array. Raises UserError if either is not an image."""
    if isinstance(image, (str, os.PathLike)):
        try:
            return read_image_file(Path(image))
        except OSError as error:
            raise UserError(f"{image}: cannot be read ({os_reason(error)}). Check the path.") from None
        except ValueError as error:
            raise UserError(f"{image}: cannot be read as an image ({error}). Check the file.") from None
    if not isinstance(image, np.ndarray):
        raise UserError(
            f"Predictor: got {type(image).__name__}, "
            "expected an (H, W, 3) uint8 RGB array or the path of an image file."
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UserError(
            f"Predictor: got an array of {image.dtype} and shape {image.shape}, expected uint8 and (H, W, 3), "
            "channels in RGB order. Give several images as a list."
        )
    return image
