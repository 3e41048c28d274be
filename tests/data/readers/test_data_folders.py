"""Files outside the dataset folder are refused, wherever annotations, lists, data.yaml or links lead."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import voc_folders
import yolo_folders
from own_data import write_coco, xml_object
from ssd.data.readers.coco_layouts import CocoFolder
from ssd.data.readers.data_folders import DataFolders
from ssd.data.readers.splits import open_dataset_folder, read_splits
from ssd.errors import UserError


@pytest.fixture
def secret(tmp_path):
    """A file outside the folder tmp_path/set."""
    folder = tmp_path / "secret"
    folder.mkdir()
    cv2.imwrite(str(folder / "s.jpg"), np.zeros((40, 60, 3), np.uint8))
    return folder / "s.jpg"


def refuses(read, *parts):
    """Check that reading raises a UserError of one line that names the parts and --follow_links."""
    with pytest.raises(UserError) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message
    for part in (*parts, "--follow_links"):
        assert str(part) in message


# --- DataFolders ---


def test_files_and_links_inside_are_allowed(tmp_path):
    (tmp_path / "set/deep").mkdir(parents=True)
    (tmp_path / "set/a.jpg").touch()
    (tmp_path / "set/link.jpg").symlink_to("a.jpg")
    (tmp_path / "set/folder").symlink_to(tmp_path / "set/deep")
    (tmp_path / "set/deep/up.jpg").symlink_to("../a.jpg")
    (tmp_path / "alias").symlink_to("set")
    for root in (tmp_path / "set", tmp_path / "alias"):  # the user's own path may contain links
        folders = DataFolders([root])
        for name in ("a.jpg", "link.jpg", "folder/up.jpg", "deep/../a.jpg", "folder", ".", "deep/.."):
            assert folders.require(root / name) == root / name
        assert folders.contain(tmp_path / "set/a.jpg") and folders.contain(tmp_path / "alias/a.jpg")


def test_files_and_links_outside_are_refused(tmp_path, secret):
    (tmp_path / "set/deep").mkdir(parents=True)
    (tmp_path / "set2").mkdir()  # its path starts like that of the folder
    (tmp_path / "set2/a.jpg").touch()
    (tmp_path / "set/link.jpg").symlink_to(secret)
    (tmp_path / "set/chain.jpg").symlink_to("link.jpg")
    (tmp_path / "set/folder").symlink_to(secret.parent)
    (tmp_path / "set/up").symlink_to("..")
    folders = DataFolders([tmp_path / "set"])
    names = ["link.jpg", "chain.jpg", "folder/s.jpg", "folder", "up", "up/set2/a.jpg", "../set2/a.jpg", "..", secret]
    for name in (*names, "folder/../set2/a.jpg", "/dev/zero", "/"):
        assert not folders.contain(tmp_path / "set" / name), name
    refuses(lambda: folders.require(tmp_path / "set/chain.jpg"), "set/chain.jpg", secret)
    assert DataFolders([tmp_path / "set"], follow_links=True).contain(secret)
    assert DataFolders([tmp_path / "set", secret.parent]).contain(tmp_path / "set/link.jpg")


def test_files_that_do_not_exist_are_left_to_the_readers(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for name in ("../absent.jpg", "/absent/a.jpg", "loop", "a\0b", "x" * 300):
        assert DataFolders([tmp_path]).contain(tmp_path / name)


# --- COCO ---


def coco(tmp_path, file_name):
    """A COCO folder whose training image has this file name."""
    folder = tmp_path / "set"
    for split in ("train", "val"):
        write_coco(folder / f"annotations/{split}.json", 5, 1, folder=folder / split)
    path = folder / "annotations/train.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "images": [{"id": 5, "file_name": file_name}]}))
    return folder


@pytest.mark.parametrize("name", ["{secret}", "../../secret/s.jpg", "link.jpg", "folder/s.jpg"])
def test_coco_names_outside(name, tmp_path, secret):
    folder = coco(tmp_path, name.format(secret=secret))
    (folder / "train/link.jpg").symlink_to(secret)
    (folder / "train/folder").symlink_to(secret.parent)
    refuses(lambda: read_splits(CocoFolder(folder)), "s.jpg")
    train, _ = read_splits(CocoFolder(folder, follow_links=True))
    assert train.images[0].path.samefile(secret)


@pytest.mark.parametrize("options", [{"val_fraction": 0.5}, {"train_splits": ["train", "other"]}])
def test_coco_names_outside_in_merged_and_divided_splits(options, tmp_path, secret):
    folder = coco(tmp_path, str(secret))
    write_coco(folder / "annotations/other.json", 7, 3, folder=folder / "other")
    refuses(lambda: read_splits(CocoFolder(folder), **options), secret)


@pytest.mark.parametrize("options", [{}, {"val_fraction": 0.5}])
def test_a_copied_dataset_is_read_in_its_new_place(options, tmp_path, secret):
    folder = coco(tmp_path, str(secret))
    path = folder / "annotations/train.json"
    content = json.loads(path.read_text())
    content["images"].append({"id": 6, "file_name": "train5.jpg"})
    content["annotations"].append({**content["annotations"][0], "id": 6, "image_id": 6})
    path.write_text(json.dumps(content))
    shutil.copy(secret, folder / "train/s.jpg")
    splits = read_splits(CocoFolder(folder), **options)
    assert folder / "train/s.jpg" in [image.path for split in splits for image in split.images]


def test_a_linked_folder_of_images_needs_follow_links_or_image_dir(tmp_path):
    folder = coco(tmp_path, "train5.jpg")
    for split in ("train", "val"):
        (folder / split).rename(tmp_path / split)
        (folder / split).symlink_to(tmp_path / split)
    refuses(lambda: read_splits(open_dataset_folder("coco", folder)), folder / "train/train5.jpg", tmp_path / "train")
    train, val = read_splits(open_dataset_folder("coco", folder, follow_links=True))
    assert train.images[0].path == folder / "train/train5.jpg"
    (folder / "both").mkdir()
    for path in (tmp_path / "train/train5.jpg", tmp_path / "val/val5.jpg"):
        (folder / "both" / path.name).symlink_to(path)
    refuses(lambda: read_splits(open_dataset_folder("coco", folder, image_dir=folder / "both")), "both/train5.jpg")


def test_a_linked_annotation_file_is_refused_unless_the_user_types_its_path(tmp_path):
    folder = coco(tmp_path, "train5.jpg")
    (folder / "annotations/train.json").rename(tmp_path / "train.json")
    (folder / "annotations/train.json").symlink_to(tmp_path / "train.json")
    refuses(lambda: read_splits(CocoFolder(folder)), folder / "annotations/train.json")
    train, _ = read_splits(CocoFolder(folder, folder / "train"), [str(tmp_path / "train.json")], ["val"])
    assert len(train.images) == 1
    (folder / "annotations/val.json").unlink()  # the linked file is then the only one, which needs no name
    refuses(lambda: read_splits(CocoFolder(folder), val_fraction=0.5), folder / "annotations/train.json")


# --- Pascal VOC ---


@pytest.mark.parametrize("linked", ["JPEGImages/a.jpg", "Annotations/a.xml", "ImageSets/Main/train.txt", "JPEGImages"])
def test_voc_links_outside(linked, tmp_path):
    folder = tmp_path / "set"
    for name in ("a", "b"):
        voc_folders.add(folder, name, [xml_object("cat", (1, 1, 9, 9))])
    moved = tmp_path / Path(linked).name
    (folder / linked).rename(moved)
    (folder / linked).symlink_to(moved)
    refuses(lambda: read_splits(open_dataset_folder("voc", folder)), folder / linked, moved)
    train, _ = read_splits(open_dataset_folder("voc", folder, follow_links=True))
    assert len(train.images) == 2


# --- YOLO ---


@pytest.mark.parametrize(
    "linked", ["images/train/a.png", "labels/train/a.txt", "data.yaml", "train.txt", "images/train", "labels"]
)
def test_yolo_links_outside(linked, tmp_path):
    folder = tmp_path / "set"
    for split in ("train", "val"):
        yolo_folders.add(folder, "a", "0 0.5 0.5 0.5 0.5\n", images=f"images/{split}")
    (folder / "train.txt").write_text("images/train/a.png\n")
    (folder / "data.yaml").write_text("names: [cat]\ntrain: train.txt\nval: images/val\n")
    moved = tmp_path / Path(linked).name
    (folder / linked).rename(moved)
    (folder / linked).symlink_to(moved)
    refuses(lambda: read_splits(open_dataset_folder("yolo", folder)), folder / linked, moved)
    train, _ = read_splits(open_dataset_folder("yolo", folder, follow_links=True))
    assert len(train.images) == 1 and len(train.images[0].ground_truth) == 1


@pytest.mark.parametrize("name", ["{secret}", "../secret/s.jpg", "./images/../../secret/s.jpg"])
def test_yolo_lists_outside(name, tmp_path, secret):
    folder = tmp_path / "set"
    yolo_folders.add(folder, "a", "0 0.5 0.5 0.5 0.5\n", images="images/val")
    (folder / "data.yaml").write_text("names: [cat]\n")
    (folder / "train.txt").write_text(name.format(secret=secret) + "\n")
    refuses(lambda: read_splits(open_dataset_folder("yolo", folder)), "s.jpg")
