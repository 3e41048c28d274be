"""Datasets: shapes and types, every image once, reproducible by seed, incomplete folders are errors."""

import json

import cv2
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from mindspore.train import Model

from dataset_batches import NO_AUGMENT, batches, configure, equal
from ssd.data import dataset as dataset_module
from ssd.data.batches import TrainBatchTransform
from ssd.data.dataset import (
    count_boxes_above,
    create_dataset,
    image_ids_of_step,
    max_boxes_per_image,
)
from ssd.data.images import decode_image
from ssd.errors import UserError

# --- training ---


def test_training_batch_has_the_documented_shapes_and_types(shapes_records):
    (epoch,) = batches(configure(shapes_records, batch_size=4))
    assert len(epoch) == 2  # of 10 images, the last 2 are dropped
    max_boxes = json.loads((shapes_records / "dataset.json").read_text())["train"]["max_boxes"]
    for image, boxes_yxyx, labels in epoch:
        assert image.shape == (4, 48, 64, 3) and image.dtype == np.uint8
        assert boxes_yxyx.shape == (4, max_boxes, 4) and boxes_yxyx.dtype == np.float32
        assert labels.shape == (4, max_boxes) and labels.dtype == np.int32
        assert boxes_yxyx.min() >= 0 and 0.5 < boxes_yxyx.max() <= 1
        assert (boxes_yxyx[labels == 0] == 0).all() and (boxes_yxyx[labels > 0, 2:] > 0).all()
        assert labels.max() <= 6 and (labels > 0).any(axis=1).all()


def test_max_gt_limits_the_rows_of_a_batch_to_those_that_are_needed(shapes_records):
    most = max_boxes_per_image(shapes_records)
    assert most > 2
    whole, same, limited = (
        batches(configure(shapes_records, batch_size=5, shuffle=False, **keys))[0]
        for keys in ({}, {"max_gt": most + 1}, {"max_gt": 2})
    )
    assert equal(whole, same)
    for (pixels, boxes_yxyx, labels), (image, _, _) in zip(limited, whole, strict=True):
        assert boxes_yxyx.shape == (5, 2, 4) and labels.shape == (5, 2) and np.array_equal(pixels, image)


def test_boxes_above_a_number_are_counted(shapes_records, mindcv_shards):
    assert count_boxes_above(mindcv_shards, 1) == (2, 3)  # the images have 1, 2 and 3 boxes
    assert count_boxes_above(mindcv_shards, 2) == (1, 1)
    assert count_boxes_above(mindcv_shards, 3) == (0, 0)
    assert count_boxes_above(shapes_records, max_boxes_per_image(shapes_records)) == (0, 0)


def test_last_batch_is_kept_without_drop_remainder(shapes_records):
    (epoch,) = batches(configure(shapes_records, batch_size=4, drop_remainder=False))
    assert [len(batch[0]) for batch in epoch] == [4, 4, 2]


def test_images_and_boxes_are_those_of_the_files_without_augmentation(shapes_records, shapes_coco):
    content = json.loads((shapes_coco / "annotations" / "instances_train2017.json").read_text())
    (epoch,) = batches(configure(shapes_records, shuffle=False, batch_size=10, **NO_AUGMENT))
    image, boxes_yxyx, labels = epoch[0]
    class_of = {2: 1, 5: 2, 7: 3, 11: 4, 18: 5, 34: 6}  # by category id, in ascending order
    for index, entry in enumerate(content["images"]):
        encoded = (shapes_coco / "train2017" / entry["file_name"]).read_bytes()
        np.testing.assert_allclose(image[index].astype(int), cv2.resize(decode_image(encoded), (64, 48)), atol=1)
        own = [annotation for annotation in content["annotations"] if annotation["image_id"] == entry["id"]]
        expected = [[y / 96, x / 96, (y + h) / 96, (x + w) / 96] for x, y, w, h in (a["bbox"] for a in own)]
        np.testing.assert_allclose(boxes_yxyx[index, : len(own)], expected, atol=1e-6)
        assert labels[index, : len(own)].tolist() == [class_of[a["category_id"]] for a in own]
        assert not labels[index, len(own) :].any()


