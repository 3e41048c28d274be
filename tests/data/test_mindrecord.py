"""Conversion to shards: every image and box is kept, all or nothing is written, and files of the user stay."""

import json
import shutil

import numpy as np
import pytest
from mindspore.dataset import MindDataset

from ssd.data import mindrecord
from ssd.data.dataset_info import check_files, read_dataset_info, sha256
from ssd.data.readers.coco import read_coco
from ssd.errors import UserError

SPLITS = ("train2017", "val2017")


@pytest.fixture
def coco(shapes_coco, tmp_path):
    """A copy of the drawn dataset that a test may change."""
    return shutil.copytree(shapes_coco, tmp_path / "coco")


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


# --- content ---


def test_layout_and_records(shapes_records, shapes_coco):
    assert {path.name for path in shapes_records.iterdir()} == {"train", "val", "annotations", "dataset.json"}
    names = {f"coco{index}{end}" for index in range(8) for end in ("", ".db")}
    for split in ("train", "val"):
        assert {path.name for path in (shapes_records / split).iterdir()} == names
    annotations = "annotations/instances_val2017.json"
    assert (shapes_records / annotations).read_bytes() == (shapes_coco / annotations).read_bytes()
    expect_records(shapes_records, shapes_coco)


def test_order_is_kept_with_little_read_ahead(shapes_coco, tmp_path, monkeypatch):
    monkeypatch.setattr(mindrecord, "READ_AHEAD", 2)
    convert(shapes_coco, tmp_path / "out")
    assert list(records_of(tmp_path / "out", "train")) == list(range(1, 11))
    assert list(records_of(tmp_path / "out", "val")) == list(range(11, 15))


def test_dataset_json_describes_the_shards(shapes_records, shapes_coco):
    info = read_dataset_info(shapes_records / "dataset.json")
    assert info.classes == ["background", "circle", "square", "triangle", "star", "ring", "cross"]
    assert info.category_ids == [2, 5, 7, 11, 18, 34]
    assert info.annotations == "annotations/instances_val2017.json"
    for split, source, images in ((info.train, "train2017", 10), (info.val, "val2017", 4)):
        path = shapes_coco / "annotations" / f"instances_{source}.json"
        annotations = json.loads(path.read_text())["annotations"]
        owners = [annotation["image_id"] for annotation in annotations]
        category_ids = [annotation["category_id"] for annotation in annotations]
        assert split.images == images and split.boxes == len(annotations)
        assert split.max_boxes == max(owners.count(owner) for owner in owners)
        counts = {name: category_ids.count(id_) for name, id_ in zip(info.classes[1:], info.category_ids)}
        assert split.boxes_per_class == counts
        assert (split.dropped_boxes, split.crowd_boxes) == (0, 0)
        assert (split.source, split.source_sha256) == (path.name, sha256(path))
    check_files(info, shapes_records, "train")
    check_files(info, shapes_records, "val")


def test_writing_in_several_parts_keeps_every_record(shapes_coco, tmp_path, monkeypatch):
    monkeypatch.setattr(mindrecord, "ROWS_PER_WRITE", 3)  # 10 images: three full writes and a rest
    info = convert(shapes_coco, tmp_path / "out")
    expect_records(tmp_path / "out", shapes_coco)
    assert info == read_dataset_info(tmp_path / "out" / "dataset.json") and info.train.images == 10


