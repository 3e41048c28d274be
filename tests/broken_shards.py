"""Copy shards with another image or annotation in one record, as a damaged disk or another project leaves them."""

import json
import os
import shutil
from pathlib import Path

import mindspore.dataset as ds
import numpy as np
from mindspore.mindrecord import FileWriter

from ssd.data.dataset import find_shard
from ssd.data.mindrecord import SCHEMA, SHARDS

SCAN_HEADER = 14  # bytes from the start-of-scan marker to the pixels of a JPEG with three channels


def start_of_frame(jpeg: bytes, marker: int) -> bytes:
    """Return a baseline JPEG whose start-of-frame marker says another coding: 0xC3 lossless, 0xC9 arithmetic."""
    return jpeg.replace(b"\xff\xc0", bytes([0xFF, marker]), 1)


def zeroed_body(jpeg: bytes) -> bytes:
    """Return a JPEG whose pixels are zero bytes, between the intact header and the end marker."""
    start = jpeg.index(b"\xff\xda") + SCAN_HEADER
    return jpeg[:start] + bytes(len(jpeg) - start - 2) + jpeg[-2:]


def copy_shards(source: Path, target: Path, split: str, schema=None, **columns) -> int:
    """Copy a folder of shards, and change the third record of a split.

    schema: columns of the new shards; None keeps those of create_data.py
    columns: {column: function from the stored value to the new one}
    Returns the image id of the changed record.
    """
    # Hard links: shards are sparse files, of which copies would take 50 MB each.
    shutil.copytree(source, target, copy_function=os.link)
    data = ds.MindDataset(find_shard(source, split), ["img_id", "image", "annotation"], shuffle=False)
    rows = [
        {"img_id": img_id, "image": image.tobytes(), "annotation": annotation}
        for img_id, image, annotation in data.create_tuple_iterator(num_epochs=1, output_numpy=True)
    ]
    changed_id = int(rows[2]["img_id"][0])
    for row in rows if schema else rows[2:3]:
        row.update({name: change(row[name]) for name, change in columns.items()})
    shutil.rmtree(target / split)
    (target / split).mkdir()
    writer = FileWriter(str(target / split / "coco"), shard_num=SHARDS)
    writer.add_schema(schema or SCHEMA, "changed")
    writer.write_raw_data([{name: row[name] for name in (schema or SCHEMA)} for row in rows])
    writer.commit()
    info = json.loads((target / "dataset.json").read_text())
    info[split]["shards"] = {f"{split}/{path.name}": path.stat().st_size for path in (target / split).iterdir()}
    (target / "dataset.json").unlink()
    (target / "dataset.json").write_text(json.dumps(info))
    return changed_id


BROKEN_IMAGES = {
    "lossless": lambda jpeg: start_of_frame(jpeg, 0xC3),
    "unknown coding": lambda jpeg: start_of_frame(jpeg, 0xCB),
    "header": lambda jpeg: jpeg[:100],
    "garbage": lambda jpeg: b"no image" * 100,
    "noise": lambda jpeg: np.random.default_rng(0).bytes(len(jpeg)),
    "a byte": lambda jpeg: b"x",
}
