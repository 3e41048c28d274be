"""Folders of shards: the layout of MindCV's example, and files that are missing or have changed."""

import cv2
import numpy as np
import pytest
from mindspore.mindrecord import FileWriter

from dataset_batches import NO_AUGMENT, batches, configure, linked
from ssd.data.dataset import (
    count_boxes_above,
    create_dataset,
    max_boxes_per_image,
)
from ssd.errors import UserError


def test_training_batch_from_mindcv_shards(mindcv_shards):
    cfg = configure(mindcv_shards, batch_size=3, shuffle=False, **NO_AUGMENT)
    assert cfg.num_classes == 81  # COCO's, because there is no dataset.json
    assert max_boxes_per_image(mindcv_shards) == 3
    image, boxes_yxyx, labels = batches(cfg)[0][0]
    assert boxes_yxyx.dtype == np.float32 and labels.dtype == np.int32
    for pixels, boxes, classes in zip(image, boxes_yxyx, labels):
        image_id = round(int(pixels[0, 0, 0]) / 50)
        assert classes.tolist() == [5] * image_id + [0] * (3 - image_id)
        height = 40 + image_id
        np.testing.assert_allclose(boxes[0], [10 / height, 20 / 80, 30 / height, 40 / 80], atol=1e-6)


def test_validation_batch_from_mindcv_shards(mindcv_shards):
    (epoch,) = batches(configure(mindcv_shards), "val")
    sizes = {int(id_): size.tolist() for _, ids, sizes in epoch for id_, size in zip(ids, sizes)}
    assert sizes == {1: [41, 80], 2: [42, 80], 3: [43, 80]}
    assert all(ids.dtype == np.int64 for _, ids, _ in epoch)


def test_single_shard_is_found(tmp_path):
    (tmp_path / "train").mkdir()
    writer = FileWriter(str(tmp_path / "train" / "coco"), shard_num=1)
    schema = {"img_id": {"type": "int64", "shape": [1]}, "image": {"type": "bytes"}}
    writer.add_schema({**schema, "annotation": {"type": "float32", "shape": [-1, 5]}}, "objects")
    image = cv2.imencode(".png", np.zeros((80, 120, 3), np.uint8))[1].tobytes()
    annotation = np.float32([[20, 30, 60, 70, 3]])
    writer.write_raw_data([{"img_id": np.array([7]), "image": image, "annotation": annotation}])
    writer.commit()
    assert batches(configure(tmp_path, batch_size=1))[0][0][2].tolist() == [[3]]


def test_missing_shards_are_an_error(tmp_path):
    for split in ("train", "val"):
        with pytest.raises(UserError, match=f"{split}/coco0: "):
            create_dataset(configure(tmp_path), split)


@pytest.mark.parametrize("name", ["coco0", "coco5", "coco5.db"])
def test_missing_or_truncated_shard_is_an_error(name, shapes_records, tmp_path):
    folder = linked(shapes_records, tmp_path / "records")
    for split in ("train", "val"):
        (folder / split / name).unlink()
        with pytest.raises(UserError, match=f"{split}/{name}: "):
            create_dataset(configure(folder), split)
        (folder / split / name).write_bytes(b"half")
        with pytest.raises(UserError, match=f"{split}/{name}: .*4 bytes"):
            create_dataset(configure(folder), split)


def test_changed_annotations_are_an_error(shapes_records, tmp_path):
    folder = linked(shapes_records, tmp_path / "records")
    path = folder / "annotations" / "instances_val2017.json"
    path.unlink()
    path.write_text("{}")
    with pytest.raises(UserError, match="instances_val2017.json: "):
        create_dataset(configure(folder), "val")


@pytest.mark.parametrize("name", ["coco0", "coco5"])
def test_missing_mindcv_shard_is_an_error(name, mindcv_shards, tmp_path):
    folder = linked(mindcv_shards, tmp_path / "records")
    (folder / "train" / name).unlink()
    with pytest.raises(UserError, match="train/coco"):
        batches(configure(folder))
    for count in (max_boxes_per_image, lambda folder: count_boxes_above(folder, 1)):
        with pytest.raises(UserError, match="train/coco"):
            count(folder)
