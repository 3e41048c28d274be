"""Shards to batches: shapes and types, every image once, the same for the same seed, and broken folders refused."""

import json
import os
import shutil

import cv2
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from mindspore.mindrecord import FileWriter
from mindspore.train import Model

from ssd.config.loading import CONFIGS, load_config
from ssd.data import dataset as dataset_module
from ssd.data.batches import TrainBatch
from ssd.data.dataset import create_dataset, image_ids_of_step, max_boxes_of
from ssd.data.images import decode_image
from ssd.errors import UserError

RECIPE = CONFIGS.parent / "examples" / "det" / "ssd" / "ssd_mobilenetv2.yaml"
PLAIN = {"augment.crop_prob": 0, "augment.flip_prob": 0, "augment.color_prob": 0}


def configure(folder, **changes):
    """A small Config on a folder of shards; `augment__flip_prob` is augment.flip_prob."""
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    values = {"data_dir": str(folder), "device_target": "CPU", "image_size": [48, 64], "batch_size": 2, **changes}
    return load_config(RECIPE, values)


def batches(cfg, split="train", epochs=1, **world_size):
    """A list for each epoch of its batches, each a list of arrays."""
    data = create_dataset(cfg, split, **world_size)
    iterator = data.create_tuple_iterator(num_epochs=epochs, output_numpy=True)
    return [list(iterator) for _ in range(epochs)]


def equal(first, second):
    """Whether two lists of batches are the same to the last bit."""
    pairs = [(a, b) for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True)]
    return all(np.array_equal(a, b) for a, b in pairs)


def linked(folder, out):
    """The same folder again, by links, which a test may remove or replace."""
    return shutil.copytree(folder, out, copy_function=os.link)


# --- training ---


def test_training_batches_are_as_documented(shapes_records):
    (epoch,) = batches(configure(shapes_records, batch_size=4))
    assert len(epoch) == 2  # 10 images: the rest of 2 is dropped
    max_boxes = json.loads((shapes_records / "dataset.json").read_text())["train"]["max_boxes"]
    for image, boxes_yxyx, labels in epoch:
        assert image.shape == (4, 48, 64, 3) and image.dtype == np.uint8
        assert boxes_yxyx.shape == (4, max_boxes, 4) and boxes_yxyx.dtype == np.float32
        assert labels.shape == (4, max_boxes) and labels.dtype == np.int32
        assert boxes_yxyx.min() >= 0 and 0.5 < boxes_yxyx.max() <= 1
        assert (boxes_yxyx[labels == 0] == 0).all() and (boxes_yxyx[labels > 0, 2:] > 0).all()
        assert labels.max() <= 6 and (labels > 0).any(axis=1).all()


def test_the_last_batch_can_be_kept(shapes_records):
    (epoch,) = batches(configure(shapes_records, batch_size=4, drop_remainder=False))
    assert [len(batch[0]) for batch in epoch] == [4, 4, 2]


def test_without_augmentation_images_and_boxes_are_those_of_the_files(shapes_records, shapes_coco):
    content = json.loads((shapes_coco / "annotations" / "instances_train2017.json").read_text())
    (epoch,) = batches(configure(shapes_records, shuffle=False, batch_size=10, **PLAIN))
    image, boxes_yxyx, labels = epoch[0]
    class_of = {2: 1, 5: 2, 7: 3, 11: 4, 18: 5, 34: 6}  # category ids, rising
    for index, entry in enumerate(content["images"]):
        encoded = (shapes_coco / "train2017" / entry["file_name"]).read_bytes()
        np.testing.assert_allclose(image[index].astype(int), cv2.resize(decode_image(encoded), (64, 48)), atol=1)
        own = [annotation for annotation in content["annotations"] if annotation["image_id"] == entry["id"]]
        expected = [[y / 96, x / 96, (y + h) / 96, (x + w) / 96] for x, y, w, h in (a["bbox"] for a in own)]
        np.testing.assert_allclose(boxes_yxyx[index, : len(own)], expected, atol=1e-6)
        assert labels[index, : len(own)].tolist() == [class_of[a["category_id"]] for a in own]
        assert not labels[index, len(own) :].any()


