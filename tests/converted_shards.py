"""Convert drawn images to shards, change their annotations, and read the shards back."""

import json

import numpy as np
from mindspore.dataset import MindDataset

from ssd.data import mindrecord
from ssd.data.readers.coco import read_coco

SPLITS = ("train2017", "val2017")


def convert(coco, out, overwrite=False):
    train, val = (read_coco(coco / "annotations" / f"instances_{name}.json", coco / name) for name in SPLITS)
    return mindrecord.convert(train, val, out, overwrite=overwrite, num_workers=1)


def edit(coco, split, change):
    """Change the content of an annotation file with change(content)."""
    path = coco / "annotations" / f"instances_{split}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def files_of(folder):
    """Return {path: inode, size, time} of the files below a folder; shards are too large to compare their bytes."""
    stats = {path.relative_to(folder).as_posix(): path.stat() for path in folder.rglob("*") if path.is_file()}
    return {name: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}


def records_of(folder, split):
    """Return {image id: (encoded image, annotation)} of the shards, which must contain each id once."""
    data = MindDataset(str(folder / split / "coco0"), ["img_id", "image", "annotation"], shuffle=False)
    rows = list(data.create_tuple_iterator(num_epochs=1, output_numpy=True))
    records = {int(img_id[0]): (image.tobytes(), annotation) for img_id, image, annotation in rows}
    assert len(records) == len(rows)
    assert all(img_id.dtype == np.int64 and annotation.dtype == np.float32 for img_id, _, annotation in rows)
    return records


def expect_records(folder, coco):
    """The shards contain every image of the annotation files with its bytes and its boxes."""
    for name, source in zip(("train", "val"), SPLITS):
        split = read_coco(coco / "annotations" / f"instances_{source}.json", coco / source)
        records = records_of(folder, name)
        assert records.keys() == {image.image_id for image in split.images}
        for image in split.images:
            encoded, annotation = records[image.image_id]
            assert encoded == image.path.read_bytes()
            np.testing.assert_array_equal(annotation, image.ground_truth.astype(np.float32))
