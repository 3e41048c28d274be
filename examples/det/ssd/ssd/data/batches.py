"""Transform the records of a batch to model inputs: `per_batch_map` functions for MindSpore's `Dataset.batch`.

Each image is written directly into the array of its batch, because stacking finished images would copy all pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from .augment import (
    CROP_TRIALS,
    align_windows,
    choose_scale_denominator,
    contains_center,
    random_iou_crops,
    scaled_windows,
    zoom_out_canvases,
)
from .broken_images import BrokenImages, replacements
from .images import decode_image, read_size
from .record_check import UndecodableImageError, check_image_id, check_record, name_undecodable_image
from .transforms import color_matrices, render_crop_window, resize

# Random numbers of an image for each augmentation. All are always drawn, so that disabling one does not change others.
DRAWS = {"apply": 4, "min_iou": 1, "color": 4, "zoom_out": 3, "crop": CROP_TRIALS * 4, "scale": 3}


class BatchInfo(Protocol):
    """Interface of MindSpore's BatchInfo, with only the method that the transforms call."""

    def get_epoch_num(self) -> int: ...


class TrainBatchTransform:
    """Decode and augment training images: scale or zoom out, crop, distort colors, flip, resize.

    An augmented image depends only on the seed, its image id and the epoch, not on the number of worker threads.

    image_size: (height, width) of the network's input in pixels
    max_boxes: number of rows to which the boxes of each image are padded. If more boxes remain after the crop, the
        largest ones are kept, in their order.
    seed: random seed of the recipe
    num_classes: number of classes, background included
    upright: whether boxes are in pixels of upright images; see `DatasetInfo.upright`
    broken_images: receives the images that cannot be decoded, which other images of the batch replace; None to raise
        an error for such an image
    scale_jitter … flip_prob: values of the recipe key `augment`, which config/schema.py describes
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        max_boxes: int,
        seed: int,
        num_classes: int,
        *,
        upright: bool,
        broken_images: BrokenImages | None = None,
        scale_jitter: float,
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
        self.num_classes = num_classes
        self.upright = upright
        self.broken_images = broken_images
        self.probs = [zoom_out_prob, crop_prob, color_prob, flip_prob]
        self.scale_jitter = scale_jitter
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
        """Decode and augment the B images of a batch, and transform their boxes.

        img_ids: B arrays (1,) int, image ids
        images: B uint8 arrays, bytes of the encoded image files
        annotations: B arrays (M, 5), boxes_yxyx in pixels and class index; class index 0 marks padding
        batch_info: MindSpore's BatchInfo, which provides the number of the epoch

        Returns
            image: (B, H, W, 3) uint8 RGB
            gt_boxes_yxyx: (B, max_boxes, 4) float32, yxyx as fractions 0..1 of the output image, padded with zeros
            gt_labels: (B, max_boxes) int32, class index 1..K-1; 0 marks padding
        Raises UserError if an image cannot be decoded, or a record does not have the format of create_data.py.
        """
        for img_id, annotation in zip(img_ids, annotations):
            check_record(img_id, annotation, self.num_classes)
        epoch = batch_info.get_epoch_num()
        numbers = np.stack([self.draw(int(img_id[0]), epoch) for img_id in img_ids])
        encoded = [image.tobytes() for image in images]
        if self.broken_images is None:
            return self.augment(img_ids, encoded, annotations, numbers=numbers)
        # A row with a broken image shows another record, with the random numbers of the broken image:
        broken: set[int] = set()
        while True:
            sources = replacements(len(encoded), broken)
            ids, shown = [img_ids[source] for source in sources], [encoded[source] for source in sources]
            try:
                return self.augment(ids, shown, [annotations[source] for source in sources], numbers=numbers)
            except UndecodableImageError as error:
                broken.add(sources[error.row])
                if len(broken) == len(encoded):
                    raise
                self.broken_images.add(epoch, error)

    def augment(
        self, img_ids: list[np.ndarray], encoded: list[bytes], annotations: list[np.ndarray], *, numbers: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Decode and augment images with given random numbers.

        encoded: bytes of B image files
        numbers: (B, sum(DRAWS.values())) uniform in 0..1, of `draw`
        The other arguments, the results and the errors are those of `__call__`.
        """
        draws = dict(zip(DRAWS, np.split(numbers, np.cumsum([*DRAWS.values()])[:-1], axis=1)))
        zoom_out, crop, distort, flip = (draws["apply"] < self.probs).T
        colors = color_matrices([1, 1, 1, 0] + self.color_ranges * (2 * draws["color"] - 1))

        boxes, labels = self.pad(annotations)
        windows = _whole_images(encoded, img_ids, self.upright)
        sizes = windows[:, 2:]
        if self.scale_jitter:
            windows = scaled_windows(sizes, self.scale_jitter, draws["scale"])
        if zoom_out.any():
            canvases = zoom_out_canvases(sizes, self.zoom_out_max, draws["zoom_out"])
            windows = np.where(zoom_out[:, None], canvases, windows)
        if crop.any():
            crops, found = self.crop(windows, boxes, labels, draws=draws)
            windows = np.where((crop & found)[:, None], crops, windows)
        denominators = choose_scale_denominator(windows[:, 2:] - windows[:, :2], self.image_size)
        windows = align_windows(windows, denominators)

        pixels = np.empty((len(encoded), *self.image_size, 3), dtype=np.uint8)
        for row, image_bytes in enumerate(encoded):
            with name_undecodable_image(img_ids[row], row):
                image = decode_image(image_bytes, int(denominators[row]), upright=self.upright)
            render_crop_window(
                image,
                windows[row],
                scale_denominator=int(denominators[row]),
                out=pixels[row],
                color_matrix=colors[row] if distort[row] else None,
                flip=flip[row],
            )

        labels *= contains_center(windows[:, None], boxes)[:, 0]  # boxes whose center is outside become padding
        start, extent = windows[:, None, :2], (windows[:, 2:] - windows[:, :2])[:, None]
        boxes = np.clip((boxes - np.tile(start, 2)) / np.tile(extent, 2), 0, 1)
        y0, x0, y1, x1 = np.moveaxis(boxes, -1, 0)
        boxes = np.where(flip[:, None, None], np.stack([y0, 1 - x1, y1, 1 - x0], axis=-1), boxes)
        boxes, labels = keep_largest_boxes(boxes, labels, self.max_boxes)
        return pixels, (boxes * (labels > 0)[..., None]).astype(np.float32), labels

    def draw(self, image_id: int, epoch: int) -> np.ndarray:
        """Draw the random numbers of an image in an epoch, seeded with the recipe's seed, the image id and the epoch.

        Returns (sum(DRAWS.values()),) float64, uniform in 0..1.
        """
        return np.random.default_rng((self.seed, image_id % 2**64, epoch)).random(sum(DRAWS.values()))

    def pad(self, annotations: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Pad the annotations of a batch with zeros to max_boxes rows per image, or more if an image has more boxes.

        annotations: B arrays (M, 5), boxes_yxyx in pixels and class index

        Returns
            boxes_yxyx: (B, N, 4) float64 in pixels; N >= max_boxes
            labels: (B, N) int32, class index 1..K-1; 0 marks padding
        """
        rows = np.zeros((len(annotations), max(self.max_boxes, *map(len, annotations)), 5))
        for row, annotation in zip(rows, annotations):
            row[: len(annotation)] = annotation
        return rows[..., :4], rows[..., 4].astype(np.int32)

    def crop(
        self, canvases: np.ndarray, boxes: np.ndarray, labels: np.ndarray, draws: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Choose a random minimum IoU and a random crop window for each image.

        canvases: (B, 4) yxyx in pixels, regions to crop from
        boxes: (B, N, 4) yxyx in pixels
        labels: (B, N) class index 1..K-1; 0 marks padding
        draws: {augmentation: random numbers of each image, uniform in 0..1}, with the keys of DRAWS

        Returns
            windows: (B, 4) int64, yxyx in pixels; arbitrary where found is False
            found: (B,) bool, True if a window satisfies the IoU constraint
        """
        # Drop columns that are only padding: in most datasets, few images have nearly N boxes.
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
    """Decode whole images and resize them to the network's input.

    image_size: (height, width) of the network's input in pixels
    upright: whether boxes are in pixels of upright images; see `DatasetInfo.upright`
    """

    def __init__(self, image_size: tuple[int, int], upright: bool):
        self.image_size = image_size
        self.upright = upright

    def __call__(
        self, img_ids: list[np.ndarray], images: list[np.ndarray], batch_info: BatchInfo
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Decode and resize the B images of a batch.

        img_ids: B arrays (1,) int, image ids
        images: B uint8 arrays, bytes of the encoded image files
        batch_info: not used, but always passed by MindSpore

        Returns
            image: (B, H, W, 3) uint8 RGB
            image_id: (B,) int64
            original_size: (B, 2) int32, height and width of the images in pixels
        Raises UserError if an image cannot be decoded.
        """
        pixels = np.empty((len(images), *self.image_size, 3), dtype=np.uint8)
        sizes = np.empty((len(images), 2), dtype=np.int32)
        for row, (img_id, encoded) in enumerate(zip(img_ids, images)):
            check_image_id(img_id)
            with name_undecodable_image(img_id, row):
                image = decode_image(encoded.tobytes(), upright=self.upright)
            sizes[row] = image.shape[:2]
            resize(image, pixels[row], exact=True)
        return pixels, np.concatenate(img_ids).astype(np.int64), sizes


def keep_largest_boxes(boxes: np.ndarray, labels: np.ndarray, max_boxes: int) -> tuple[np.ndarray, np.ndarray]:
    """Reduce the rows of each image to max_boxes. Boxes with the largest areas stay, and keep their order.

    boxes: (B, N, 4) yxyx; N >= max_boxes
    labels: (B, N) class index 1..K-1; 0 marks padding

    Returns boxes (B, max_boxes, 4) and labels (B, max_boxes). Of boxes with equal areas, the earlier ones stay.
    """
    if boxes.shape[1] == max_boxes:
        return boxes, labels
    # Round the areas to float32, because boxes of equal size have slightly different areas in float64.
    areas = np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1).astype(np.float32)
    areas = np.where(labels > 0, areas, np.float32(-1))  # padding comes last
    kept = np.sort(np.argsort(-areas, axis=1, kind="stable")[:, :max_boxes], axis=1)
    return np.take_along_axis(boxes, kept[..., None], axis=1), np.take_along_axis(labels, kept, axis=1)


def _whole_images(encoded: list[bytes], img_ids: list[np.ndarray], upright: bool) -> np.ndarray:
    """Return the crop windows that cover exactly the whole images.

    encoded: bytes of B image files
    img_ids: B arrays (1,) int, image ids for the error message
    upright: whether to apply the EXIF orientation

    Returns (B, 4) int64, yxyx in pixels. Raises UserError if an image cannot be decoded.
    """
    windows = np.zeros((len(encoded), 4), dtype=np.int64)
    for row, (image_bytes, img_id) in enumerate(zip(encoded, img_ids)):
        with name_undecodable_image(img_id, row):
            windows[row, 2:] = read_size(image_bytes, upright)
    return windows
