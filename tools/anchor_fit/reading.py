"""Objects out of the shards that create_data.py wrote, as evaluation sees them: whole images, without augmentation."""

from __future__ import annotations

from pathlib import Path

import mindspore.dataset as ds
import numpy as np

from ssd.data.batches import named
from ssd.data.dataset import find_shard
from ssd.data.dataset_info import DATASET_INFO_NAME, check_files, read_dataset_info
from ssd.data.images import read_size
from ssd.errors import UserError
from ssd.runtime.progress import Progress

from . import Objects

MAX_IMAGES = 10_000  # of a split; more take minutes to read and tell the same
SEED = 0  # of the choice among more
HELD_BACK = 5  # every fifth image of a training split is judged on where there are no others


def read_parts(folder: Path) -> dict[str, Objects]:
    """Objects to fit to and objects of other images to judge on, by their names: train and val, or where val has no
    objects, train and held back. Raises UserError."""
    train = read_objects(folder, "train")
    if not len(train):
        raise UserError(f"{folder / 'train'}: got no objects, expected some to fit to; set --data_dir to other data")
    val = read_objects(folder, "val") if (folder / "val").is_dir() else None
    return {"train": train, "val": val} if val is not None and len(val) else hold_back(train)


def hold_back(train: Objects) -> dict[str, Objects]:
    """Every fifth image that has objects, by id, to judge on, and the others to fit to. Raises UserError."""
    ids = np.unique(train.image_ids)
    if len(ids) < 2:
        raise UserError("data_dir: got one image with objects, expected one to fit to and one to judge on; add images")
    held = np.isin(train.image_ids, ids[1::HELD_BACK])
    names = {"train": ~held, "held back": held}
    return {
        name: Objects(
            *(values[rows] for values in (train.boxes_yxyx, train.labels, train.image_ids)),
            num_images=len(np.unique(train.image_ids[rows])),
            all_images=train.all_images,
        )
        for name, rows in names.items()
    }


def read_objects(folder: Path, split: str) -> Objects:
    """All objects of a split, or of MAX_IMAGES of its images. split: train or val. Raises UserError."""
    shard = find_shard(folder, split)
    if (folder / DATASET_INFO_NAME).is_file():
        check_files(read_dataset_info(folder / DATASET_INFO_NAME), folder, split)
    columns = ["img_id", "image", "annotation"]
    all_images = ds.MindDataset(shard, columns, shuffle=False).get_dataset_size()
    rng = np.random.default_rng(SEED)
    places = sorted(rng.choice(all_images, min(all_images, MAX_IMAGES), replace=False).tolist())
    data = ds.MindDataset(shard, columns, sampler=ds.SubsetSampler(places))
    boxes, labels, image_ids = [np.zeros((0, 4))], [np.zeros(0)], [np.zeros(0, dtype=np.int64)]
    with Progress(len(places), f"reading {split}", "images") as progress:
        for image_id, image, annotation in data.create_tuple_iterator(num_epochs=1, output_numpy=True):
            with named(image_id):
                height, width = read_size(image.tobytes())
            boxes.append(annotation[:, :4] / np.array([height, width, height, width], dtype=np.float64))
            labels.append(annotation[:, 4])
            image_ids.append(np.repeat(image_id, len(annotation)))
            progress.update()
    table, classes, ids = (np.concatenate(parts) for parts in (boxes, labels, image_ids))
    kept = (classes > 0) & (table[:, 2:] > table[:, :2]).all(axis=1)  # class 0 is padding
    return Objects(table[kept], classes[kept].astype(int), ids[kept], len(places), all_images)