def test_left_out_boxes_are_counted_and_their_images_kept(coco, tmp_path):
    def change(content):
        by_image = {}
        for annotation in content["annotations"]:
            by_image.setdefault(annotation["image_id"], []).append(annotation)
        first, second, third = list(by_image.values())[:3]
        for annotation in first:
            annotation["iscrowd"] = 1
        second[0]["bbox"] = [5, 5, 0.5, 40]  # narrower than a pixel
        third[0]["bbox"] = [-10, 80.25, 50, 50]  # beyond the left and the lower border of 96 pixels
        counts.update(crowd=len(first), boxes=len(content["annotations"]) - len(first) - 1)
        ids.update(crowd=first[0]["image_id"], clipped=third[0]["image_id"])

    counts, ids = {}, {}
    edit(coco, "train2017", change)
    info = convert(coco, tmp_path / "out")
    assert (info.train.crowd_boxes, info.train.dropped_boxes, info.train.boxes) == (counts["crowd"], 1, counts["boxes"])
    assert sum(info.train.boxes_per_class.values()) == counts["boxes"] and info.train.images == 10
    records = records_of(tmp_path / "out", "train")
    assert len(records) == 10
    assert records[ids["crowd"]][1].tolist() == [[0, 0, 0, 0, 0]]  # padding, because MindRecord has no (0, 5)
    assert records[ids["clipped"]][1][0, :4].tolist() == [80.25, 0, 96, 40]


def test_64_bit_image_ids_are_kept(coco, tmp_path):
    def change(content):
        for entry in content["images"]:
            entry["id"] += 2**40
        for annotation in content["annotations"]:
            annotation["image_id"] += 2**40

    edit(coco, "val2017", change)
    convert(coco, tmp_path / "out")
    assert sorted(records_of(tmp_path / "out", "val")) == [2**40 + number for number in (11, 12, 13, 14)]


# --- errors ---


