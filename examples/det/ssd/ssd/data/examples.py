"""The first images of a split, to be looked at."""

from __future__ import annotations

from pathlib import Path

import mindspore.dataset as ds
import numpy as np

from .batches import named
from .dataset import find_shard
from .images import decode_image


def read_examples(folder: Path, split: str, count: int) -> list[tuple[int, np.ndarray]]:
    """The first `count` images of a split, fewer if it has no more, always the same: [(image id, pixels)].

    folder: data_dir; split: train or val; count: 1 or more; pixels: (H, W, 3) uint8 RGB, in full size
    Raises UserError.
    """
    data = ds.MindDataset(find_shard(folder, split), ["img_id", "image"], shuffle=False).take(count)
    examples = []
    for img_id, encoded in data.create_tuple_iterator(num_epochs=1, output_numpy=True):
        with named(img_id):
            examples.append((int(img_id[0]), decode_image(encoded.tobytes())))
    return examples
