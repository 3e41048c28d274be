"""Load MindRecord shards as batches: shuffle and distribute the records, and decode the images in threads."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import mindspore.dataset as ds
import numpy as np

from ..errors import UserError, count_noun
from ..runtime.cpu_cores import worker_count
from .batches import EvalBatchTransform, TrainBatchTransform
from .broken_images import BrokenImages
from .dataset_info import DATASET_INFO_NAME, check_files, read_dataset_info, shards_are_upright
from .thread_errors import ErrorRecorder, raise_thread_errors, shard_errors

if TYPE_CHECKING:
    from ..config.schema import Config

log = logging.getLogger(__name__)


def create_dataset(
    cfg: Config, split: str, rank: int = 0, world_size: int = 1, num_cores: float | None = None
) -> ds.Dataset:
    """Create a MindSpore dataset that yields the batches of a split for one device.

    cfg: recipe
    split: "train" or "val"
    rank: index of the device, 0..world_size - 1
    world_size: number of devices that share the split
    num_cores: number of CPU cores of this device's process; None for all cores that the process may use

    Columns of the training split:
        image: (B, H, W, 3) uint8 RGB
        gt_boxes_yxyx: (B, M, 4) float32, yxyx as fractions 0..1 of the image, padded with zeros. M is the maximum
            number of boxes in a training image, but at most max_gt.
        gt_labels: (B, M) int32, class index 1..K-1; 0 marks padding
    Columns of the validation split, whose last batch may be smaller:
        image: (B, H, W, 3) uint8 RGB
        image_id: (B,) int64
        original_size: (B, 2) int32, height and width of the image in pixels
    Raises UserError if shards are missing or damaged, or the training split has too few images for one step.
    """
    folder = Path(cfg.data_dir)
    if (folder / DATASET_INFO_NAME).is_file():
        check_files(read_dataset_info(folder / DATASET_INFO_NAME), folder, split)
    cv2.setNumThreads(1)  # the data threads process images in parallel; OpenCV's threads would compete for the cores
    is_train = split == "train"
    input_columns = ["img_id", "image", "annotation"] if is_train else ["img_id", "image"]
    records = _open_records(cfg, split, columns=input_columns, rank=rank, world_size=world_size)
    transform: TrainBatchTransform | EvalBatchTransform
    if is_train:
        output_columns = ["image", "gt_boxes_yxyx", "gt_labels"]
        max_boxes = max_boxes_per_image(folder)
        transform = TrainBatchTransform(
            image_size=cfg.image_size,
            max_boxes=min(max_boxes, cfg.max_gt or max_boxes),
            seed=cfg.seed,
            num_classes=cfg.num_classes,
            upright=shards_are_upright(folder),
            broken_images=BrokenImages() if cfg.skip_bad_images else None,
            **cfg.augment.model_dump(),  # the keys of `augment` are argument names of the transform
        )
    else:
        output_columns = ["image", "image_id", "original_size"]
        transform = EvalBatchTransform(cfg.image_size, upright=shards_are_upright(folder))
    num_workers = worker_count(cfg.num_parallel_workers, num_cores)
    log.debug(f"{folder}: loading the {split} split with batch size {cfg.batch_size} (data threads: {num_workers})")
    return records.batch(
        cfg.batch_size,
        drop_remainder=cfg.drop_remainder and is_train,
        num_parallel_workers=num_workers,
        per_batch_map=ErrorRecorder(transform, find_shard(folder, split)),
        input_columns=input_columns,
        output_columns=output_columns,
        python_multiprocessing=False,  # OpenCV releases the GIL, and processes would have to copy the pixels
    )


def find_broken_images(dataset: ds.Dataset) -> BrokenImages | None:
    """Return the record of broken images of a training dataset; None unless the recipe sets skip_bad_images."""
    return dataset.per_batch_map.transform.broken_images


def iterate_batches(dataset: ds.Dataset) -> Iterator[dict[str, np.ndarray]]:
    """Yield the batches of one epoch as {column: array}.

    dataset: dataset of create_dataset
    Raises UserError if a record or a shard cannot be read.
    """
    with raise_thread_errors(dataset):
        yield from dataset.create_dict_iterator(num_epochs=1, output_numpy=True)


def image_ids_of_step(cfg: Config, step: int, rank: int = 0, world_size: int = 1) -> list[int]:
    """Return the ids of the images that a device reads in a training step.

    cfg: recipe
    step: number of the step, counted from 1 over all epochs
    rank: index of the device, 0..world_size - 1
    world_size: number of devices that share the training split
    """
    records = _open_records(cfg, "train", columns=["img_id"], rank=rank, world_size=world_size)
    data = records.batch(cfg.batch_size, drop_remainder=cfg.drop_remainder)
    data.set_init_step(step - 1)
    with shard_errors(find_shard(Path(cfg.data_dir), "train")):
        (ids,) = next(data.create_tuple_iterator(num_epochs=cfg.epoch_size, output_numpy=True))
    return [int(image_id) for image_id in ids.ravel()]


def _open_records(cfg: Config, split: str, columns: list[str], rank: int, world_size: int) -> ds.Dataset:
    """Open the records of a split in the order in which one device reads them.

    Training records are shuffled, distributed over the devices and truncated to whole steps. Validation records are
    only distributed. The order depends on the seed, but not on `columns`.

    cfg: recipe
    split: "train" or "val"
    columns: names of the MindRecord columns to read
    rank: index of the device, 0..world_size - 1
    world_size: number of devices that share the split

    Raises UserError if shards are missing or damaged, or the training split has too few images for one step.
    """
    shard = find_shard(Path(cfg.data_dir), split)
    is_train = split == "train"
    ds.config.set_seed(cfg.seed)
    with shard_errors(shard):
        records = ds.MindDataset(shard, columns, shuffle=cfg.shuffle and is_train, num_shards=world_size, shard_id=rank)
    _count_images(records, shard)  # raises UserError if shards are damaged
    if not is_train:
        return records
    steps = cfg.steps_per_epoch
    if cfg.drop_remainder:
        num_images = _count_images(ds.MindDataset(shard, ["img_id"], shuffle=False), shard)
        # Count the steps from all images, so that the number of steps depends only on the total batch size of all
        # devices. The size of a sharded MindDataset is too large, because images are repeated to fill all shards.
        full_steps = num_images // (cfg.batch_size * world_size)
        if not full_steps:
            raise UserError(
                f"{shard}: the split has {count_noun(num_images, 'image')}, but a training step needs "
                f"{world_size * cfg.batch_size} ({count_noun(world_size, 'device')} x batch_size {cfg.batch_size}). "
                "Lower --batch_size."
            )
        steps = min(full_steps, cfg.steps_per_epoch or full_steps)
    return records.take(steps * cfg.batch_size) if steps else records


def read_images(folder: Path, split: str, image_ids: Collection[int]) -> dict[int, bytes]:
    """Read encoded images from the shards of a split.

    folder: folder of the dataset
    split: "train" or "val"
    image_ids: ids of the images to read; ids that the shards do not contain are ignored

    Returns {image id: bytes of the image file}. Raises UserError if shards are missing or damaged.
    """
    shard = find_shard(folder, split)
    wanted = set(image_ids)
    row_of: dict[int, int] = {}  # {image id: row}, because shards may contain an image twice
    with shard_errors(shard):
        records = ds.MindDataset(shard, ["img_id"], shuffle=False)
        for row, (image_id,) in enumerate(records.create_tuple_iterator(num_epochs=1, output_numpy=True)):
            if int(image_id.item()) in wanted:
                row_of[int(image_id.item())] = row
        if not row_of:
            return {}
        chosen = ds.MindDataset(shard, ["img_id", "image"], sampler=ds.SubsetSampler(list(row_of.values())))
        rows = chosen.create_tuple_iterator(num_epochs=1, output_numpy=True)
        return {int(image_id.item()): image.tobytes() for image_id, image in rows}


def find_shard(folder: Path, split: str) -> str:
    """Return the path of the first shard of a split. MindDataset finds the other shards next to the first shard.

    Raises UserError if the folder contains no shard of the split.
    """
    for name in ("coco0", "coco"):  # MindRecord does not number a single shard
        if (folder / split / name).is_file():
            return str(folder / split / name)
    raise UserError(f"{folder / split / 'coco0'}: not found. Create the shards with create_data.py, or set --data_dir.")


def max_boxes_per_image(folder: Path) -> int:
    """Return the maximum number of boxes in a training image, at least 1.

    The number is read from dataset.json. If the folder has no dataset.json, the boxes in the shards are counted.
    Raises UserError if dataset.json is damaged, or shards are missing or damaged.
    """
    if (folder / DATASET_INFO_NAME).is_file():
        return max(1, read_dataset_info(folder / DATASET_INFO_NAME).train.max_boxes)
    return max(len(annotation) for annotation in _read_annotations(folder))


def count_boxes_above(folder: Path, max_boxes: int) -> tuple[int, int]:
    """Count the training images with more than `max_boxes` boxes, and the boxes beyond that number.

    folder: folder of the dataset
    max_boxes: number of boxes that each image keeps
    Returns the number of images, and the number of boxes that these images have beyond max_boxes.
    Raises UserError if shards are missing or damaged.
    """
    # Images without boxes contain a row of zeros, because MindRecord stores no empty arrays.
    counts = [np.count_nonzero(annotation[:, 4]) for annotation in _read_annotations(folder)]
    excess = [int(count) - max_boxes for count in counts if count > max_boxes]
    return len(excess), sum(excess)


def _read_annotations(folder: Path) -> Iterator[np.ndarray]:
    """Yield the annotation (M, 5) of each training image.

    Raises UserError if shards are missing or damaged.
    """
    shard = find_shard(folder, "train")
    with shard_errors(shard):
        records = ds.MindDataset(shard, ["annotation"], shuffle=False)
        for (annotation,) in records.create_tuple_iterator(num_epochs=1, output_numpy=True):
            yield annotation


def _count_images(records: ds.MindDataset, shard: str) -> int:
    """Return the number of images in opened shards.

    shard: path of the first shard, for the error message

    Raises UserError if MindSpore reports that a shard is missing or damaged.
    """
    with shard_errors(shard):
        return records.get_dataset_size()
