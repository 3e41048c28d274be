"""Reading text files and paths, and giving both splits the same categories."""

import json
import os

import pytest

from own_data import write_coco
from ssd.data.readers.annotations import find_path_ignoring_case, list_files, read_text_lines
from ssd.data.readers.coco_layouts import CocoFolder
from ssd.data.readers.splits import read_splits
from ssd.errors import UserError

CATEGORIES = [{"id": 3, "name": "猫"}, {"id": 9, "name": "dog"}, {"id": 1, "name": "ant"}]


def test_paths_are_found_in_any_case(tmp_path):
    (tmp_path / "Images" / "Train").mkdir(parents=True)
    assert find_path_ignoring_case(tmp_path, "images/train") == tmp_path / "Images" / "Train"
    assert find_path_ignoring_case(tmp_path, "images/val") is None
    assert find_path_ignoring_case(tmp_path / "absent", "a") is None
    (tmp_path / "images" / "train").mkdir(parents=True)
    assert find_path_ignoring_case(tmp_path, "images/train") == tmp_path / "images" / "train"


def test_files_of_a_folder_are_listed_without_hidden_ones_folders_and_links_to_themselves(tmp_path):
    for name in ("a.jpg", ".hidden", "._a.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "folder.jpg").mkdir()
    assert sorted(list_files(tmp_path)) == ["a.jpg", "b.jpg"]
    assert list_files(tmp_path / "absent") == list_files(tmp_path / "a.jpg") == list_files(tmp_path / ("x" * 300)) == []


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=f"{tmp_path}: .*permission"):
        list_files(tmp_path)


def test_text_lines(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffKäfer\r\n猫\n".encode())
    assert read_text_lines(path) == ["Käfer", "猫"]
    path.write_bytes(b"K\xe4fer")
    with pytest.raises(UserError, match="a.txt: .*UTF-8"):
        read_text_lines(path)
    with pytest.raises(UserError, match="b.txt: "):
        read_text_lines(tmp_path / "b.txt")


# --- categories of both splits ---


def read(folder, val_categories, **more):
    """Write and read two splits with an image each or more. Boxes have category 9 if the image id is odd, else 3."""
    write_coco(folder / "train.json", 1, 2, folder=folder / "train", categories=CATEGORIES)
    write_coco(folder / "val.json", 11, 1, folder=folder / "val", categories=val_categories, **more)
    return read_splits(CocoFolder(folder))


def test_equal_categories_need_no_new_annotations(tmp_path):
    train, val = read(tmp_path, CATEGORIES[::-1])
    assert train.classes == val.classes == ["background", "ant", "猫", "dog"] and val.coco_dict is None


def test_a_subset_of_the_categories_is_completed(tmp_path):
    train, val = read(tmp_path, [CATEGORIES[1]])
    assert val.classes == train.classes == ["background", "ant", "猫", "dog"]
    assert val.category_ids == train.category_ids == [1, 3, 9]
    assert val.images[0].ground_truth[:, 4].tolist() == [3]  # dog; in the file's own list it would be 1
    names = {category["id"]: category["name"] for category in val.coco_dict["categories"]}
    assert names == {1: "ant", 3: "猫", 9: "dog"}
    content = json.loads((tmp_path / "val.json").read_text())
    assert val.coco_dict["categories"][0] == content["categories"][0]  # with all its keys
    assert val.coco_dict["annotations"] == content["annotations"] and val.coco_dict["images"] == content["images"]


@pytest.mark.parametrize(
    "categories",
    [[{"id": 9, "name": "cow"}], [{"id": 8, "name": "dog"}], [*CATEGORIES, {"id": 8, "name": "cow"}]],
    ids=["other name", "other id", "additional category"],
)
def test_categories_that_training_lacks_are_refused(categories, tmp_path):
    with pytest.raises(UserError, match=f"val.json: .*{categories[-1]['name']}.*'ant'.*train.json"):
        read(tmp_path, categories, annotations=[])
