"""Configure a dataset of small batches, and read its batches."""

import os
import shutil

import numpy as np

from ssd.config.loading import CONFIGS, load_config
from ssd.data.dataset import (
    create_dataset,
)

RECIPE = CONFIGS.parent / "examples" / "det" / "ssd" / "ssd_mobilenetv2.yaml"


NO_AUGMENT = {"augment.crop_prob": 0, "augment.flip_prob": 0, "augment.color_prob": 0}


def configure(folder, **changes):
    """Return a small Config for a folder of shards."""
    values = {"data_dir": str(folder), "device_target": "CPU", "image_size": [48, 64], "batch_size": 2, **changes}
    return load_config(RECIPE, values)


def batches(cfg, split="train", epochs=1, rank=0, world_size=1):
    """Return for each epoch the list of its batches, each a list of arrays."""
    data = create_dataset(cfg, split, rank=rank, world_size=world_size)
    iterator = data.create_tuple_iterator(num_epochs=epochs, output_numpy=True)
    return [list(iterator) for _ in range(epochs)]


def equal(first, second):
    """Return whether two lists of batches are equal bit for bit."""
    pairs = [(a, b) for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True)]
    return all(np.array_equal(a, b) for a, b in pairs)


def linked(folder, out):
    """Copy a folder by hard links, which a test may remove or replace."""
    return shutil.copytree(folder, out, copy_function=os.link)
