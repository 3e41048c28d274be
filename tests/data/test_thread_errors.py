"""Errors inside MindSpore's data threads reach the caller as the UserError that was raised, through real pipelines."""

import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import nn
from mindspore.train import Model

from broken_shards import BROKEN_IMAGES, copy_shards
from ssd.config.loading import CONFIGS, load_config
from ssd.data.dataset import create_dataset, iterate_batches, max_boxes_per_image, read_images
from ssd.data.mindrecord import SCHEMA
from ssd.data.thread_errors import ErrorRecorder, raise_thread_errors
from ssd.errors import UserError

RECIPE = CONFIGS.parent / "examples" / "det" / "ssd" / "ssd_mobilenetv2.yaml"
SPLITS = ("train", "val")


class SumOfBoxes(nn.Cell):
    """A step that trains nothing."""

    def construct(self, image, gt_boxes_yxyx, gt_labels):
        return gt_boxes_yxyx.sum()


def configure(folder, **changes):
    values = {"image_size": [48, 64], "batch_size": 2, "shuffle": False, "num_parallel_workers": 2, **changes}
    return load_config(RECIPE, {"device_target": "CPU", "data_dir": str(folder), **values})


def read(folder, split, **changes):
    return list(iterate_batches(create_dataset(configure(folder, **changes), split)))


def expect_error(folder, split, *parts, **changes):
    """Reading a split raises a UserError of one line with all parts."""
    with pytest.raises(UserError) as caught:
        read(folder, split, **changes)
    message = str(caught.value)
    assert message.startswith(f"{folder / split}")
    assert "\n" not in message and "Traceback" not in message and "UserError" not in message
    assert all(str(part) in message for part in parts), message


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", BROKEN_IMAGES)
def test_an_undecodable_image_is_named(kind, split, shapes_records, tmp_path):
    image_id = copy_shards(shapes_records, tmp_path / "records", split, image=BROKEN_IMAGES[kind])
    expect_error(tmp_path / "records", split, f"image {image_id} ")


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_threads_does_not_matter(workers, split, shapes_records, tmp_path):
    image_id = copy_shards(shapes_records, tmp_path / "records", split, image=BROKEN_IMAGES["garbage"])
    expect_error(tmp_path / "records", split, f"image {image_id} ", num_parallel_workers=workers)


def test_training_raises_the_error_of_the_thread(shapes_records, tmp_path):
    image_id = copy_shards(shapes_records, tmp_path / "records", "train", image=BROKEN_IMAGES["lossless"])
    data = create_dataset(configure(tmp_path / "records"), "train")
    with pytest.raises(UserError, match=f"image {image_id} "), raise_thread_errors(data):
        Model(SumOfBoxes()).train(2, data, dataset_sink_mode=False)


@pytest.mark.parametrize(
    "column, kind, change",
    [
        ("img_id", {"type": "int64"}, lambda value: int(value[0])),
        ("img_id", {"type": "string"}, lambda value: "a"),
        ("annotation", {"type": "float32", "shape": [-1, 4]}, lambda value: value[:, :4]),
        ("annotation", {"type": "float32", "shape": [-1, 6]}, lambda value: np.pad(value, ((0, 0), (0, 1)))),
        ("annotation", {"type": "float32", "shape": [-1]}, lambda value: value.ravel()),
    ],
)
def test_records_of_another_project_are_refused(column, kind, change, shapes_records, tmp_path):
    copy_shards(shapes_records, tmp_path / "records", "train", schema={**SCHEMA, column: kind}, **{column: change})
    expect_error(tmp_path / "records", "train", column)


@pytest.mark.parametrize("split", SPLITS)
def test_shards_without_the_columns_are_refused(split, shapes_records, tmp_path):
    copy_shards(shapes_records, tmp_path / "records", split, schema={"img_id": SCHEMA["img_id"]})
    expect_error(tmp_path / "records", split, f"{split}/coco0")
    with pytest.raises(UserError, match=f"{split}/coco0"):
        read_images(tmp_path / "records", split, range(100))


def test_boxes_are_not_counted_in_shards_without_annotations(shapes_records, tmp_path):
    copy_shards(shapes_records, tmp_path / "records", "train", schema={"img_id": SCHEMA["img_id"]})
    (tmp_path / "records" / "dataset.json").unlink()
    with pytest.raises(UserError, match="train/coco0"):
        max_boxes_per_image(tmp_path / "records")


@pytest.mark.parametrize("class_index", [99, -1, 7, np.nan])
def test_classes_beyond_those_of_the_recipe_are_refused(class_index, shapes_records, tmp_path):
    def relabel(annotation):
        return np.concatenate([annotation[:, :4], np.full((len(annotation), 1), class_index, np.float32)], axis=1)

    image_id = copy_shards(shapes_records, tmp_path / "records", "train", annotation=relabel)
    expect_error(tmp_path / "records", "train", f"image {image_id} ", f"{class_index:g}", "6")


def test_other_errors_are_not_changed():
    data = ds.NumpySlicesDataset([1, 2], shuffle=False).batch(
        1, per_batch_map=ErrorRecorder(lambda column, info: 1 / 0, "shard"), input_columns=["column_0"]
    )
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        list(iterate_batches(data))
    with pytest.raises(RuntimeError, match="memory"), raise_thread_errors(data):
        raise RuntimeError("memory")


@pytest.mark.parametrize("message", ["a b", "Traceback", "[ERROR] x.", "猫" * 1000, ""])
def test_any_message_arrives_whole_and_once(message):
    def fail(column, info):
        raise UserError(message)

    recorder = ErrorRecorder(fail, "data/train/coco0")
    data = ds.NumpySlicesDataset([1, 2], shuffle=False).batch(1, per_batch_map=recorder, input_columns=["column_0"])
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            list(iterate_batches(data))
        assert str(caught.value) == f"data/train: {message}" and recorder.error is None
