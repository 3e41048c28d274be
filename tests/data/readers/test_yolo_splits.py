"""Splits of YOLO folders: folders, lists, data.yaml, and which images belong to a split."""

from pathlib import Path

import pytest

from ssd.data.readers.annotations import UNUSABLE_IMAGES
from ssd.data.readers.splits import open_dataset_folder, read_splits
from ssd.data.readers.yolo import OUTSIDE_DATA_PATH, YoloFolder
from ssd.errors import UserError
from yolo_folders import add, read, stems


@pytest.mark.parametrize("images", ["images/{}", "{}/images", "{}"])
def test_splits_are_folders(images, tmp_path):
    for name, split in (("a", "train"), ("b", "valid"), ("c", "test")):
        add(tmp_path, name, "0 0.5 0.5 1 1\n", images=images.format(split), beside="images" not in images)
    (tmp_path / "obj.names").write_text("cat\n")
    train, val = read(tmp_path)
    assert (stems(train), stems(val)) == (["a"], ["b"])
    assert len(train.images[0].ground_truth) == 1
    train, val = read(tmp_path, train_splits=["train", "valid"], val_splits=["test"])
    assert (stems(train), stems(val)) == (["a", "b"], ["c"])


def test_splits_are_lists_of_files(tmp_path):
    for name in "abc":
        add(tmp_path, name, "0 0.5 0.5 1 1\n")
    (tmp_path / "train.txt").write_text("./images/c.png\nimages/a.png\nimages/c.png\n")
    (tmp_path / "val.txt").write_text(f"{tmp_path}/images/b.png\n")
    (tmp_path / "classes.txt").write_text("cat\n")
    train, val = read(tmp_path)
    assert (stems(train), stems(val)) == (["c", "a"], ["b"])
    assert all(len(image.ground_truth) == 1 for image in (*train.images, *val.images))
    (tmp_path / "val.txt").write_text("images/d.png\nimages/b.png\nimages/e.png\n")
    missing = [text.partition(": ")[0] for text in dict.fromkeys(read(tmp_path)[1].problems[UNUSABLE_IMAGES])]
    assert missing == [str(tmp_path / "images" / f"{name}.png") for name in "de"]


def test_lists_may_use_backslashes(tmp_path):
    for name in "ab":
        add(tmp_path, name, "0 0.5 0.5 1 1\n", images="images/all")
    for name, split in (("a", "train"), ("b", "val")):
        (tmp_path / f"{split}.txt").write_text(f".\\images\\all\\{name}.png\r\n")
    (tmp_path / "classes.txt").write_text("cat\n")
    assert [stems(split) for split in read(tmp_path)] == [["a"], ["b"]]


@pytest.mark.parametrize(
    "settings", ["path: /nowhere\ntrain: left/images", "train: ../left/images", "path: left\ntrain: images"]
)
def test_data_yaml_names_the_folders_of_splits(settings, tmp_path):
    add(tmp_path, "a", "0 0.5 0.5 1 1\n", images="left/images")
    add(tmp_path, "b", images="val")
    (tmp_path / "data.yaml").write_text(f"{settings}\nnames: {{0: cat}}\n")
    train, _ = read(tmp_path)
    assert stems(train) == ["a"] and len(train.images[0].ground_truth) == 1


@pytest.mark.parametrize(
    "prefix",
    ["data/obj_train_data/", "/home/anna/set/obj_train_data/", "D:\\set\\obj_train_data\\", "../obj_train_data/"],
)
def test_lists_of_other_tools_and_machines(prefix, tmp_path):
    """CVAT writes data/obj_train_data/a.png, although obj_train_data is beside the list."""
    add(tmp_path, "a", "0 0.5 0.5 0.5 0.5\n", images="obj_train_data", beside=True)
    add(tmp_path, "b", "0 0.5 0.5 0.5 0.5\n", images="obj_train_data", beside=True)
    (tmp_path / "obj.names").write_text("cat\n")
    (tmp_path / "train.txt").write_text(f"{prefix}a.png\n{prefix}absent.png\n")
    (tmp_path / "val.txt").write_text(f"{prefix}b.png\n")
    train, val = read(tmp_path)
    assert train.images[0].path == tmp_path / "obj_train_data/a.png" and stems(val) == ["b"]
    assert [len(image.ground_truth) for image in train.images] == [1, 0]
    (text,) = train.problems[UNUSABLE_IMAGES]
    assert "absent.png" in text


