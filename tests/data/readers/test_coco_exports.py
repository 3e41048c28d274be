"""Peculiarities of annotation tools in COCO files: a root category, repeated categories, image ids that are text."""

import copy
import json

import pytest

from own_data import write_coco
from ssd.data.readers.coco_exports import (
    REPEATED_CATEGORIES,
    ROOT_CATEGORIES,
    TEXT_IMAGE_IDS,
    undo_export_quirks,
    used_category_ids,
)
from ssd.data.readers.coco_layouts import CocoFolder
from ssd.data.readers.splits import read_splits
from ssd.errors import UserError


@pytest.fixture
def content():
    """Two images, a cat and a dog."""
    return {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 9, 9]},
            {"id": 2, "image_id": 9, "category_id": 2, "bbox": [0, 0, 9, 9]},
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }


def test_a_usual_file_stays_the_same(content):
    changed, problems = undo_export_quirks(content)
    assert changed is content and problems == {}


def test_the_root_category_of_roboflow_is_dropped(content):
    root = {"id": 0, "name": "pets-Xy1", "supercategory": "none"}
    for category in content["categories"]:
        category["supercategory"] = "pets-Xy1"
    categories = content["categories"]
    content["categories"] = [root, *categories]
    before = copy.deepcopy(content)
    changed, problems = undo_export_quirks(content)
    assert changed["categories"] == categories and list(problems) == [ROOT_CATEGORIES]
    assert "pets-Xy1" in problems[ROOT_CATEGORIES][0] and content == before


@pytest.mark.parametrize("change", ["used", "not the supercategory", "alone", "no name"])
def test_a_category_that_is_no_root_stays(change, content):
    for category in content["categories"]:
        category["supercategory"] = "animal"
    content["categories"].insert(0, {"id": 5, "name": "animal", "supercategory": "none"})
    if change == "used":
        content["annotations"][0]["category_id"] = 5
    elif change == "not the supercategory":
        content["categories"][1]["supercategory"] = "pet"
    elif change == "no name":
        content["categories"] = [{"id": 5, "name": None}, {"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    else:
        content.update(categories=content["categories"][:1], annotations=[])
    assert undo_export_quirks(content) == (content, {})


def test_a_category_with_boxes_in_another_file_is_no_root(content):
    for category in content["categories"]:
        category["supercategory"] = "animal"
    content["categories"].insert(0, {"id": 0, "name": "animal", "supercategory": "none"})
    used = used_category_ids([{"annotations": [{"category_id": "0"}]}, {"annotations": [{}]}, [], {"annotations": 5}])
    assert used == {0} and undo_export_quirks(content, used_elsewhere=used) == (content, {})


@pytest.mark.parametrize("user", ["train", "val"])
@pytest.mark.parametrize("train_splits", [["train"], ["train", "val"]])
def test_splits_keep_a_root_category_that_one_of_them_uses(user, train_splits, tmp_path):
    for first_id, split in ((1, "train"), (11, "val")):
        write_coco(tmp_path / f"{split}.json", first_id, 2, folder=tmp_path / split)
        content = json.loads((tmp_path / f"{split}.json").read_text())
        content["categories"] = [{**entry, "supercategory": "pet"} for entry in content["categories"]]
        content["categories"].append({"id": 0, "name": "pet", "supercategory": "none"})
        content["annotations"][0]["category_id"] = 0 if split == user else 9
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    train, val = read_splits(CocoFolder(tmp_path), train_splits, ["val"])
    assert train.classes == val.classes == ["background", "pet", "猫", "dog"]
    assert ROOT_CATEGORIES not in {**train.problems, **val.problems}


def test_a_category_that_is_listed_twice_is_merged(content):
    content["categories"].append({"id": 1, "name": "cat", "supercategory": "pet"})
    changed, problems = undo_export_quirks(content)
    assert [category["id"] for category in changed["categories"]] == [1, 2]
    assert problems == {REPEATED_CATEGORIES: ["category 1: cat"]}


def test_text_ids_of_images_become_numbers(content):
    for image, annotation, text in zip(content["images"], content["annotations"], ("000007", "b")):
        image["id"] = annotation["image_id"] = text
    changed, problems = undo_export_quirks(content)
    assert [image["id"] for image in changed["images"]] == [1, 2]
    assert [annotation["image_id"] for annotation in changed["annotations"]] == [1, 2]
    assert len(problems[TEXT_IMAGE_IDS]) == 2


def test_only_ids_that_are_text_are_reported(content):
    content["images"][1]["id"] = content["annotations"][1]["image_id"] = "b"
    _, problems = undo_export_quirks(content)
    assert problems == {TEXT_IMAGE_IDS: ["'b' is now 2"]}


@pytest.mark.parametrize("broken", [[], {}, {"images": 1}, {"images": [3], "annotations": [], "categories": []}])
def test_other_content_is_left_for_the_reader(broken):
    assert undo_export_quirks(broken) == (broken, {})


def test_a_folder_with_all_three_is_read(tmp_path):
    write_coco(tmp_path / "val.json", 11, 2, folder=tmp_path / "val")
    write_coco(tmp_path / "train.json", 1, 4, folder=tmp_path / "train")
    content = json.loads((tmp_path / "train.json").read_text())
    for entry in content["images"]:
        entry["id"] = f"img-{entry['id']}"
    for entry in content["annotations"]:
        entry["image_id"] = f"img-{entry['image_id']}"
    content["categories"] = [{**entry, "supercategory": "set"} for entry in content["categories"] * 2]
    content["categories"].append({"id": 0, "name": "set", "supercategory": "none"})
    (tmp_path / "train.json").write_text(json.dumps(content))
    train, val = read_splits(CocoFolder(tmp_path))
    assert train.classes == ["background", "猫", "dog"] and [image.image_id for image in train.images] == [1, 2, 3, 4]
    assert {ROOT_CATEGORIES, REPEATED_CATEGORIES, TEXT_IMAGE_IDS} <= set(train.problems)
    assert train.coco_dict is not None and val.coco_dict is None


def test_the_same_text_id_twice_is_refused(tmp_path):
    write_coco(tmp_path / "val.json", 11, 2, folder=tmp_path / "val")
    write_coco(tmp_path / "train.json", 1, 2, folder=tmp_path / "train")
    content = json.loads((tmp_path / "train.json").read_text())
    for entry in content["images"]:
        entry["id"] = "same"
    (tmp_path / "train.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="'same'"):
        read_splits(CocoFolder(tmp_path))
