"""dataset.json: writing and reading, checking a folder against it, and the fingerprint of a dataset."""

import dataclasses
import json
import os

import pytest

from ssd.data.dataset_info import (
    DatasetInfo,
    SplitInfo,
    check_files,
    dataset_fingerprint,
    read_dataset_info,
    sha256,
    shards_are_upright,
)
from ssd.errors import UserError

# SHA-256 of the three letters abc, from the standard (FIPS 180-2, appendix B.1).
SHA256_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def split(name):
    return SplitInfo(
        images=3,
        boxes=5,
        max_boxes=4,
        boxes_per_class={"Käfer": 5},
        dropped_boxes=1,
        crowd_boxes=2,
        source=f"instances_{name}2017.json",
        source_sha256=SHA256_OF_ABC,
        shards={f"{name}/coco0": 10, f"{name}/coco0.db": 20},
    )


INFO = DatasetInfo(
    classes=["background", "Käfer"],
    category_ids=[7],
    annotations="annotations/a.json",
    train=split("train"),
    val=split("val"),
)


@pytest.fixture
def folder(tmp_path):
    """Create a folder with the files that INFO describes."""
    for name in ("train", "val"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "coco0").write_bytes(bytes(10))
        (tmp_path / name / "coco0.db").write_bytes(bytes(20))
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.json").write_text("abc")
    INFO.write(tmp_path / "dataset.json")
    return tmp_path


def test_write_then_read(folder):
    assert read_dataset_info(folder / "dataset.json") == INFO


def test_sha256_of_a_file_longer_than_a_block(tmp_path):
    (tmp_path / "abc").write_text("abc")
    (tmp_path / "long").write_bytes(b"a" * 2_000_000)
    (tmp_path / "differs").write_bytes(b"a" * 1_999_999 + b"b")
    assert sha256(tmp_path / "abc") == SHA256_OF_ABC
    assert sha256(tmp_path / "long") != sha256(tmp_path / "differs")


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(UserError, match="dataset.json: "):
        read_dataset_info(tmp_path / "dataset.json")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "[" * 10_000, "null", "{}", '{"format": 1}', '{"format": 1, "train": 5, "val": 5}']
)
def test_damaged_file_is_an_error(text, tmp_path):
    path = tmp_path / "dataset.json"
    path.write_text(text)
    with pytest.raises(UserError, match="dataset.json: .*--overwrite"):
        read_dataset_info(path)


def test_unknown_or_missing_key_is_an_error(folder):
    path = folder / "dataset.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for change in ({"more": 1}, {"train": {**content["train"], "more": 1}}, {"val": {"images": 3}}):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(UserError, match="dataset.json: "):
            read_dataset_info(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("classes", 5), ("classes", ["background", 7]), ("classes", ["background"]), ("classes", "ab")),
        *(
            ("classes", ["background", "\ud800"]),
            ("category_ids", True),
            ("category_ids", ["one"]),
            ("annotations", 1.5),
        ),
        *(("upright", "maybe"), ("upright", None), ("train", None)),
        *(("train.images", None), ("train.max_boxes", "many"), ("train.shards", [[]]), ("train.shards", {"a": "b"})),
        *(("val.boxes_per_class", {"cat": None}), ("val.source_sha256", 5), ("val.source", ["a"])),
    ],
)
def test_a_value_of_another_type_is_an_error(key, value, folder):
    path = folder / "dataset.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    *section, name = key.split(".")
    (content[section[0]] if section else content)[name] = value
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="dataset.json: "):
        read_dataset_info(path)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_names_that_no_file_can_have_are_missing_files(name, folder):
    info = read_dataset_info(folder / "dataset.json")
    for changed in (
        dataclasses.replace(info, val=dataclasses.replace(info.val, shards={name: 1})),
        dataclasses.replace(info, annotations=name),
    ):
        with pytest.raises(UserError, match="listed in dataset.json"):
            check_files(changed, folder, "val")


def test_other_format_is_an_error(folder):
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "format": 3}))
    with pytest.raises(UserError, match="dataset.json: .*3.* 2.*--overwrite"):
        read_dataset_info(path)


@pytest.mark.parametrize("upright", [True, False])
def test_upright_is_kept(folder, upright):
    dataclasses.replace(INFO, upright=upright).write(folder / "dataset.json")
    assert read_dataset_info(folder / "dataset.json").upright is upright
    assert shards_are_upright(folder) is upright


def test_shards_of_format_1_and_without_dataset_json_are_not_upright(folder):
    path = folder / "dataset.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["upright"]
    path.write_text(json.dumps({**content, "format": 1}))
    assert read_dataset_info(path) == INFO and not shards_are_upright(folder)
    path.unlink()
    assert not shards_are_upright(folder)


def test_complete_folder_passes(folder):
    check_files(INFO, folder, "train")
    check_files(INFO, folder, "val")


@pytest.mark.parametrize("name", ["train", "val"])
def test_missing_or_truncated_shard_is_an_error(name, folder):
    other = "val" if name == "train" else "train"
    shard = folder / name / "coco0.db"
    shard.write_bytes(bytes(19))
    with pytest.raises(UserError, match=f"{name}/coco0.db: .*19 bytes.* 20 bytes"):
        check_files(INFO, folder, name)
    shard.unlink()
    with pytest.raises(UserError, match=f"{name}/coco0.db: "):
        check_files(INFO, folder, name)
    check_files(INFO, folder, other)  # the other split is complete


def test_changed_or_missing_annotations_are_an_error_for_validation_only(folder):
    path = folder / "annotations" / "a.json"
    path.write_text("abd")
    with pytest.raises(UserError, match="a.json: "):
        check_files(INFO, folder, "val")
    path.unlink()
    with pytest.raises(UserError, match="a.json: "):
        check_files(INFO, folder, "val")
    check_files(INFO, folder, "train")


def test_fingerprint_is_image_and_box_counts_of_dataset_json(folder):
    assert dataset_fingerprint(folder) == [[3, 4], [3, 4]]


def test_fingerprint_without_dataset_json_is_names_sizes_and_times_of_shards(folder):
    (folder / "dataset.json").unlink()
    for path in folder.glob("*/coco*"):
        os.utime(path, ns=(5, 7_000))
    expected = [["train/coco0", 10, 7_000], ["train/coco0.db", 20, 7_000]]
    expected += [["val/coco0", 10, 7_000], ["val/coco0.db", 20, 7_000]]
    assert dataset_fingerprint(folder) == expected
    assert dataset_fingerprint(folder / "absent") == []


@pytest.mark.parametrize("name", ["/etc/hostname", "../coco0", "train/../../coco0"])
@pytest.mark.parametrize("key", ["annotations", "shards"])
def test_files_outside_the_folder_are_refused(name, key, tmp_path):
    info = dataclasses.replace(INFO, annotations=name)
    if key == "shards":
        info = dataclasses.replace(INFO, val=dataclasses.replace(INFO.val, shards={name: 1}))
    info.write(tmp_path / "dataset.json")
    with pytest.raises(UserError, match=f"dataset.json: .*{name}"):
        read_dataset_info(tmp_path / "dataset.json")