def test_the_same_seed_gives_the_same_batches_for_any_number_of_workers(shapes_records, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: range(2))  # so that two are two where they may be
    first, again, other = (
        batches(
            configure(shapes_records, seed=seed, num_parallel_workers=workers, **{"augment.zoom_out_prob": 0.5}),
            epochs=4,
        )
        for seed, workers in ((3, 1), (3, 2), (4, 1))
    )
    assert not equal(first[0], other[0])
    assert not equal(first[0], first[1])
    for epoch in range(4):  # epochs follow one another without a pause, so workers may be in two at once
        assert equal(first[epoch], again[epoch])


def test_epochs_and_seeds_augment_the_same_image_differently(shapes_records):
    """With shuffle off, what differs is the augmentation."""
    first, other = (batches(configure(shapes_records, seed=seed, shuffle=False), epochs=2) for seed in (3, 4))
    assert not np.array_equal(first[0][0][0][0], first[1][0][0][0])
    assert not np.array_equal(first[0][0][0][0], other[0][0][0][0])


class OneWeight(nn.Cell):
    """A network of one weight, for Model.train."""

    def __init__(self):
        super().__init__()
        self.weight = ms.Parameter(ms.Tensor(1.0))

    def construct(self, image, boxes_yxyx, labels):
        return self.weight * boxes_yxyx.sum()


def test_epochs_of_model_train_are_told_apart(shapes_records, monkeypatch):
    epochs = []
    draw = TrainBatch.draw
    monkeypatch.setattr(
        TrainBatch, "draw", lambda self, image_id, epoch: epochs.append(epoch) or draw(self, image_id, epoch)
    )
    network = OneWeight()
    model = Model(nn.TrainOneStepCell(network, nn.SGD(network.trainable_params(), 1e-9)))
    model.train(3, create_dataset(configure(shapes_records, batch_size=5), "train"), dataset_sink_mode=False)
    assert sorted(epochs) == [0] * 10 + [1] * 10 + [2] * 10


def test_shuffle_changes_the_order_between_epochs(shapes_records):
    def order(epoch):
        return [image.tobytes() for batch in epoch for image in batch[0]]

    first, second = map(order, batches(configure(shapes_records, **PLAIN), epochs=2))
    assert first != second and set(first) == set(second) and len(set(first)) == 10
    (other,) = map(order, batches(configure(shapes_records, seed=1, **PLAIN)))
    assert first != other  # the seed decides the order too
    first, second = map(order, batches(configure(shapes_records, shuffle=False, **PLAIN), epochs=2))
    assert first == second


def test_devices_share_an_epoch(shapes_records):
    cfg = configure(shapes_records, batch_size=5, **PLAIN)
    shares = [batches(cfg, rank=rank, world_size=2)[0] for rank in range(2)]
    images = [image.tobytes() for share in shares for batch in share for image in batch[0]]
    assert [len(share) for share in shares] == [1, 1] and len(set(images)) == 10


def test_steps_per_epoch_shortens_epochs_but_not_what_is_seen(shapes_records):
    cfg = configure(shapes_records, steps_per_epoch=2, **PLAIN)
    assert create_dataset(cfg, "train").get_dataset_size() == 2
    epochs = batches(cfg, epochs=6)
    assert [len(epoch) for epoch in epochs] == [2] * 6
    seen = {image.tobytes() for epoch in epochs for batch in epoch for image in batch[0]}
    assert len(seen) > 4


def test_more_steps_than_there_are_change_nothing(shapes_records):
    assert len(batches(configure(shapes_records, steps_per_epoch=100))[0]) == 5


@pytest.mark.parametrize("world_size", [1, 2])
def test_the_images_of_a_step_are_those_it_had(world_size, shapes_records, monkeypatch):
    seen = []

    class Noting(TrainBatch):
        def __call__(self, img_ids, images, annotations, batch_info):
            seen.append([int(img_id[0]) for img_id in img_ids])
            return super().__call__(img_ids, images, annotations, batch_info)

    monkeypatch.setattr(dataset_module, "TrainBatch", Noting)
    cfg = configure(shapes_records, epoch_size=3, num_parallel_workers=1)
    for rank in range(world_size):
        seen.clear()
        steps = 5 // world_size
        assert [len(epoch) for epoch in batches(cfg, epochs=3, rank=rank, world_size=world_size)] == [steps] * 3
        told = [image_ids_of_step(cfg, step, rank, world_size) for step in range(1, 3 * steps + 1)]
        assert told == seen[: 3 * steps]
        assert told[:steps] != told[steps : 2 * steps]  # shuffled anew


