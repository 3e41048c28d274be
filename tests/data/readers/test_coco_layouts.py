"""COCO folders: the layouts that are found, and several files merged into one split."""

import json
from pathlib import Path

import pytest

from own_data import write_coco
from ssd.data.readers.annotations import FOUND_ELSEWHERE, UNUSABLE_IMAGES
from ssd.data.readers.coco_layouts import CocoFolder
from ssd.data.readers.corners import REVERSED_BOXES
from ssd.data.readers.splits import open_dataset_folder, read_splits
from ssd.errors import UserError


def read(folder, *splits):
    return read_splits(CocoFolder(folder), *splits)


@pytest.mark.parametrize(
    "annotations, images",
    [
        ("annotations/instances_{}.json", "{}"),
        ("annotations/{}.json", "images/{}"),
        ("{}/_annotations.coco.json", "{}"),
        ("{}.json", "images"),
        ("{}/labels.json", "{}/data"),
        ("annotations/boxes_{}.json", "{}"),
        ("project_{}.json", "data"),
        ("{}.json", "."),
    ],
)
def test_layouts_of_coco_files(annotations, images, tmp_path):
    for first_id, split in ((1, "train"), (11, "valid")):
        write_coco(tmp_path / annotations.format(split), first_id, 3, folder=tmp_path / images.format(split))
    train, val = read(tmp_path)
    assert [image.image_id for image in train.images] == [1, 2, 3]
    assert [image.image_id for image in val.images] == [11, 12, 13]
    assert val.annotation_path == tmp_path / annotations.format("valid") and val.coco_dict is None
    assert train.classes == ["background", "猫", "dog"] and train.category_ids == [3, 9]


def test_a_split_is_a_name_or_a_file(tmp_path):
    write_coco(tmp_path / "boxes" / "part1.json", 5, 2, folder=tmp_path / "images")
    write_coco(tmp_path / "annotations" / "instances_night.json", 5, 3, folder=tmp_path / "night")
    train, val = read(tmp_path, ["boxes/part1.json"], ["night"])
    assert (len(train.images), len(val.images)) == (2, 3)


def test_files_with_clashing_image_ids_are_merged_with_new_ids(tmp_path):
    write_coco(tmp_path / "a.json", 5, 2, folder=tmp_path / "a")
    write_coco(tmp_path / "b.json", 6, 2, folder=tmp_path / "b")
    write_coco(tmp_path / "val.json", 6, 2, folder=tmp_path / "val")
    train, val = read(tmp_path, ["a", "b"])
    assert [image.image_id for image in train.images] == [1, 2, 3, 4]
    assert [image.path for image in train.images] == [
        tmp_path / name for name in ("a/a5.jpg", "a/a6.jpg", "b/b6.jpg", "b/b7.jpg")
    ]
    # The width of each box is the original image id.
    assert [image.ground_truth[:, 3].tolist() for image in train.images] == [[5], [6], [6], [7]]
    assert [row["id"] for row in train.coco_dict["annotations"]] == [1, 2, 3, 4]
    assert val.coco_dict is None


def test_files_with_unique_image_ids_keep_them(tmp_path):
    for first_id, name in ((5, "a"), (70, "b"), (6, "val")):
        write_coco(tmp_path / f"{name}.json", first_id, 2, folder=tmp_path / name)
    train, _ = read(tmp_path, ["a", "b"])
    assert [image.image_id for image in train.images] == [5, 6, 70, 71]
    assert [image.ground_truth[:, 3].tolist() for image in train.images] == [[5], [6], [70], [71]]


def test_the_image_folder_is_found_by_the_first_existing_image(tmp_path):
    for first_id, split in ((1, "train"), (11, "val")):
        write_coco(tmp_path / "annotations" / f"instances_{split}.json", first_id, 3, folder=tmp_path / "images")
    missing = tmp_path / "images" / "instances_train1.jpg"
    missing.unlink()
    train, val = read(tmp_path)
    (text,) = train.problems.pop(UNUSABLE_IMAGES)
    assert text.startswith(f"{missing}: ") and train.problems == val.problems == {}


