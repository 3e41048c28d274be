"""Read ground-truth boxes from the shards of create_data.py, as fractions of image height and width."""

from __future__ import annotations

from pathlib import Path

import mindspore.dataset as ds
import numpy as np

from ssd.data.dataset import find_shard
from ssd.data.dataset_info import DATASET_INFO_NAME, check_files, read_dataset_info, shards_are_upright
from ssd.data.images import read_size
from ssd.data.record_check import name_undecodable_image
from ssd.data.thread_errors import shard_errors
from ssd.errors import UserError
from ssd.runtime.progress import Progress

from . import GroundTruth

MAX_IMAGES = 10_000  # maximum number of images per split; more images take minutes and hardly change the result
SEED = 0  # random seed for the choice of MAX_IMAGES images
HOLD_OUT_EVERY = 5  # hold out every fifth training image if the validation split has no boxes


def read_train_and_val(folder: Path) -> dict[str, GroundTruth]:
    """Read ground-truth boxes of training images for the fit, and of validation images for the evaluation.

    folder: folder of the shards, data_dir of a recipe
    Returns {"train": ground truth, "val": ground truth}. Without validation boxes, some training images are held out,
    and the key "held out" replaces the key "val".
    Raises UserError if shards are missing or damaged, the training split has no boxes, or too few images have boxes.
    """
    train = read_ground_truth(folder, "train")
    if not len(train):
        raise UserError(
            f"{folder / 'train'}: the training images have no ground-truth boxes. "
            "Set --data_dir to the shards of annotated images."
        )
    val = read_ground_truth(folder, "val") if (folder / "val").is_dir() else None
    return {"train": train, "val": val} if val is not None and len(val) else hold_out(train)


def hold_out(train: GroundTruth) -> dict[str, GroundTruth]:
    """Split ground truth into 4/5 of the images for the fit and 1/5 of the images for the evaluation.

    train: ground truth of the training split; every fifth image with boxes is held out, in the order of image ids
    Returns {"train": ground truth, "held out": ground truth}.
    Raises UserError if fewer than 2 images have boxes.
    """
    ids = np.unique(train.image_ids)
    if len(ids) < 2:
        raise UserError(
            "data_dir: fewer than 2 training images have ground-truth boxes, but the fit and the evaluation need at "
            "least 1 image each. Set --data_dir to shards with more annotated images."
        )
    is_held_out = np.isin(train.image_ids, ids[1::HOLD_OUT_EVERY])
    return {"train": _select(train, ~is_held_out), "held out": _select(train, is_held_out)}


def _select(ground_truth: GroundTruth, rows: np.ndarray) -> GroundTruth:
    """Return the ground truth of the selected boxes.

    rows: (N,) bool, True for each box to select
    """
    image_ids = ground_truth.image_ids[rows]
    return GroundTruth(
        boxes_yxyx=ground_truth.boxes_yxyx[rows],
        labels=ground_truth.labels[rows],
        image_ids=image_ids,
        num_images=len(np.unique(image_ids)),
        split_images=ground_truth.split_images,
    )


def read_ground_truth(folder: Path, split: str) -> GroundTruth:
    """Read the ground-truth boxes of a split, from at most MAX_IMAGES randomly chosen images.

    folder: folder of the shards, data_dir of a recipe
    split: "train" or "val"
    Raises UserError if shards are missing or damaged.
    """
    shard = find_shard(folder, split)
    if (folder / DATASET_INFO_NAME).is_file():
        check_files(read_dataset_info(folder / DATASET_INFO_NAME), folder, split)
    columns = ["img_id", "image", "annotation"]
    split_images = ds.MindDataset(shard, columns, shuffle=False).get_dataset_size()
    rng = np.random.default_rng(SEED)
    indices = sorted(rng.choice(split_images, min(split_images, MAX_IMAGES), replace=False).tolist())
    data = ds.MindDataset(shard, columns, sampler=ds.SubsetSampler(indices))
    upright = shards_are_upright(folder)
    box_parts, label_parts, id_parts = [np.zeros((0, 4))], [np.zeros(0)], [np.zeros(0, dtype=np.int64)]
    with shard_errors(shard), Progress(len(indices), f"reading {split}", "images") as progress:
        for image_id, image, annotation in data.create_tuple_iterator(num_epochs=1, output_numpy=True):
            with name_undecodable_image(image_id, row=0):
                height, width = read_size(image.tobytes(), upright)
            box_parts.append(annotation[:, :4] / np.array([height, width, height, width], dtype=np.float64))
            label_parts.append(annotation[:, 4])
            id_parts.append(np.repeat(image_id, len(annotation)))
            progress.update()
    boxes_yxyx, labels = np.concatenate(box_parts), np.concatenate(label_parts)
    is_box = (labels > 0) & (boxes_yxyx[:, 2:] > boxes_yxyx[:, :2]).all(axis=1)  # class 0 is padding
    return GroundTruth(
        boxes_yxyx=boxes_yxyx[is_box],
        labels=labels[is_box].astype(int),
        image_ids=np.concatenate(id_parts)[is_box],
        num_images=len(indices),
        split_images=split_images,
    )
