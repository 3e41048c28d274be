"""Shards to batches of uint8 pixels and padded boxes."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import cv2
import mindspore.dataset as ds
import numpy as np

from ..errors import UserError
from .images import decode_image
from .info import INFO_NAME, check_files, read_info
from .transforms import adjust_color, flip, pad_objects, random_crop, resize


class EpochCounter:
    """Tell the epochs of an image apart: (1,) image id -> (2,) int64, the id and how often it was asked for before.

    Must run in one thread. Workers may hold samples of two epochs at once, so counting there depends on their pace.
    """

    def __init__(self):
        self.times_seen: Counter = Counter()

    def __call__(self, img_id: np.ndarray) -> np.ndarray:
        image_id = int(img_id[0])
        self.times_seen[image_id] += 1
        return np.array([image_id, self.times_seen[image_id] - 1], dtype=np.int64)


class TrainTransform:
    """A record to a training sample. Its randomness is that of the seed, the image and the epoch alone.

    augment: Config.augment; max_boxes: M of the padded output
    """

    def __init__(self, image_size, augment, max_boxes: int, seed: int):
        self.image_size = image_size
        self.augment = augment
        self.max_boxes = max_boxes
        self.seed = seed

    def __call__(self, id_and_epoch: np.ndarray, encoded: np.ndarray, annotation: np.ndarray):
        """id_and_epoch: (2,) of EpochCounter; encoded: bytes of the file; annotation: (M, 5), class 0 = padding
        -> image (H, W, 3) uint8 RGB; boxes_yxyx (max_boxes, 4) float32, 0..1; labels (max_boxes,) int32, 0 = padding"""
        image_id, epoch = id_and_epoch.tolist()
        rng = np.random.default_rng((self.seed, image_id % 2**64, epoch))
        annotation = annotation[annotation[:, 4] > 0]
        boxes, labels = annotation[:, :4].astype(np.float32), annotation[:, 4].astype(np.int32)
        image = decode_image(encoded)
        augment = self.augment

        if rng.random() < augment.crop_prob:
            image, boxes, labels = random_crop(image, boxes, labels, rng.choice(augment.crop_min_iou), rng)
        height, width = image.shape[:2]
        image = resize(image, self.image_size)
        boxes = boxes * np.divide(self.image_size * 2, (height, width) * 2, dtype=np.float32)
        if rng.random() < augment.flip_prob:
            image, boxes = flip(image, boxes)
        if rng.random() < augment.color_prob:
            ranges = np.array([augment.brightness, augment.contrast, augment.saturation])
            image = adjust_color(image, *rng.uniform(1 - ranges, 1 + ranges))
        return (image, *pad_objects(boxes / np.float32(self.image_size * 2), labels, self.max_boxes))


class EvalTransform:
    """A record to an image to evaluate."""

    def __init__(self, image_size):
        self.image_size = image_size

    def __call__(self, img_id: np.ndarray, encoded: np.ndarray):
        """img_id: (1,); encoded: bytes of the file
        -> image (H, W, 3) uint8 RGB; image_id () int64; original_size (2,) int32, height and width in pixels"""
        image = decode_image(encoded)
        return resize(image, self.image_size), np.int64(img_id[0]), np.array(image.shape[:2], dtype=np.int32)


def create_dataset(cfg, split: str, rank: int = 0, world: int = 1) -> ds.Dataset:
    """Batches of one split for one of `world` devices. cfg: Config; split: train or val.

    train -> image (B, H, W, 3) uint8 RGB; boxes_yxyx (B, M, 4) float32, 0..1; labels (B, M) int32, 0 = padding
    val -> image (B, H, W, 3) uint8 RGB; image_id (B,) int64; original_size (B, 2) int32, height and width
    In val every image comes once. Raises UserError if the shards are missing, not whole, or too few for a batch.
    """
    folder = Path(cfg.data_dir)
    shard = find_shard(folder, split)
    if (folder / INFO_NAME).is_file():
        check_files(read_info(folder / INFO_NAME), folder, split)
    cv2.setNumThreads(1)  # images are the unit of parallel work here
    ds.config.set_seed(cfg.seed)
    is_train = split == "train"
    columns = ["img_id", "image", "annotation"] if is_train else ["img_id", "image"]
    data = ds.MindDataset(shard, columns, shuffle=cfg.shuffle and is_train, num_shards=world, shard_id=rank)
    num_images = _count_images(data, shard)
    if is_train:
        if num_images < cfg.batch_size and cfg.drop_remainder:
            raise UserError(
                f"{shard}: got {num_images} training images for a device, expected at least batch_size, "
                f"{cfg.batch_size}; lower --batch_size"
            )
        if cfg.steps_per_epoch:
            data = data.take(cfg.steps_per_epoch * cfg.batch_size)
        data = data.map(EpochCounter(), ["img_id"], num_parallel_workers=1, python_multiprocessing=False)
        transform = TrainTransform(tuple(cfg.image_size), cfg.augment, max_boxes_of(folder), cfg.seed)
        outputs = ["image", "boxes_yxyx", "labels"]
    else:
        transform, outputs = EvalTransform(tuple(cfg.image_size)), ["image", "image_id", "original_size"]
    # Threads, because OpenCV lets go of Python's lock and threads need not copy pixels between processes.
    workers = max(1, min(cfg.num_parallel_workers, len(os.sched_getaffinity(0)) // world))
    data = data.map(transform, columns, outputs, num_parallel_workers=workers, python_multiprocessing=False)
    return data.batch(cfg.batch_size, drop_remainder=cfg.drop_remainder and is_train)


def find_shard(folder: Path, split: str) -> str:
    """The first shard of a split, by which MindDataset finds the others. Raises UserError."""
    for name in ("coco0", "coco"):  # MindRecord gives no number to an only shard
        if (folder / split / name).is_file():
            return str(folder / split / name)
    raise UserError(
        f"{folder / split / 'coco0'}: got no such file, expected shards; "
        "make them with create_data.py, or set --data_dir"
    )


def _count_images(data: ds.MindDataset, shard: str) -> int:
    try:
        return data.get_dataset_size()
    except RuntimeError as error:  # some shard of the set is missing or damaged
        reasons = [line for line in str(error).splitlines() if line.startswith("[ERROR]")] or str(error).splitlines()
        raise UserError(
            f"{shard}: got {reasons[0]!r} from MindRecord, expected whole shards; copy the folder again"
        ) from None


def max_boxes_of(folder: Path) -> int:
    """The largest number of objects in a training image, at least 1: from dataset.json, else counted in the shards."""
    if (folder / INFO_NAME).is_file():
        return max(1, read_info(folder / INFO_NAME).train.max_boxes)
    data = ds.MindDataset(find_shard(folder, "train"), ["annotation"], shuffle=False)
    return max(len(row[0]) for row in data.create_tuple_iterator(num_epochs=1, output_numpy=True))
