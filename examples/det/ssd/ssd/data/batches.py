"""Transforms from the records of a batch to model inputs: `per_batch_map` functions of MindSpore's `Dataset.batch`.

Images are drawn one by one into the memory of the whole batch, because stacking finished images would copy them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from ..errors import UserError
from .augment import (
    CROP_TRIALS,
    align_windows,
    choose_scale_denominator,
    contains_center,
    random_iou_crops,
    zoom_out_canvases,
)
from .images import decode_image, read_size
from .transforms import color_matrices, render_crop_window, resize

# How many random numbers an image gets for each purpose, in the order in which they are drawn. All are always drawn, so
# that switching one kind of augmentation off leaves the others unchanged.
DRAWS = {"apply": 4, "min_iou": 1, "color": 4, "zoom_out": 3, "crop": CROP_TRIALS * 4}


class BatchInfo(Protocol):
    """The part of MindSpore's BatchInfo that is used here."""

    def get_epoch_num(self) -> int: ...


class TrainBatchTransform:
    """Decode and augment training images: zoom out, crop, distort colours, flip, resize.

    A sample depends only on the seed, its image id and the epoch, so it is the same for any number of workers.

    image_size: (H, W) of the network's input
    max_boxes: M, the number of rows to which boxes are padded
    zoom_out_prob … hue: see the recipe key `augment` in config/schema.py
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        max_boxes: int,
        seed: int,
        *,
        zoom_out_prob: float,
        zoom_out_max: float,
        crop_prob: float,
        crop_min_iou: Sequence[float],
        color_prob: float,
        brightness: float,
        contrast: float,
        saturation: float,
        hue: float,
        flip_prob: float,
    ):
        self.image_size = image_size
        self.max_boxes = max_boxes
        self.seed = seed
        self.probs = [zoom_out_prob, crop_prob, color_prob, flip_prob]
        self.zoom_out_max = zoom_out_max
        self.crop_min_iou = np.array(crop_min_iou)
        self.color_ranges = np.array([brightness, contrast, saturation, hue])

    def __call__(
        self,
        img_ids: list[np.ndarray],
        images: list[np.ndarray],
        annotations: list[np.ndarray],
        batch_info: BatchInfo,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Transform the B records of a batch.

        img_ids: (1,) int each
        images: encoded files as uint8 arrays
        annotations: (M, 5) each, boxes_yxyx in pixels and class index, 0 = padding

        Returns
            image: (B, H, W, 3) uint8 RGB
            gt_boxes_yxyx: (B, M, 4) float32, corners in 0..1, y first, zero padded
            gt_labels: (B, M) int32, 0 = padding
        Raises UserError if an image does not decode.
        """
        epoch = batch_info.get_epoch_num()
        numbers = np.stack([self.draw(int(img_id[0]), epoch) for img_id in img_ids])
        draws = dict(zip(DRAWS, np.split(numbers, np.cumsum([*DRAWS.values()])[:-1], axis=1)))
        zoom_out, crop, distort, flip = (draws["apply"] < self.probs).T
        colors = color_matrices([1, 1, 1, 0] + self.color_ranges * (2 * draws["color"] - 1))

        encoded = [image.tobytes() for image in images]
        boxes, labels = self.pad(annotations)
        windows = _whole_images(encoded, img_ids)
        if zoom_out.any():
            canvases = zoom_out_canvases(windows[:, 2:], self.zoom_out_max, draws["zoom_out"])
            windows = np.where(zoom_out[:, None], canvases, windows)
        if crop.any():
            crops, found = self.crop(windows, boxes, labels, draws=draws)
            windows = np.where((crop & found)[:, None], crops, windows)
        denominators = choose_scale_denominator(windows[:, 2:] - windows[:, :2], self.image_size)
        windows = align_windows(windows, denominators)

        pixels = np.empty((len(encoded), *self.image_size, 3), dtype=np.uint8)
        for row, image_bytes in enumerate(encoded):
            with name_undecodable_image(img_ids[row]):
                image = decode_image(image_bytes, int(denominators[row]))
            render_crop_window(
                image,
                windows[row],
                scale_denominator=int(denominators[row]),
                out=pixels[row],
                color_matrix=colors[row] if distort[row] else None,
                flip=flip[row],
            )

        labels *= contains_center(windows[:, None], boxes)[:, 0]  # boxes whose centre is cut off become padding
        start, extent = windows[:, None, :2], (windows[:, 2:] - windows[:, :2])[:, None]
        boxes = np.clip((boxes - np.tile(start, 2)) / np.tile(extent, 2), 0, 1)
        y0, x0, y1, x1 = np.moveaxis(boxes, -1, 0)
        boxes = np.where(flip[:, None, None], np.stack([y0, 1 - x1, y1, 1 - x0], axis=-1), boxes)
        return pixels, (boxes * (labels > 0)[..., None]).astype(np.float32), labels

    def draw(self, image_id: int, epoch: int) -> np.ndarray:
        """Return all random numbers of an image in an epoch, uniform in 0..1."""
        return np.random.default_rng((self.seed, image_id % 2**64, epoch)).random(sum(DRAWS.values()))

    def pad(self, annotations: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Pad the annotations of a batch with zeros.

        annotations: (M, 5) each

        Returns boxes_yxyx (B, max_boxes, 4) float64 in pixels and labels (B, max_boxes) int32.
        """
        rows = np.zeros((len(annotations), self.max_boxes, 5))
        for row, annotation in zip(rows, annotations):
            row[: len(annotation)] = annotation
        return rows[..., :4], rows[..., 4].astype(np.int32)

    def crop(
        self, canvases: np.ndarray, boxes: np.ndarray, labels: np.ndarray, draws: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw an IoU constraint and a crop window for each image; arguments and result as of random_iou_crops."""
        # Most datasets have a few images with many more boxes than the others, so drop columns that are only padding.
        count = max(int(np.count_nonzero(labels, axis=1).max()), 1)
        return random_iou_crops(
            canvases,
            boxes_yxyx=boxes[:, :count],
            labels=labels[:, :count],
            min_iou=self.crop_min_iou[(draws["min_iou"][:, 0] * len(self.crop_min_iou)).astype(int)],
            image_size=self.image_size,
            draws=draws["crop"].reshape(-1, CROP_TRIALS, 4),
        )


class EvalBatchTransform:
    """Decode whole images and resize them to the network's input. image_size: (H, W)"""

    def __init__(self, image_size: tuple[int, int]):
        self.image_size = image_size

    def __call__(
        self, img_ids: list[np.ndarray], images: list[np.ndarray], batch_info: BatchInfo
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Transform the B records of a batch.

        img_ids: (1,) int each
        images: encoded files as uint8 arrays

        Returns
            image: (B, H, W, 3) uint8 RGB
            image_id: (B,) int64
            original_size: (B, 2) int32, height and width in pixels
        Raises UserError if an image does not decode.
        """
        pixels = np.empty((len(images), *self.image_size, 3), dtype=np.uint8)
        sizes = np.empty((len(images), 2), dtype=np.int32)
        for row, (img_id, encoded) in enumerate(zip(img_ids, images)):
            with name_undecodable_image(img_id):
                image = decode_image(encoded.tobytes())
            sizes[row] = image.shape[:2]
            resize(image, pixels[row], exact=True)
        return pixels, np.concatenate(img_ids).astype(np.int64), sizes


def _whole_images(encoded: list[bytes], img_ids: list[np.ndarray]) -> np.ndarray:
    """Return windows (B, 4) int64 that contain exactly the whole image."""
    windows = np.zeros((len(encoded), 4), dtype=np.int64)
    for row, (image_bytes, img_id) in enumerate(zip(encoded, img_ids)):
        with name_undecodable_image(img_id):
            windows[row, 2:] = read_size(image_bytes)
    return windows


@contextlib.contextmanager
def name_undecodable_image(img_id: np.ndarray) -> Iterator[None]:
    """Turn a ValueError of the block into a UserError that names the image. img_id: (1,) int"""
    try:
        yield
    except ValueError as error:
        raise UserError(
            f"image {int(img_id[0])} of the shards: {error}. Replace the source file, and run create_data.py again."
        ) from None