def test_images_may_be_in_the_current_directory(tmp_path, monkeypatch):
    for first_id, split in ((1, "train"), (11, "val")):
        write_coco(tmp_path / "annotations" / f"{split}.json", first_id, 3, folder=tmp_path)
    monkeypatch.chdir(tmp_path)
    train, val = read_splits(open_dataset_folder("coco", Path(".")))
    assert train.problems == {} and train.images[0].path == tmp_path / "train1.jpg"


def test_hidden_files_of_macos_are_no_annotation_files(tmp_path):
    for name in ("boxes_train", "boxes_val"):
        write_coco(tmp_path / f"{name}.json", 5, 3, folder=tmp_path / "images")
        (tmp_path / f"._{name}.json").write_bytes(b"\0\5\x16\7")
    assert [len(split.images) for split in read(tmp_path)] == [3, 3]
    (tmp_path / "boxes_val.json").unlink()
    train, val = read_splits(CocoFolder(tmp_path), val_fraction=0.4)
    assert len(train.images) + len(val.images) == 3
    (tmp_path / "boxes_train.json").rename(tmp_path / "set.json")
    assert len(CocoFolder(tmp_path).read({"all": None})["all"].coco_dict["images"]) == 3


def test_files_with_different_categories_are_not_merged(tmp_path):
    write_coco(tmp_path / "a.json", 5, 2, folder=tmp_path / "a")
    other = [{"id": 3, "name": "cow"}, {"id": 9, "name": "dog"}]
    write_coco(tmp_path / "b.json", 6, 2, folder=tmp_path / "b", categories=other)
    with pytest.raises(UserError, match="b.json: .*'cow'.*'猫'.*a.json"):
        read(tmp_path, ["a", "b"], ["a"])


def test_published_names_have_priority_and_several_others_are_ambiguous(tmp_path):
    for name in ("person_keypoints_train", "captions_train", "instances_val"):
        write_coco(tmp_path / f"annotations/{name}.json", 1, 2, folder=tmp_path / "images")
    with pytest.raises(UserError, match=r"instances_train2017\.json.*annotations/person_keypoints_train\.json"):
        read(tmp_path)
    write_coco(tmp_path / "annotations/instances_train.json", 1, 3, folder=tmp_path / "images")
    assert len(read(tmp_path)[0].images) == 3


def test_the_image_folder_may_be_elsewhere(tmp_path):
    for first_id, split in ((1, "train"), (11, "val")):
        write_coco(tmp_path / f"set/{split}.json", first_id, 2, folder=tmp_path / "photos/2024")
    folder = open_dataset_folder("coco", tmp_path / "set", image_dir=tmp_path / "photos/2024")
    train, val = read_splits(folder)
    assert [image.path.parent for image in (*train.images, *val.images)] == [tmp_path / "photos/2024"] * 4
    for annotation_format, image_dir in (("coco", "absent"), ("voc", "photos"), ("yolo", "photos")):
        with pytest.raises(UserError, match="--image_dir"):
            open_dataset_folder(annotation_format, tmp_path / "set", image_dir=tmp_path / image_dir)


def test_a_file_without_any_image_names_the_folders_and_the_first_file_name(tmp_path):
    for first_id, split in ((1, "train"), (11, "val")):
        write_coco(tmp_path / f"annotations/{split}.json", first_id, 2, folder=tmp_path / "photos")
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError) as caught:
        read(tmp_path)
    message = str(caught.value)
    for part in (tmp_path / "annotations/train.json", tmp_path / "images", "'train1.jpg'", "--image_dir"):
        assert str(part) in message
    assert str(tmp_path / "train,") not in message  # this folder does not exist


def test_a_missing_split_is_named_in_the_layout_of_coco(tmp_path):
    with pytest.raises(UserError, match="annotations/instances_train2017.json: "):
        read(tmp_path)
    with pytest.raises(UserError, match="annotations/instances_night.json: .*--train_split"):
        read(tmp_path, ["night"])


