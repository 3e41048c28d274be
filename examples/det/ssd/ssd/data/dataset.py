"""Shards to batches of uint8 pixels and padded boxes."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import cv2
import mindspore.dataset as ds

from ..errors import UserError
from .batches import EvalBatch, TrainBatch
from .dataset_info import DATASET_INFO_NAME, check_files, read_dataset_info


def create_dataset(cfg, split: str, rank: int = 0, world_size: int = 1) -> ds.Dataset:
    """Batches of one split for one of `world_size` devices. cfg: Config; split: train or val.

    train -> image (B, H, W, 3) uint8 RGB; boxes_yxyx (B, M, 4) float32, 0..1; labels (B, M) int32, 0 = padding
    val -> image (B, H, W, 3) uint8 RGB; image_id (B,) int64; original_size (B, 2) int32, height and width
    In val every image comes once. Raises UserError if the shards are missing, not whole, or too few for a batch.
    """
    folder = Path(cfg.data_dir)
    shard = find_shard(folder, split)
    if (folder / DATASET_INFO_NAME).is_file():
        check_files(read_dataset_info(folder / DATASET_INFO_NAME), folder, split)
    cv2.setNumThreads(1)  # images are the unit of parallel work here
    ds.config.set_seed(cfg.seed)
    is_train = split == "train"
    columns = ["img_id", "image", "annotation"] if is_train else ["img_id", "image"]
    data = ds.MindDataset(shard, columns, shuffle=cfg.shuffle and is_train, num_shards=world_size, shard_id=rank)
    _count_images(data, shard)
    if is_train:
        steps = count_steps(cfg, shard, world_size)
        if steps:
            data = data.take(steps * cfg.batch_size)
        make_batch = TrainBatch(tuple(cfg.image_size), cfg.augment, max_boxes_of(folder), cfg.seed)
        outputs = ["image", "boxes_yxyx", "labels"]
    else:
        make_batch, outputs = EvalBatch(tuple(cfg.image_size)), ["image", "image_id", "original_size"]
    # Threads, because OpenCV lets go of Python's lock and threads need not copy pixels between processes.
    return data.batch(
        cfg.batch_size,
        drop_remainder=cfg.drop_remainder and is_train,
        num_parallel_workers=worker_count(cfg, world_size),
        per_batch_map=make_batch,
        input_columns=columns,
        output_columns=outputs,
        python_multiprocessing=False,
    )


def count_steps(cfg, shard: str, world_size: int) -> int | None:
    """Training steps in an epoch, as many for any number of devices that share a batch of one size; None for all that
    there are. Raises UserError if there are too few images for a step."""
    if not cfg.drop_remainder:
        return cfg.steps_per_epoch
    num_images = _count_images(ds.MindDataset(shard, ["img_id"], shuffle=False), shard)
    steps = num_images // (cfg.batch_size * world_size)
    if not steps:
        raise UserError(
            f"{shard}: got {num_images} training images for {world_size} x batch_size {cfg.batch_size}, expected at least "
            "as many; lower --batch_size"
        )
    return min(steps, cfg.steps_per_epoch or steps)


def image_ids_of_step(cfg, step: int, rank: int = 0, world_size: int = 1) -> list[int]:
    """Which images a device had in a training step. step: from 1, over all epochs"""
    ds.config.set_seed(cfg.seed)
    shard = find_shard(Path(cfg.data_dir), "train")
    data = ds.MindDataset(shard, ["img_id"], shuffle=cfg.shuffle, num_shards=world_size, shard_id=rank)
    steps = count_steps(cfg, shard, world_size)
    if steps:
        data = data.take(steps * cfg.batch_size)
    data = data.batch(cfg.batch_size, drop_remainder=cfg.drop_remainder)
    data.set_init_step(step - 1)
    (ids,) = next(data.create_tuple_iterator(num_epochs=cfg.epoch_size, output_numpy=True))
    return [int(image_id) for image_id in ids.ravel()]


def read_images(folder: Path, split: str, image_ids: Collection[int]) -> dict[int, bytes]:
    """Encoded images out of the shards, by id; ids they do not have are left out. Raises UserError without shards."""
    shard = find_shard(folder, split)
    ids = ds.MindDataset(shard, ["img_id"], shuffle=False)
    wanted = set(image_ids)
    places = {}  # by id, because a shard may hold an image twice
    for place, (image_id,) in enumerate(ids.create_tuple_iterator(num_epochs=1, output_numpy=True)):
        if int(image_id.item()) in wanted:
            places[int(image_id.item())] = place
    if not places:
        return {}
    chosen = ds.MindDataset(shard, ["img_id", "image"], sampler=ds.SubsetSampler(list(places.values())))
    rows = chosen.create_tuple_iterator(num_epochs=1, output_numpy=True)
    return {int(image_id.item()): image.tobytes() for image_id, image in rows}


def worker_count(cfg, world_size: int = 1) -> int:
    """Threads that prepare the data of one device: what the recipe says, and at most its share of the cores."""
    return max(1, min(cfg.num_parallel_workers, len(os.sched_getaffinity(0)) // world_size))


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
    if (folder / DATASET_INFO_NAME).is_file():
        return max(1, read_dataset_info(folder / DATASET_INFO_NAME).train.max_boxes)
    data = ds.MindDataset(find_shard(folder, "train"), ["annotation"], shuffle=False)
    return max(len(row[0]) for row in data.create_tuple_iterator(num_epochs=1, output_numpy=True))