def test_batches_depend_on_the_seed_and_not_on_the_number_of_workers(shapes_records, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: range(2))  # so that 2 workers are allowed on any machine
    first, repeated, other = (
        batches(
            configure(shapes_records, seed=seed, num_parallel_workers=workers, **{"augment.zoom_out_prob": 0.5}),
            epochs=4,
        )
        for seed, workers in ((3, 1), (3, 2), (4, 1))
    )
    assert not equal(first[0], other[0])
    assert not equal(first[0], first[1])
    for epoch in range(4):  # epochs overlap: workers may already prepare the next one
        assert equal(first[epoch], repeated[epoch])


def test_augmentation_differs_between_epochs_and_seeds(shapes_records):
    # Without shuffling, only the augmentation can differ.
    first, other = (batches(configure(shapes_records, seed=seed, shuffle=False), epochs=2) for seed in (3, 4))
    assert not np.array_equal(first[0][0][0][0], first[1][0][0][0])
    assert not np.array_equal(first[0][0][0][0], other[0][0][0][0])


class OneWeight(nn.Cell):
    """A network with one weight, for Model.train."""

    def __init__(self):
        super().__init__()
        self.weight = ms.Parameter(ms.Tensor(1.0))

    def construct(self, image, gt_boxes_yxyx, gt_labels):
        return self.weight * gt_boxes_yxyx.sum()


def test_each_epoch_of_model_train_is_augmented_differently(shapes_records, monkeypatch):
    epochs = []
    draw = TrainBatchTransform.draw
    monkeypatch.setattr(
        TrainBatchTransform, "draw", lambda self, image_id, epoch: epochs.append(epoch) or draw(self, image_id, epoch)
    )
    network = OneWeight()
    model = Model(nn.TrainOneStepCell(network, nn.SGD(network.trainable_params(), 1e-9)))
    model.train(3, create_dataset(configure(shapes_records, batch_size=5), "train"), dataset_sink_mode=False)
    assert sorted(epochs) == [0] * 10 + [1] * 10 + [2] * 10


def test_shuffle_changes_the_order_between_epochs(shapes_records):
    def order(epoch):
        return [image.tobytes() for batch in epoch for image in batch[0]]

    first, second = map(order, batches(configure(shapes_records, **NO_AUGMENT), epochs=2))
    assert first != second and set(first) == set(second) and len(set(first)) == 10
    (other,) = map(order, batches(configure(shapes_records, seed=1, **NO_AUGMENT)))
    assert first != other  # the seed decides the order too
    first, second = map(order, batches(configure(shapes_records, shuffle=False, **NO_AUGMENT), epochs=2))
    assert first == second


def test_devices_split_the_images_of_an_epoch(shapes_records):
    cfg = configure(shapes_records, batch_size=5, **NO_AUGMENT)
    shares = [batches(cfg, rank=rank, world_size=2)[0] for rank in range(2)]
    images = [image.tobytes() for share in shares for batch in share for image in batch[0]]
    assert [len(share) for share in shares] == [1, 1] and len(set(images)) == 10


def test_shorter_epochs_still_cover_all_images_over_time(shapes_records):
    cfg = configure(shapes_records, steps_per_epoch=2, **NO_AUGMENT)
    assert create_dataset(cfg, "train").get_dataset_size() == 2
    epochs = batches(cfg, epochs=6)
    assert [len(epoch) for epoch in epochs] == [2] * 6
    seen = {image.tobytes() for epoch in epochs for batch in epoch for image in batch[0]}
    assert len(seen) > 4


def test_steps_per_epoch_cannot_lengthen_an_epoch(shapes_records):
    assert len(batches(configure(shapes_records, steps_per_epoch=100))[0]) == 5


@pytest.mark.parametrize("world_size", [1, 2])
def test_image_ids_of_step_are_those_of_the_training_batches(world_size, shapes_records, monkeypatch):
    seen = []

    class RecordingTransform(TrainBatchTransform):
        def __call__(self, img_ids, images, annotations, batch_info):
            seen.append([int(img_id[0]) for img_id in img_ids])
            return super().__call__(img_ids, images, annotations, batch_info=batch_info)

    monkeypatch.setattr(dataset_module, "TrainBatchTransform", RecordingTransform)
    cfg = configure(shapes_records, epoch_size=3, num_parallel_workers=1)
    for rank in range(world_size):
        seen.clear()
        steps = 5 // world_size
        assert [len(epoch) for epoch in batches(cfg, epochs=3, rank=rank, world_size=world_size)] == [steps] * 3
        ids = [image_ids_of_step(cfg, step, rank=rank, world_size=world_size) for step in range(1, 3 * steps + 1)]
        assert ids == seen[: 3 * steps]
        assert ids[:steps] != ids[steps : 2 * steps]  # each epoch has its own order


