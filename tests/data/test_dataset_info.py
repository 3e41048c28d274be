"""dataset.json: what is written is read again, and a folder that it does not describe is refused in words."""

import json

import pytest

from ssd.data.dataset_info import DatasetInfo, SplitInfo, check_files, read_dataset_info, sha256
from ssd.errors import UserError

# Of the three letters abc, from the standard's own example (FIPS 180-2, appendix B.1).
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


INFO = DatasetInfo(["background", "Käfer"], [7], "annotations/a.json", split("train"), split("val"))


@pytest.fixture
def folder(tmp_path):
    """A folder with the files that INFO describes."""
    for name in ("train", "val"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "coco0").write_bytes(bytes(10))
        (tmp_path / name / "coco0.db").write_bytes(bytes(20))
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.json").write_text("abc")
    INFO.write(tmp_path / "dataset.json")
    return tmp_path


def test_what_is_written_is_read_again(folder):
    assert read_dataset_info(folder / "dataset.json") == INFO


def test_sha256_of_a_file_longer_than_a_block(tmp_path):
    (tmp_path / "abc").write_text("abc")
    (tmp_path / "long").write_bytes(b"a" * 2_000_000)
    (tmp_path / "differs").write_bytes(b"a" * 1_999_999 + b"b")
    assert sha256(tmp_path / "abc") == SHA256_OF_ABC
    assert sha256(tmp_path / "long") != sha256(tmp_path / "differs")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="dataset.json: got no such file.*create_data.py"):
        read_dataset_info(tmp_path / "dataset.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"format": 1}', '{"format": 1, "train": 5, "val": 5}'])
def test_a_damaged_file_is_refused(text, tmp_path):
    path = tmp_path / "dataset.json"
    path.write_text(text)
    with pytest.raises(UserError, match="dataset.json: got a damaged file.*--overwrite"):
        read_dataset_info(path)


def test_a_file_with_an_unknown_or_a_missing_key_is_refused(folder):
    path = folder / "dataset.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for change in ({"more": 1}, {"train": {**content["train"], "more": 1}}, {"val": {"images": 3}}):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(UserError, match="damaged"):
            read_dataset_info(path)


def test_another_format_is_refused_with_both(folder):
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "format": 2}))
    with pytest.raises(UserError, match="got format 2, expected 1; .*--overwrite"):
        read_dataset_info(path)


def test_a_whole_folder_passes(folder):
    check_files(INFO, folder, "train")
    check_files(INFO, folder, "val")


@pytest.mark.parametrize("name", ["train", "val"])
def test_a_missing_or_truncated_shard_is_refused(name, folder):
    other = "val" if name == "train" else "train"
    shard = folder / name / "coco0.db"
    shard.write_bytes(bytes(19))
    with pytest.raises(UserError, match=f"{name}/coco0.db: got 19 bytes, expected 20 bytes"):
        check_files(INFO, folder, name)
    shard.unlink()
    with pytest.raises(UserError, match=f"{name}/coco0.db: got no such file, expected 20 bytes"):
        check_files(INFO, folder, name)
    check_files(INFO, folder, other)  # each split answers for itself


def test_changed_or_missing_annotations_are_refused_for_validation_alone(folder):
    path = folder / "annotations" / "a.json"
    path.write_text("abd")
    with pytest.raises(UserError, match="a.json: got annotations that have changed"):
        check_files(INFO, folder, "val")
    path.unlink()
    with pytest.raises(UserError, match="a.json: got no such file"):
        check_files(INFO, folder, "val")
    check_files(INFO, folder, "train")
