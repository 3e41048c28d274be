"""Conversion to shards: all or nothing is written, and files of the user stay."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest
from mindspore.mindrecord import FileWriter

from converted_shards import convert, edit, files_of, records_of
from failing_renames import fail_to_rename
from ssd.data import mindrecord
from ssd.data.dataset_info import check_files, read_dataset_info
from ssd.errors import UserError


@pytest.fixture
def coco(shapes_coco, tmp_path):
    """A copy of the drawn dataset that a test may change."""
    return shutil.copytree(shapes_coco, tmp_path / "coco")


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

    monkeypatch.setattr(FileWriter, "write_raw_data", write_raw_data)
    with pytest.raises(UserError, match=f"out: .*{reason}") as raised:
        convert(coco, tmp_path / "out")
    assert "\n" not in str(raised.value) and not (tmp_path / "out").exists()


def write_files(folder, names, text):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


DATASET = ("dataset.json", "train/coco0", "val/coco0", "annotations/val.json")


@pytest.mark.parametrize("existing", [(), DATASET, (*DATASET, "annotations/mine.json"), ("annotations/mine.json",)])
@pytest.mark.parametrize("failing", [None, "dataset.json", "train", "val", "val.json", "annotations"])
def test_a_dataset_is_replaced_as_a_whole_or_not_at_all(failing, existing, tmp_path, monkeypatch):
    out, work = tmp_path / "out", tmp_path / "out" / "work"
    write_files(work, DATASET, "new")
    write_files(out, existing, "old")
    if failing:
        fail_to_rename(failing, monkeypatch)
    moved = "annotations" if not existing else "val.json"  # a folder that exists stays, because of the files of users
    has_failed = failing in ("dataset.json", "train", "val", moved)
    with pytest.raises(OSError) if has_failed else contextlib.nullcontext():
        mindrecord._publish(work, out, Path("annotations/val.json"))
    shutil.rmtree(work)
    found = {path.relative_to(out).as_posix(): path.read_text() for path in out.rglob("*") if path.is_file()}
    kept = dict.fromkeys(existing, "old")
    assert found == (kept if has_failed else {**kept, **dict.fromkeys(DATASET, "new")})
