"""Python interface of a trained detector, for scripts, notebooks and predict.py."""

from __future__ import annotations

import gc
import logging
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import mindspore.nn as nn
import numpy as np

from ..boxes.multiclass_nms import Detections
from ..checkpoints.choice import choose_checkpoint, describe_checkpoint
from ..checkpoints.loading import load_weights
from ..checkpoints.metadata import describe_mismatches, read_metadata
from ..config.loading import load_config
from ..config.metadata import model_metadata
from ..config.schema import Config
from ..errors import UserError
from ..models.detector import create_detector, to_mixed_precision, zero_weights
from ..runtime.device import create_runtime
from .batch_detector import detect_images
from .network import create_inference_net, create_nms, run_batch
from .preprocessing import ImageInput, PreprocessedImage, preprocess_image
from .stored_classes import find_category_ids, with_stored_classes

log = logging.getLogger(__name__)


class Predictor:
    """Detect objects in images, with the same preprocessing and NMS as evaluation.

        predictor = Predictor("examples/det/ssd/ssd_mobilenetv2.yaml", "best.ckpt")
        detections = predictor("photo.jpg")

    config: path of a recipe, or a Config
    checkpoint: path of a checkpoint, or of a folder, whose best or else newest checkpoint is used; None for ckpt_path
        of the recipe. If ckpt_path is not set either, the folder is ckpt_save_dir.
    overrides: values of recipe keys, such as data_dir="data/own" or **{"augment.flip_prob": 0}; allowed only with the
        path of a recipe

    The attributes `classes` and `category_ids` contain the names and COCO's ids of the classes by label, background
    first. Both are those of the checkpoint. A checkpoint without them, such as one of MindCV's example, takes them from
    the recipe and from dataset.json in data_dir.
    Creating a Predictor sets MindSpore's device, execution mode and seed for the whole process.
    Raises UserError if the recipe is invalid, or if the checkpoint is missing or does not fit the recipe.
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
                    f"Predictor: a Config cannot be combined with overrides ({', '.join(sorted(overrides))}). "
                    "Set the keys in the Config, or pass the path of a recipe."
                )
            cfg = config
        else:
            cfg = load_config(Path(config), overrides)
        given = os.fspath(checkpoint) if checkpoint else cfg.ckpt_path
        self.checkpoint = choose_checkpoint(given, cfg.ckpt_save_dir)
        stored = read_metadata(self.checkpoint)
        self.cfg = cfg = with_stored_classes(cfg, stored, path=self.checkpoint)
        self.category_ids = find_category_ids(cfg, stored)
        self.runtime = create_runtime(cfg)
        with zero_weights():
            detector = create_detector(cfg)
        metadata = model_metadata(cfg)
        load_weights(detector, self.checkpoint, use_ema=cfg.use_ema, metadata=metadata)
        log.info(f"checkpoint: {describe_checkpoint(self.checkpoint)}")
        warning = describe_mismatches({"input": metadata["input"]}, stored, self.checkpoint)
        if warning:
            log.warning(warning)
        net = create_inference_net(cfg, to_mixed_precision(detector, cfg.amp_level))
        net.set_train(False)
        self.nms = create_nms(cfg)
        self.classes = cfg.classes or ("background", *(f"class {label}" for label in range(1, cfg.num_classes)))
        # Release networks early. MindSpore 2.10 prints a message for each network that exists when Python exits.
        self._nets: list[nn.Cell] = [net]
        weakref.finalize(self, _release_networks, self._nets)

    @overload
    def __call__(self, images: ImageInput) -> Detections: ...  # type: ignore[overload-overlap]  # str is a Sequence

    @overload
    def __call__(self, images: Sequence[ImageInput]) -> list[Detections]: ...

    def __call__(self, images: ImageInput | Sequence[ImageInput]) -> Detections | list[Detections]:
        """Detect objects in one image, or in each image of a list.

        A list is split into batches of batch_size images. MindSpore compiles a graph for each batch size. On a CPU this
        takes a few seconds, and large batches are slow. A list with fewer images is then one batch, whose size is
        rounded up to a power of two, but not above batch_size. On Ascend a compilation may take minutes, so every batch
        is padded to batch_size.

        images: one image or a list of images; each image is an (H, W, 3) uint8 RGB array or the path of an image file
        Returns the detections of the image, or a list with the detections of each image. Scores are at least min_score.
        Boxes are in pixels of the image, after EXIF orientation is applied to image files.
        Raises UserError if an image file cannot be read, or if an array is not (H, W, 3) uint8.
        """
        if isinstance(images, (np.ndarray, str, os.PathLike)):
            return self([images])[0]
        images = list(images)
        batch_size = self.cfg.batch_size
        if self.cfg.device_target == "CPU":
            batch_size = min(batch_size, 1 << max(len(images) - 1, 0).bit_length())
        return detect_images(self, images, batch_size)

    def preprocess(self, image: np.ndarray) -> PreprocessedImage:
        """Resize an image to the input size of the network. Several threads may call this method at the same time.

        image: (H, W, 3) uint8 RGB of any size
        """
        return preprocess_image(image, self.cfg.image_size)

    def detect_batch(self, batch: Sequence[PreprocessedImage], batch_size: int) -> list[Detections]:
        """Detect objects in a batch of preprocessed images.

        The first call with each batch_size compiles a graph.

        batch: 1..batch_size images
        batch_size: batch size of the network; smaller batches are padded
        Returns the detections of each image, with boxes in pixels of the original image.
        """
        pixels = np.stack([image.pixels for image in batch])
        sizes = np.array([image.original_size for image in batch])
        boxes_yxyx, scores, labels = run_batch(self._nets[0], pixels, batch_size)
        return self.nms(boxes_yxyx, scores, labels=labels, sizes=sizes)


def _release_networks(nets: list[nn.Cell]) -> None:
    nets.clear()
    gc.collect()