def test_different_class_names_are_an_error(coco, tmp_path):
    edit(coco, "val2017", lambda content: content["categories"][0].update(name="disc"))
    with pytest.raises(UserError, match="instances_val2017.json: .*'disc'.*'circle'"):
        convert(coco, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_different_category_ids_are_an_error(coco, tmp_path):
    def change(content):
        assert content["categories"][-1]["id"] == 34
        content["categories"][-1]["id"] = 35
        content["annotations"] = []

    edit(coco, "val2017", change)
    with pytest.raises(UserError, match="35: 'cross'.*34: 'cross'"):
        convert(coco, tmp_path / "out")


def test_training_split_without_boxes_is_an_error(coco, tmp_path):
    edit(coco, "train2017", lambda content: content["annotations"].clear())
    with pytest.raises(UserError, match="instances_train2017.json: "):
        convert(coco, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_boxes_outside_images_of_unknown_size_are_an_error(coco, tmp_path):
    def change(content):
        for entry in content["images"]:
            del entry["width"]
        for annotation in content["annotations"]:
            annotation["bbox"][0] += 5000

    edit(coco, "train2017", change)
    number = len(json.loads((coco / "annotations" / "instances_train2017.json").read_text())["annotations"])
    with pytest.raises(UserError, match=f"instances_train2017.json: .*{number} boxes"):
        convert(coco, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_validation_split_without_boxes_is_accepted(coco, tmp_path):
    edit(coco, "val2017", lambda content: content["annotations"].clear())
    info = convert(coco, tmp_path / "out")
    assert (info.val.images, info.val.boxes, info.val.max_boxes) == (4, 0, 0)


def test_existing_shards_are_an_error_and_kept(shapes_coco, shapes_records):
    before = files_of(shapes_records)
    with pytest.raises(UserError, match="dataset.json: .*--overwrite"):
        convert(shapes_coco, shapes_records)
    assert files_of(shapes_records) == before


def test_existing_shards_without_dataset_json_are_an_error(shapes_coco, tmp_path):
    (tmp_path / "out" / "val").mkdir(parents=True)
    (tmp_path / "out" / "val" / "coco0").write_text("shard")
    before = files_of(tmp_path)
    with pytest.raises(UserError, match="out/val: .*--overwrite"):
        convert(shapes_coco, tmp_path / "out")
    assert files_of(tmp_path) == before


def test_overwrite_replaces_only_the_shards(coco, tmp_path):
    out = tmp_path / "out"
    convert(coco, out)
    (out / "notes.txt").write_text("mine")
    (out / "annotations" / "more.json").write_text("mine")
    (out / "train" / "coco8").write_text("a shard of an older dataset with more shards")

    def change(content):
        del content["images"][1:]
        content["annotations"] = []

    edit(coco, "val2017", change)
    info = convert(coco, out, overwrite=True)
    assert info.val.images == 1 and read_dataset_info(out / "dataset.json") == info
    check_files(info, out, "train")
    check_files(info, out, "val")
    expected = {"notes.txt", "annotations", "train", "val", "dataset.json"}
    assert {path.name for path in out.iterdir()} == expected
    assert not (out / "train" / "coco8").exists()
    assert (out / "notes.txt").read_text() == (out / "annotations" / "more.json").read_text() == "mine"
    assert list(records_of(out, "val")) == [11]


def test_other_files_among_the_shards_are_an_error_and_kept(shapes_coco, tmp_path):
    photo = tmp_path / "out" / "train" / "photo.jpg"
    photo.parent.mkdir(parents=True)
    photo.write_text("mine")
    before = files_of(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(UserError, match="train/photo.jpg: "):
            convert(shapes_coco, tmp_path / "out", overwrite)
        assert files_of(tmp_path) == before


def test_annotations_with_the_same_name_and_other_content_are_an_error_and_kept(shapes_coco, tmp_path):
    path = tmp_path / "out" / "annotations" / "instances_val2017.json"
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(UserError, match="annotations/instances_val2017.json: .*--overwrite"):
        convert(shapes_coco, tmp_path / "out")
    assert path.read_text() == "mine"


def test_overwrite_replaces_a_damaged_dataset_json(coco, tmp_path):
    convert(coco, tmp_path / "out")
    (tmp_path / "out" / "dataset.json").write_text("{")
    info = convert(coco, tmp_path / "out", overwrite=True)
    assert read_dataset_info(tmp_path / "out" / "dataset.json") == info


def truncate_last_image(coco):
    """Truncate a validation image, which the conversion reads after all of training, and return its path."""
    path = max((coco / "val2017").iterdir())
    path.write_bytes(path.read_bytes()[:-100])
    return path


def test_failed_conversion_leaves_nothing(coco, tmp_path):
    path = truncate_last_image(coco)
    with pytest.raises(UserError, match=str(path)):
        convert(coco, tmp_path / "deep" / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"coco"}  # the folder above it is removed too


def test_failed_conversion_keeps_an_empty_folder_of_the_user(coco, tmp_path):
    path = truncate_last_image(coco)
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=str(path)):
        convert(coco, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_failed_overwrite_keeps_the_old_shards(coco, tmp_path):
    out = tmp_path / "out"
    convert(coco, out)
    before = files_of(out)
    path = truncate_last_image(coco)
    with pytest.raises(UserError, match=str(path)):
        convert(coco, out, overwrite=True)
    assert files_of(out) == before


@pytest.mark.parametrize("name", ["out", "out/below"])
def test_target_that_cannot_be_a_folder_is_an_error(name, shapes_coco, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="--out_path"):
        convert(shapes_coco, tmp_path / name)
    assert (tmp_path / "out").read_text() == "mine"


def test_file_in_place_of_a_split_folder_is_an_error_and_kept(shapes_coco, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="out/train: "):
            convert(shapes_coco, tmp_path / "out", overwrite)
        assert (tmp_path / "out" / "train").read_text() == "mine"


FULL_DISK = """Exception thrown from dataset pipeline. Refer to 'Dataset Pipeline Error Message'.

------------------------------------------------------------------
- Dataset Pipeline Error Message:
------------------------------------------------------------------
[ERROR] No free disk to be used while writing mindrecord files, available free disk size: 0
"""


@pytest.mark.parametrize(
    "error, reason", [(RuntimeError(FULL_DISK), "No free disk"), (OSError(28, "No space left"), "no space left")]
)
def test_a_full_disk_is_an_error_and_leaves_nothing(error, reason, coco, tmp_path, monkeypatch):
    def write_raw_data(self, rows):
        raise error

    monkeypatch.setattr(mindrecord.FileWriter, "write_raw_data", write_raw_data)
    with pytest.raises(UserError, match=f"out: .*{reason}") as raised:
        convert(coco, tmp_path / "out")
    assert "\n" not in str(raised.value) and not (tmp_path / "out").exists()