def test_devices_share_out_the_batches_of_one(shapes_records):
    """So that a training can go on with another number of them."""
    alone, shared = (configure(shapes_records, batch_size=size) for size in (4, 2))
    for step in (1, 2, 3, 4):  # of two epochs
        together = [image_ids_of_step(shared, step, rank, world_size=2) for rank in (0, 1)]
        assert sorted(sum(together, [])) == sorted(image_ids_of_step(alone, step))
    sizes = [create_dataset(shared, "train", rank, 2).get_dataset_size() for rank in (0, 1)]
    assert sizes == [2, 2] and create_dataset(alone, "train").get_dataset_size() == 2


def test_steps_are_as_many_for_any_number_of_devices(shapes_records):
    """Ten images on three devices are four each, enough for two batches of two; yet one device has one of six."""
    sizes = [
        create_dataset(
            configure(shapes_records, batch_size=6 // world_size), "train", rank, world_size
        ).get_dataset_size()
        for world_size in (1, 2, 3, 6)
        for rank in range(world_size)
    ]
    assert sizes == [1] * 12


def test_a_batch_larger_than_the_set_is_refused(shapes_records):
    with pytest.raises(UserError, match="got 10 training images for 1 x batch_size 11, .*; lower --batch_size"):
        create_dataset(configure(shapes_records, batch_size=11), "train")
    with pytest.raises(UserError, match="got 10 training images for 2 x batch_size 6"):
        create_dataset(configure(shapes_records, batch_size=6), "train", rank=0, world_size=2)
    (epoch,) = batches(configure(shapes_records, batch_size=11, drop_remainder=False))
    assert [len(batch[0]) for batch in epoch] == [10]


# --- validation ---


def test_validation_gives_every_image_once_in_order(shapes_records, shapes_coco):
    (epoch,) = batches(configure(shapes_records, batch_size=3, steps_per_epoch=1), "val")
    assert [len(batch[0]) for batch in epoch] == [3, 1]  # the rest too, and all of it
    content = json.loads((shapes_coco / "annotations" / "instances_val2017.json").read_text())
    names = {entry["id"]: entry["file_name"] for entry in content["images"]}
    cv2.ipp.setUseIPP_NotExact(False)  # other tests leave it as training does
    for image, image_id, original_size in epoch:
        assert image.shape[1:] == (48, 64, 3) and image.dtype == np.uint8
        assert image_id.shape == image.shape[:1] and image_id.dtype == np.int64
        assert original_size.dtype == np.int32 and (original_size == 96).all() and original_size.shape[1:] == (2,)
        for index, id_ in enumerate(image_id):
            encoded = (shapes_coco / "val2017" / names.pop(id_)).read_bytes()
            assert np.array_equal(image[index], cv2.resize(decode_image(encoded), (64, 48)))
    assert names == {}
    assert [int(id_) for batch in epoch for id_ in batch[1]] == [11, 12, 13, 14]


def test_validation_takes_batches_larger_than_the_set(shapes_records):
    (epoch,) = batches(configure(shapes_records, batch_size=100), "val")
    assert [len(batch[0]) for batch in epoch] == [4]


# --- the shards of MindCV's example ---


@pytest.fixture(scope="module")
def published_shards(tmp_path_factory):
    """Shards as MindCV's example writes them: int32 columns, no dataset.json. Image 1, 2 and 3 have as many objects."""
    folder = tmp_path_factory.mktemp("published")
    schema = {
        "img_id": {"type": "int32", "shape": [1]},
        "image": {"type": "bytes"},
        "annotation": {"type": "int32", "shape": [-1, 5]},
    }
    for split in ("train", "val"):
        (folder / split).mkdir()
        writer = FileWriter(str(folder / split / "coco"), shard_num=8)
        writer.add_schema(schema, "coco_json")
        for image_id in (1, 2, 3):
            image = cv2.imencode(".jpg", np.full((40 + image_id, 80, 3), 50 * image_id, np.uint8))[1].tobytes()
            annotation = np.array([[10, 20, 30, 40, 5]] * image_id, dtype=np.int32)
            img_id = np.array([image_id], dtype=np.int32)
            writer.write_raw_data([{"img_id": img_id, "image": image, "annotation": annotation}])
        writer.commit()
    return folder


def test_published_shards_train(published_shards):
    cfg = configure(published_shards, batch_size=3, shuffle=False, **PLAIN)
    assert cfg.num_classes == 81  # COCO's, where no dataset.json tells others
    assert max_boxes_of(published_shards) == 3
    image, boxes_yxyx, labels = batches(cfg)[0][0]
    assert boxes_yxyx.dtype == np.float32 and labels.dtype == np.int32
    for pixels, boxes, classes in zip(image, boxes_yxyx, labels):
        image_id = round(int(pixels[0, 0, 0]) / 50)
        assert classes.tolist() == [5] * image_id + [0] * (3 - image_id)
        height = 40 + image_id
        np.testing.assert_allclose(boxes[0], [10 / height, 20 / 80, 30 / height, 40 / 80], atol=1e-6)


def test_published_shards_evaluate(published_shards):
    (epoch,) = batches(configure(published_shards), "val")
    sizes = {int(id_): size.tolist() for _, ids, sizes in epoch for id_, size in zip(ids, sizes)}
    assert sizes == {1: [41, 80], 2: [42, 80], 3: [43, 80]}
    assert all(ids.dtype == np.int64 for _, ids, _ in epoch)


def test_an_only_shard_is_found(tmp_path):
    (tmp_path / "train").mkdir()
    writer = FileWriter(str(tmp_path / "train" / "coco"), shard_num=1)
    schema = {"img_id": {"type": "int64", "shape": [1]}, "image": {"type": "bytes"}}
    writer.add_schema({**schema, "annotation": {"type": "float32", "shape": [-1, 5]}}, "objects")
    image = cv2.imencode(".png", np.zeros((80, 120, 3), np.uint8))[1].tobytes()
    annotation = np.float32([[20, 30, 60, 70, 3]])
    writer.write_raw_data([{"img_id": np.array([7]), "image": image, "annotation": annotation}])
    writer.commit()
    assert batches(configure(tmp_path, batch_size=1))[0][0][2].tolist() == [[3]]


# --- refused ---


def test_missing_shards_are_refused(tmp_path):
    for split in ("train", "val"):
        with pytest.raises(UserError, match=f"{split}/coco0: got no such file, .*create_data.py"):
            create_dataset(configure(tmp_path), split)


@pytest.mark.parametrize("name", ["coco0", "coco5", "coco5.db"])
def test_a_missing_or_truncated_shard_is_refused(name, shapes_records, tmp_path):
    folder = linked(shapes_records, tmp_path / "records")
    for split in ("train", "val"):
        (folder / split / name).unlink()
        with pytest.raises(UserError, match=f"{split}/{name}: got no such file"):
            create_dataset(configure(folder), split)
        (folder / split / name).write_bytes(b"half")
        with pytest.raises(UserError, match=f"{split}/{name}: got 4 bytes, expected"):
            create_dataset(configure(folder), split)


def test_changed_annotations_are_refused(shapes_records, tmp_path):
    folder = linked(shapes_records, tmp_path / "records")
    path = folder / "annotations" / "instances_val2017.json"
    path.unlink()
    path.write_text("{}")
    with pytest.raises(UserError, match="instances_val2017.json: got annotations that have changed"):
        create_dataset(configure(folder), "val")


@pytest.mark.parametrize("name", ["coco0", "coco5"])
def test_published_shards_that_are_not_whole_are_refused(name, published_shards, tmp_path):
    folder = linked(published_shards, tmp_path / "records")
    (folder / "train" / name).unlink()
    with pytest.raises(UserError, match="train/coco"):
        batches(configure(folder))
