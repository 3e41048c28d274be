"""From a folder of any form to two splits: the same set in each form, what is held out, what is left out."""

import json

import pytest

from own_data import make_voc, make_yolo, write_coco
from ssd.data.dataset_info import check_files, read_dataset_info, sha256
from ssd.data.readers.annotations import Annotations
from ssd.data.readers.splits import UNLISTED, hold_out, open_folder, read_splits, shared_images
from ssd.errors import UserError


@pytest.fixture(scope="module")
def forms(shapes_coco, tmp_path_factory):
    """The drawn set in each form."""
    folder = tmp_path_factory.mktemp("forms")
    voc = make_voc(shapes_coco, folder / "voc", years=("VOC2007", "VOC2012"))
    return {"coco": shapes_coco, "voc": voc, "yolo": make_yolo(shapes_coco, folder / "yolo")}


def read(kind, folder, *options, **more):
    return read_splits(open_folder(kind, folder), *options, **more)


def by_name(split):
    """{file name: sorted [class name, y0, x0, y1, x1] of its objects}"""
    return {
        image.path.name: sorted([split.classes[int(row[4])], *row[:4].round(3).tolist()] for row in image.objects)
        for image in split.images
    }


# --- the forms agree ---


@pytest.mark.parametrize("kind", ["voc", "yolo"])
def test_a_set_is_the_same_in_each_form(kind, forms):
    for split, expected in zip(read(kind, forms[kind]), read("coco", forms["coco"])):
        assert by_name(split) == by_name(expected)
        assert set(split.classes) == set(expected.classes)


@pytest.mark.parametrize("kind", ["voc", "yolo"])
def test_shards_have_their_own_validation_annotations(kind, forms, tmp_path):
    from ssd.data.mindrecord import convert

    train, val = read(kind, forms[kind])
    info = convert(train, val, tmp_path / "out", overwrite=False, num_workers=1)
    assert (
        info == read_dataset_info(tmp_path / "out" / "dataset.json")
        and info.annotations == "annotations/instances_val.json"
    )
    check_files(info, tmp_path / "out", "val")
    path = tmp_path / "out" / info.annotations
    assert info.val.source_sha256 == sha256(path) and json.loads(path.read_text()) == val.content
    assert info.train.boxes == sum(len(image.objects) for image in train.images)
    with pytest.raises(UserError, match="already there"):
        convert(train, val, tmp_path / "out", overwrite=False, num_workers=1)
    again = convert(train, val, tmp_path / "out", overwrite=True, num_workers=1)
    assert again.val.source_sha256 == info.val.source_sha256 and again.train.boxes == info.train.boxes


def test_other_forms_have_no_names_file(forms):
    with pytest.raises(UserError, match="--names: got a.txt for voc"):
        open_folder("voc", forms["voc"], "a.txt")


# --- what is held out ---


def test_a_share_of_the_only_file(tmp_path):
    write_coco(tmp_path / "all.json", 1, 10, tmp_path / "images")
    train, val = read("coco", tmp_path, val_fraction=0.3)
    assert (len(train.images), len(val.images)) == (7, 3)
    for split in (train, val):
        assert all(image.objects[:, 3].tolist() == [image.image_id] for image in split.images)
        assert {row["image_id"] for row in split.content["annotations"]} == {i.image_id for i in split.images}
    assert train.classes == val.classes
    write_coco(tmp_path / "more.json", 1, 10, tmp_path / "images")
    with pytest.raises(UserError, match="got 2 annotation files .all.json, more.json.*--train_split"):
        read("coco", tmp_path, val_fraction=0.3)
    assert len(read("coco", tmp_path, ["more"], val_fraction=0.5)[1].images) == 5


def content(numbers):
    images = [{"id": n, "file_name": f"{n}.jpg"} for n in numbers]
    return {"images": images, "annotations": [], "categories": [{"id": 1, "name": "a"}]}


def held(numbers, folder, fraction=0.2):
    for number in numbers:
        (folder / f"{number}.jpg").touch()
    train, val = hold_out(Annotations(content(numbers), folder, folder), fraction)
    ids = [{image["id"] for image in part.content["images"]} for part in (train, val)]
    assert not ids[0] & ids[1] and ids[0] | ids[1] == set(numbers)
    return ids[1]


def test_the_share_does_not_follow_the_order_and_stays_when_images_come(tmp_path):
    first = held(range(100), tmp_path)
    assert len(first) == 20 and held(range(99, -1, -1), tmp_path) == first
    assert len(first & held(range(110), tmp_path)) >= 18
    assert not first <= set(range(20))  # spread over all


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_a_share_that_leaves_a_split_empty_is_refused(fraction, tmp_path):
    with pytest.raises(UserError, match=f"--val_fraction: got {fraction} of 10 images"):
        held(range(10), tmp_path, fraction)


@pytest.mark.parametrize("fraction", [0, 1, -0.2, float("nan")])
def test_what_is_no_share_is_refused(fraction, forms):
    with pytest.raises(UserError, match="--val_fraction: got .*more than 0 and less than 1"):
        read("coco", forms["coco"], val_fraction=fraction)


def test_a_share_and_a_validation_split_are_refused(forms):
    with pytest.raises(UserError, match="--val_fraction: got --val_split as well"):
        read("coco", forms["coco"], None, ["val2017"], val_fraction=0.2)


# --- images without objects, and in both splits ---


def test_empty_images_are_kept_unless_told(tmp_path):
    for split in ("train", "val"):
        write_coco(tmp_path / f"{split}.json", 1, 3, tmp_path / split)
        content = json.loads((tmp_path / f"{split}.json").read_text())
        content["annotations"][1]["iscrowd"] = 1  # nothing to learn in image 2
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    train, val = read("coco", tmp_path)
    assert [len(image.objects) for image in train.images] == [1, 0, 1]
    train, val = read("coco", tmp_path, keep_empty=False)
    assert [image.image_id for image in train.images] == [1, 3]
    assert [image.image_id for image in val.images] == [1, 2, 3]


def test_images_in_both_splits_are_found(forms):
    train, val = read("voc", forms["voc"], ["train", "val"], ["VOC2012/val"])
    assert shared_images(train, val) == [str(image.path) for image in val.images]
    assert shared_images(*read("voc", forms["voc"])) == []


def test_images_that_neither_split_has_are_told(tmp_path):
    for split in ("train", "val"):
        write_coco(tmp_path / f"{split}.json", 1, 3, tmp_path / "images")
    assert read("coco", tmp_path)[0].problems == {}
    for name in ("later.PNG", "notes.txt"):
        (tmp_path / "images" / name).touch()
    expected = {UNLISTED: [str(tmp_path / "images" / "later.PNG")]}
    assert read("coco", tmp_path)[0].problems == expected
    assert read("coco", tmp_path, keep_empty=False)[0].problems == expected  # not those it was told to leave out