PREFIXES = {
    "absolute": "/home/anna/set/images/train/",
    "Windows": "D:\\\\set\\\\images\\\\train\\\\",
    "parent": "..\\\\train\\\\",
    "URL": "https://host.example/train/",
}


@pytest.mark.parametrize("prefix", PREFIXES.values(), ids=PREFIXES)
def test_file_names_of_another_machine(prefix, tmp_path):
    for first_id, split in ((1, "train"), (11, "val")):
        write_coco(tmp_path / f"{split}.json", first_id, 3, folder=tmp_path / "images" / split)
    path = tmp_path / "train.json"
    path.write_text(path.read_text().replace('"file_name": "train', f'"file_name": "{prefix}train'))
    train, _ = read(tmp_path)
    assert [image.path for image in train.images] == [tmp_path / f"images/train/train{i}.jpg" for i in (1, 2, 3)]
    assert UNUSABLE_IMAGES not in train.problems and len(train.problems[FOUND_ELSEWHERE]) == 3


def test_images_of_an_absent_folder_are_missing_images(tmp_path):
    """One of two camera folders was not copied. The other one has images of the same names."""
    write_coco(tmp_path / "val.json", 11, 2, folder=tmp_path / "val")
    write_coco(tmp_path / "train.json", 1, 4, folder=tmp_path / "cam2")
    content = json.loads((tmp_path / "train.json").read_text())
    for image, name in zip(content["images"], ("cam1/train1.jpg", "cam1/train2.jpg", "cam2/train1.jpg", "cam2/x.jpg")):
        image["file_name"] = name
    (tmp_path / "train.json").write_text(json.dumps(content))
    train, _ = read(tmp_path)
    assert [image.path for image in train.images][2] == tmp_path / "cam2/train1.jpg"
    missing = train.problems[UNUSABLE_IMAGES]
    assert len(missing) == 3
    for name, text in zip(("cam1/train1.jpg", "cam1/train2.jpg", "cam2/x.jpg"), missing):
        assert name in text


def test_merged_files_keep_the_images_that_were_found(tmp_path):
    for name in ("a", "b"):
        write_coco(tmp_path / f"{name}.json", 1, 2, folder=tmp_path / "images" / name)
        path = tmp_path / f"{name}.json"
        path.write_text(path.read_text().replace(f'"file_name": "{name}', f'"file_name": "/mnt/{name}/{name}'))
    write_coco(tmp_path / "val.json", 11, 2, folder=tmp_path / "val")
    train, _ = read(tmp_path, ["a", "b"])
    assert [image.path.relative_to(tmp_path).as_posix() for image in train.images] == [
        *("images/a/a1.jpg", "images/a/a2.jpg", "images/b/b1.jpg", "images/b/b2.jpg")
    ]
    assert [text.split(":")[0] for text in train.problems[FOUND_ELSEWHERE]] == [
        *("/mnt/a/a1.jpg", "/mnt/a/a2.jpg", "/mnt/b/b1.jpg", "/mnt/b/b2.jpg")
    ]


def test_problems_of_merged_files_are_kept(tmp_path):
    for name, first_id in (("a", 1), ("b", 3), ("val", 5)):
        boxes = [{"id": 1, "image_id": first_id, "category_id": 3, "bbox": [20, 30, -5, -6]}]
        write_coco(tmp_path / f"{name}.json", first_id, 2, folder=tmp_path / name, annotations=boxes)
    train, val = read_splits(CocoFolder(tmp_path), ["a", "b"], ["val"])
    assert train.problems == {REVERSED_BOXES: [f"{tmp_path / name}.json: annotation 1" for name in ("a", "b")]}
    assert [row["bbox"] for row in train.coco_dict["annotations"]] == [[15, 24, 5, 6]] * 2
    assert val.coco_dict["annotations"][0]["bbox"] == [15, 24, 5, 6]
