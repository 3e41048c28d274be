"""A detector with its weights, for images from anywhere: what scripts, notebooks and predict.py call."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..checkpoints.loading import choose_checkpoint, load_weights
from ..checkpoints.metadata import model_metadata
from ..config.loading import Config, load_config
from ..data.images import read_image_file
from ..data.transforms import resize
from ..errors import UserError
from ..models.detector import create_detector, to_mixed_precision
from ..models.postprocess import Detections
from ..runtime.device import set_up_runtime
from .network import create_inference_net, create_selector, run_batch


class Predictor:
    """Detect objects in images as evaluation does.

        predictor = Predictor("examples/det/ssd/ssd_mobilenetv2.yaml", "best.ckpt")
        detections = predictor("photo.jpg")

    config: path of a recipe, or a Config; checkpoint: path, None for ckpt_path of the recipe, else the best or newest
    in its ckpt_save_dir; overrides: recipe keys, as in data_dir="data/own" or **{"augment.flip_prob": 0}
    classes: names by label, background first
    It takes part in the process's settings of MindSpore: device, mode and seed are set. Raises UserError.
    """

    def __init__(self, config, checkpoint=None, **overrides):
        if isinstance(config, Config) and overrides:
            raise UserError(
                f"Predictor: got a Config and {sorted(overrides)}, expected overrides of a recipe's path only; "
                "make the Config with them"
            )
        cfg = config if isinstance(config, Config) else load_config(config, overrides)
        self.cfg = cfg
        self.checkpoint = Path(checkpoint) if checkpoint else choose_checkpoint(cfg)
        self.runtime = set_up_runtime(cfg)
        detector = create_detector(cfg)
        load_weights(detector, self.checkpoint, cfg.use_ema, model_metadata(cfg))
        net = create_inference_net(cfg, to_mixed_precision(detector, cfg.amp_level))
        net.set_train(False)
        self.selector = create_selector(cfg)
        self.classes = cfg.classes or ("background", *(f"class {label}" for label in range(1, cfg.num_classes)))
        self._net = [net]
        # MindSpore complains about every network that is alive when the interpreter ends.
        weakref.finalize(self, _let_go, self._net)

    def __call__(self, images):
        """Detections of one image, or a list of Detections of a list of images.

        images: (H, W, 3) uint8 RGB array, or path of an image file, which is turned upright as its EXIF data say; or a
        list of these
        -> Detections of at least min_score, boxes in pixels of the (upright) image. Each new number of images in a
        batch compiles a graph for some seconds, so that lists run in batches of a power of two, or of batch_size.
        Raises UserError on what is not an image.
        """
        if isinstance(images, (np.ndarray, str, os.PathLike)):
            return self([images])[0]
        images = list(images)
        batch_size = min(self.cfg.batch_size, 1 << max(len(images) - 1, 0).bit_length())
        found = []
        for start in range(0, len(images), batch_size):
            prepared = [self.prepare(_as_pixels(image)) for image in images[start : start + batch_size]]
            found += self.detect(*zip(*prepared), batch_size)
        return found

    def prepare(self, image: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
        """image: (H, W, 3) uint8 RGB -> the network's input, resized as in evaluation, and (H, W). For any thread."""
        resized = np.empty((*self.cfg.image_size, 3), dtype=np.uint8)
        resize(np.ascontiguousarray(image), resized, exact=True)
        return resized, image.shape[:2]

    def detect(
        self, prepared: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]], batch_size: int
    ) -> list[Detections]:
        """One batch of at most batch_size images, prepared; each batch_size compiles a graph when it is first used."""
        return self.selector(*run_batch(self._net[0], np.stack(prepared), batch_size), np.array(sizes))


def _let_go(nets: list) -> None:
    nets.clear()
    gc.collect()


def _as_pixels(image) -> np.ndarray:
    """An array that is an image, or the content of a file. Raises UserError."""
    if isinstance(image, (str, os.PathLike)):
        try:
            return read_image_file(image)
        except OSError as error:
            raise UserError(
                f"{image}: got {(error.strerror or str(error)).lower()}, expected an image file; check the path"
            ) from None
        except ValueError as error:
            raise UserError(f"{image}: got {error}, expected a whole image; check the file") from None
    if not isinstance(image, np.ndarray):
        raise UserError(
            f"Predictor: got {type(image).__name__}, expected an (H, W, 3) uint8 RGB array or the path of an image file"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UserError(
            f"Predictor: got an array of {image.dtype} and shape {image.shape}, expected uint8 and (H, W, 3), colours "
            "in the order RGB and values 0 to 255; convert it, and give several images as a list"
        )
    return image