# --- images in --data_path come before any others ---


@pytest.fixture
def other(tmp_path):
    """Another dataset beside `mine`, with its own splits and class names."""
    for split in ("train", "val"):
        add(tmp_path / "other", "x", "0 0.5 0.5 1 1\n", images=f"images/{split}")
    (tmp_path / "other" / "classes.txt").write_text("ant\nbee\n")
    return tmp_path / "other"


@pytest.fixture
def mine(tmp_path):
    for name, split in (("a", "train"), ("b", "val")):
        add(tmp_path / "mine", name, "1 0.5 0.5 1 1\n", images=f"images/{split}")
    (tmp_path / "mine" / "data.yaml").write_text("names: [cat, dog]\n")
    return tmp_path / "mine"


def test_images_beside_the_names_file_are_not_read(mine, other):
    train, val = read(mine, other / "classes.txt")
    assert (stems(train), stems(val)) == (["a"], ["b"]) and train.classes == ["background", "ant", "bee"]
    assert train.problems == val.problems == {}


def test_images_in_the_original_folder_of_a_copy_are_not_read(mine, other):
    text = f"path: {other}\ntrain: images/train\nval: {other}/images/val\nnames: [cat, dog]\n"
    (mine / "data.yaml").write_text(text)
    assert [stems(split) for split in read(mine)] == [["a"], ["b"]]


def test_images_in_a_sibling_folder_are_not_read(tmp_path):
    add(tmp_path, "x", "0 0.5 0.5 1 1\n", images="train/images")
    for name, split in (("a", "train"), ("b", "valid")):
        add(tmp_path / "mine", name, "0 0.5 0.5 1 1\n", images=f"{split}/images")
    (tmp_path / "mine" / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: [cat]\n")
    assert [stems(split) for split in read(tmp_path / "mine")] == [["a"], ["b"]]


@pytest.mark.parametrize("setting", ["path: {}\ntrain: images/train", "train: ../other/images/train"])
def test_images_outside_of_data_path_are_read_only_with_follow_links(setting, mine, other):
    (mine / "images" / "train").rename(mine / "spare")
    (mine / "data.yaml").write_text(f"{setting.format(other)}\nnames: [cat, dog]\n")
    with pytest.raises(UserError, match="images/train.*--follow_links"):
        read(mine)
    train, val = read_splits(YoloFolder(mine, follow_links=True))
    assert stems(train) == ["x"] and len(train.images[0].ground_truth) == 1 and train.images[0].path.is_file()
    (path,) = train.problems[OUTSIDE_DATA_PATH]
    assert (mine / path).resolve() == other / "images" / "train" / "x.png"
    assert stems(val) == ["b"] and val.problems == {}


def test_images_may_be_in_the_current_directory(tmp_path, monkeypatch):
    for number in range(5):
        add(tmp_path, f"n{number}", "0 0.5 0.5 1 1\n", images="", beside=True)
    (tmp_path / "classes.txt").write_text("cat\n")
    monkeypatch.chdir(tmp_path)
    train, val = read_splits(open_dataset_folder("yolo", Path(".")), val_fraction=0.2)
    assert (len(train.images), len(val.images)) == (4, 1)
    assert train.problems == {} and train.annotation_path.name == tmp_path.name


def test_folder_names_may_have_any_case(tmp_path):
    for name, split in (("a", "train"), ("b", "val")):
        add(tmp_path, name, images=f"Images/{split}")
        (tmp_path / "Labels" / split).mkdir(parents=True)
        (tmp_path / "Labels" / split / f"{name}.txt").write_text("0 0.5 0.5 1 1\n")
    (tmp_path / "classes.txt").write_text("cat\n")
    for split in read(tmp_path):
        assert len(split.images[0].ground_truth) == 1 and split.problems == {}


def test_without_splits_a_share_of_all_images_is_held_out(tmp_path):
    for number in range(10):
        add(tmp_path, f"n{number}", "0 0.5 0.5 1 1\n")
    (tmp_path / "classes.txt").write_text("cat\n")
    train, val = read(tmp_path, val_fraction=0.2)
    assert (len(train.images), len(val.images)) == (8, 2)
    assert {*stems(train), *stems(val)} == {f"n{number}" for number in range(10)}