def test_devices_together_have_the_batches_of_a_single_device(shapes_records):
    """Training can therefore be resumed with another number of devices."""
    alone, shared = (configure(shapes_records, batch_size=size) for size in (4, 2))
    for step in (1, 2, 3, 4):  # of two epochs
        together = [image_ids_of_step(shared, step, rank=rank, world_size=2) for rank in (0, 1)]
        assert sorted(sum(together, [])) == sorted(image_ids_of_step(alone, step))
    sizes = [create_dataset(shared, "train", rank=rank, world_size=2).get_dataset_size() for rank in (0, 1)]
    assert sizes == [2, 2] and create_dataset(alone, "train").get_dataset_size() == 2


def test_number_of_steps_is_the_same_for_any_number_of_devices(shapes_records):
    """Each of 3 devices gets 4 of 10 images, enough for 2 batches of 2, but a single device has only 1 batch of 6."""
    sizes = [
        create_dataset(
            configure(shapes_records, batch_size=6 // world_size), "train", rank=rank, world_size=world_size
        ).get_dataset_size()
        for world_size in (1, 2, 3, 6)
        for rank in range(world_size)
    ]
    assert sizes == [1] * 12


def test_batch_larger_than_the_training_split_is_an_error(shapes_records):
    with pytest.raises(UserError, match="10 .* batch_size 11.*--batch_size"):
        create_dataset(configure(shapes_records, batch_size=11), "train")
    with pytest.raises(UserError, match="10 .* 12 .*2 devices x batch_size 6"):
        create_dataset(configure(shapes_records, batch_size=6), "train", rank=0, world_size=2)
    (epoch,) = batches(configure(shapes_records, batch_size=11, drop_remainder=False))
    assert [len(batch[0]) for batch in epoch] == [10]


# --- validation ---


def test_validation_has_every_image_once_in_order(shapes_records, shapes_coco):
    (epoch,) = batches(configure(shapes_records, batch_size=3, steps_per_epoch=1), "val")
    assert [len(batch[0]) for batch in epoch] == [3, 1]  # neither shortened nor without the last batch
    content = json.loads((shapes_coco / "annotations" / "instances_val2017.json").read_text())
    names = {entry["id"]: entry["file_name"] for entry in content["images"]}
    cv2.ipp.setUseIPP_NotExact(False)  # other tests leave it switched on
    for image, image_id, original_size in epoch:
        assert image.shape[1:] == (48, 64, 3) and image.dtype == np.uint8
        assert image_id.shape == image.shape[:1] and image_id.dtype == np.int64
        assert original_size.dtype == np.int32 and (original_size == 96).all() and original_size.shape[1:] == (2,)
        for index, id_ in enumerate(image_id):
            encoded = (shapes_coco / "val2017" / names.pop(id_)).read_bytes()
            assert np.array_equal(image[index], cv2.resize(decode_image(encoded), (64, 48)))
    assert names == {}
    assert [int(id_) for batch in epoch for id_ in batch[1]] == [11, 12, 13, 14]


def test_validation_batch_may_be_larger_than_the_split(shapes_records):
    (epoch,) = batches(configure(shapes_records, batch_size=100), "val")
    assert [len(batch[0]) for batch in epoch] == [4]


def test_the_loader_has_a_thread_for_each_core_of_its_rank(shapes_records, monkeypatch):
    monkeypatch.setattr("mindspore.dataset.core.validator_helpers.cpu_count", lambda: 192)
    cfg = configure(shapes_records, num_parallel_workers=8)
    for split in ("train", "val"):
        threads = [create_dataset(cfg, split, num_cores=cores).num_parallel_workers for cores in (24.0, 3.5, 0.5)]
        assert threads == [8, 3, 1]
