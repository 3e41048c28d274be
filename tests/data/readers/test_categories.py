"""Both splits have one list of classes, of which the validation split may list a part."""

import json

import pytest

from own_data import write_coco
from ssd.data.readers.coco_layouts import CocoFolder
from ssd.data.readers.splits import read_splits
from ssd.errors import UserError

CATEGORIES = [{"id": 3, "name": "猫"}, {"id": 9, "name": "dog"}, {"id": 1, "name": "ant"}]


def read(folder, val_categories, **more):
    """write_coco's boxes are of category 9 where the image's id is odd, else 3."""
    write_coco(folder / "train.json", 1, 2, folder / "train", categories=CATEGORIES)
    write_coco(folder / "val.json", 11, 1, folder / "val", categories=val_categories, **more)
    return read_splits(CocoFolder(folder))


def test_equal_lists_are_left_alone(tmp_path):
    train, val = read(tmp_path, CATEGORIES[::-1])
    assert train.classes == val.classes == ["background", "ant", "猫", "dog"] and val.content is None


def test_a_part_of_the_list_is_completed(tmp_path):
    train, val = read(tmp_path, [CATEGORIES[1]])
    assert val.classes == train.classes == ["background", "ant", "猫", "dog"]
    assert val.category_ids == train.category_ids == [1, 3, 9]
    assert val.images[0].objects[:, 4].tolist() == [3]  # dog, which is 1 in the file's own list
    assert {category["id"]: category["name"] for category in val.content["categories"]} == {1: "ant", 3: "猫", 9: "dog"}
    content = json.loads((tmp_path / "val.json").read_text())
    assert val.content["categories"][0] == content["categories"][0]  # with all that the file says of it
    assert val.content["annotations"] == content["annotations"] and val.content["images"] == content["images"]


@pytest.mark.parametrize(
    "other", [{"id": 9, "name": "cow"}, {"id": 8, "name": "dog"}, {"id": 8, "name": "cow"}], ids=["name", "id", "both"]
)
def test_other_categories_are_refused_before_the_report(other, tmp_path):
    with pytest.raises(
        UserError, match=f"val.json: got categories .*{other['name']}.*train.json.*'ant'.*make the lists"
    ):
        read(tmp_path, [*CATEGORIES, other] if other["id"] == 8 and other["name"] == "cow" else [other], annotations=[])
