"""Records to batches. They are drawn image by image into the memory of the batch; to pile up images would copy them."""

from __future__ import annotations

import contextlib

import numpy as np

from ..errors import UserError
from .augment import CROP_TRIALS, align, choose_scale_denominator, holds_center, random_crop, zoom_out
from .images import decode_image, read_size
from .transforms import color_matrices, render_window, resize

# How many random numbers an image has for what, in the order in which they are drawn. All are drawn whether or not they
# are used, so that one kind of augmentation can be turned off and the others stay as they are.
DRAWS = {"choices": 4, "min_iou": 1, "colors": 4, "zoom_out": 3, "crop": CROP_TRIALS * 4}


class TrainBatch:
    """Augmentation of training images. The randomness of a sample is that of the seed, the image and the epoch alone.

    image_size: (H, W); augment: Config.augment; max_boxes: M of the padded output
    """

    def __init__(self, image_size: tuple[int, int], augment, max_boxes: int, seed: int):
        self.image_size = image_size
        self.max_boxes = max_boxes
        self.seed = seed
        self.probs = [augment.zoom_out_prob, augment.crop_prob, augment.color_prob, augment.flip_prob]
        self.zoom_out_max = augment.zoom_out_max
        self.crop_min_iou = np.array(augment.crop_min_iou)
        self.color_ranges = np.array([augment.brightness, augment.contrast, augment.saturation, augment.hue])

    def __call__(self, img_ids: list, images: list, annotations: list, batch_info):
        """img_ids: (1,) each; images: bytes of files; annotations: (M, 5) each, class 0 = padding; batch_info:
        MindSpore's BatchInfo
        -> image (B, H, W, 3) uint8 RGB; boxes_yxyx (B, M, 4) float32, 0..1; labels (B, M) int32, 0 = padding"""
        epoch = batch_info.get_epoch_num()
        numbers = np.stack([self.draw(int(img_id[0]), epoch) for img_id in img_ids])
        draws = dict(zip(DRAWS, np.split(numbers, np.cumsum([*DRAWS.values()])[:-1], axis=1)))
        zoomed, cropped, colored, mirrored = (draws["choices"] < self.probs).T
        colors = color_matrices([1, 1, 1, 0] + self.color_ranges * (2 * draws["colors"] - 1))

        images = [image.tobytes() for image in images]
        boxes, labels = self.pad(annotations)
        patches = self.choose_windows(images, img_ids, boxes, labels, zoomed, cropped, draws)
        reductions = choose_scale_denominator(patches[:, 2:] - patches[:, :2], self.image_size)
        patches = align(patches, reductions)

        pixels = np.empty((len(images), *self.image_size, 3), dtype=np.uint8)
        for row, image in enumerate(images):
            with named(img_ids[row]):
                image = decode_image(image, int(reductions[row]))
            color = colors[row] if colored[row] else None
            render_window(image, patches[row], int(reductions[row]), pixels[row], color, mirrored[row])

        labels *= holds_center(patches[:, None], boxes)[:, 0]  # what is not seen becomes padding
        origin, extent = patches[:, None, :2], (patches[:, 2:] - patches[:, :2])[:, None]
        boxes = np.clip((boxes - np.tile(origin, 2)) / np.tile(extent, 2), 0, 1)
        y0, x0, y1, x1 = np.moveaxis(boxes, -1, 0)
        boxes = np.where(mirrored[:, None, None], np.stack([y0, 1 - x1, y1, 1 - x0], axis=-1), boxes)
        return pixels, (boxes * (labels > 0)[..., None]).astype(np.float32), labels

    def draw(self, image_id: int, epoch: int) -> np.ndarray:
        """All random numbers of an image in an epoch, 0..1."""
        return np.random.default_rng((self.seed, image_id % 2**64, epoch)).random(sum(DRAWS.values()))

    def pad(self, annotations: list) -> tuple[np.ndarray, np.ndarray]:
        """annotations: (M, 5) each -> boxes_yxyx (B, M, 4) float64, pixels; labels (B, M) int32; zero padded"""
        rows = np.zeros((len(annotations), self.max_boxes, 5))
        for row, annotation in zip(rows, annotations):
            row[: len(annotation)] = annotation
        return rows[..., :4], rows[..., 4].astype(np.int32)

    def choose_windows(self, images, img_ids, boxes, labels, zoomed, cropped, draws) -> np.ndarray:
        """What is seen of each image of a batch: all of it, zoomed out, cropped, or both -> patches (B, 4) int64"""
        sizes = []
        for image, img_id in zip(images, img_ids):
            with named(img_id):
                sizes.append(read_size(image))
        patches = np.concatenate([np.zeros((len(sizes), 2), dtype=np.int64), sizes], axis=1)
        if zoomed.any():
            canvases = zoom_out(patches[:, 2:], self.zoom_out_max, draws["zoom_out"])
            patches = np.where(zoomed[:, None], canvases, patches)
        if cropped.any():
            min_iou = self.crop_min_iou[(draws["min_iou"][:, 0] * len(self.crop_min_iou)).astype(int)]
            count = max(int(np.count_nonzero(labels, axis=1).max()), 1)  # most sets have images with many more objects
            trials = draws["crop"].reshape(-1, CROP_TRIALS, 4)
            crops, found = random_crop(patches, boxes[:, :count], labels[:, :count], min_iou, self.image_size, trials)
            patches = np.where((cropped & found)[:, None], crops, patches)
        return patches


class EvalBatch:
    """Images to evaluate: all of each, decoded in full. image_size: (H, W)"""

    def __init__(self, image_size: tuple[int, int]):
        self.image_size = image_size

    def __call__(self, img_ids: list, images: list, batch_info):
        """img_ids: (1,) each; images: bytes of files; batch_info: BatchInfo
        -> image (B, H, W, 3) uint8 RGB; image_id (B,) int64; original_size (B, 2) int32, height and width in pixels"""
        pixels = np.empty((len(images), *self.image_size, 3), dtype=np.uint8)
        sizes = np.empty((len(images), 2), dtype=np.int32)
        for row, (img_id, encoded) in enumerate(zip(img_ids, images)):
            with named(img_id):
                image = decode_image(encoded.tobytes())
            sizes[row] = image.shape[:2]
            resize(image, pixels[row], exact=True)
        return pixels, np.concatenate(img_ids).astype(np.int64), sizes


@contextlib.contextmanager
def named(img_id: np.ndarray):
    """Say which image it was that did not decode. img_id: (1,)"""
    try:
        yield
    except ValueError as error:
        raise UserError(
            f"image {int(img_id[0])} of the shards: got {error}, expected a whole image; "
            "mend the file it was made from and run create_data.py again"
        ) from None
