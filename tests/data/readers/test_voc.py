"""Pascal VOC folders: boxes of inclusive pixels, years, difficult objects, and what is refused."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from own_data import xml_image, xml_object
from ssd.data.readers.annotations import BROKEN
from ssd.data.readers.splits import open_folder, read_splits
from ssd.data.readers.voc import VocFolder
from ssd.errors import UserError


def add(year, name, *objects, splits=("train", "val"), size=(40, 60), text=None):
    """Write an image of height 40 and width 60 with its XML file, and put it in the lists of splits."""
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (year / part).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(year / "JPEGImages" / f"{name}.jpg"), np.zeros((40, 60, 3), np.uint8))
    path = year / "Annotations" / f"{name}.xml"
    path.write_text(text or xml_image(f"{name}.jpg", *size, list(objects)), encoding="utf-8")
    for split in splits:
        with open(year / "ImageSets" / "Main" / f"{split}.txt", "a") as file:
            file.write(f"{name}\n")
    return path


def read(folder, **options):
    return read_splits(VocFolder(folder), **options)


def refused(folder, *parts, **options):
    with pytest.raises(UserError) as caught:
        read(folder, **options)
    message = str(caught.value)
    assert "\n" not in message and ": got " in message and ", expected " in message and "; " in message
    for part in parts:
        assert str(part) in message


# --- what is read ---


def test_corners_are_pixels_from_1_and_both_inside(tmp_path):
    add(tmp_path, "whole", xml_object("dog", (1, 1, 60, 40)))
    add(tmp_path, "pixel", xml_object("dog", (5, 7, 5, 7)))
    add(tmp_path, "float", xml_object("dog", (10.5, 20.25, 30.5, 30.25)))
    train, val = read(tmp_path)
    assert [image.objects.tolist() for image in train.images] == [
        [[0, 0, 40, 60, 1]],  # y0, x0, y1, x1: all of the image
        [[6, 4, 7, 5, 1]],
        [[19.25, 9.5, 30.25, 30.5, 1]],
    ]
    assert [image.size for image in train.images] == [(40, 60)] * 3
    assert [row["bbox"] for row in val.content["annotations"]] == [[0, 0, 60, 40], [4, 6, 1, 1], [9.5, 19.25, 21, 11]]


def test_classes_are_the_names_of_both_splits_in_the_order_of_the_alphabet(tmp_path):
    add(tmp_path, "a", xml_object("zebra", (1, 1, 9, 9)), xml_object("cat", (1, 1, 9, 9)), splits=["train"])
    add(tmp_path, "b", xml_object("猫", (1, 1, 9, 9)), xml_object("cat", (1, 1, 9, 9)), splits=["val"])
    train, val = read(tmp_path)
    assert train.classes == val.classes == ["background", "cat", "zebra", "猫"]
    assert train.category_ids == val.category_ids == [1, 2, 3]
    assert train.images[0].objects[:, 4].tolist() == [2, 1] and val.images[0].objects[:, 4].tolist() == [3, 1]


def test_difficult_objects_are_ignored_not_learned(tmp_path):
    flags = "<truncated>1</truncated><occluded>1</occluded><difficult>1</difficult>"
    add(tmp_path, "a", xml_object("dog", (1, 1, 9, 9), flags), xml_object("dog", (11, 1, 30, 9)))
    train, val = read(tmp_path)
    assert train.images[0].objects.tolist() == [[0, 10, 9, 30, 1]] and train.images[0].crowd_boxes == 1
    first, second = val.content["annotations"]
    assert (first["iscrowd"], first["difficult"], first["truncated"], first["occluded"]) == (1, 1, 1, 1)
    assert (second["iscrowd"], second["difficult"], second["truncated"], second["occluded"]) == (0, 0, 0, 0)


def test_names_and_boxes_of_parts_are_none_of_the_object_s(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    box = "<bndbox><ymax>9</ymax><xmax>8</xmax><ymin>3</ymin><xmin>2</xmin></bndbox>"
    text = xml_image("a.jpg", 40, 60, [f"<object>{part}<name> person </name>{box}</object>"])
    add(tmp_path, "a", text=text)
    train, _ = read(tmp_path)
    assert train.classes == ["background", "person"]
    assert train.images[0].objects.tolist() == [[2, 1, 9, 8, 1]]


@pytest.mark.parametrize("above", ["", "VOCdevkit"])
def test_several_years_are_one_set(above, tmp_path):
    add(tmp_path / above / "VOC2007", "a", xml_object("dog", (1, 1, 9, 9)), splits=["train"])
    add(tmp_path / above / "VOC2012", "a", xml_object("cat", (1, 1, 9, 9)), splits=["train"])
    add(tmp_path / above / "VOC2012", "b", splits=["val"])
    train, val = read(tmp_path)
    assert [image.path for image in train.images] == [
        tmp_path / above / year / "JPEGImages" / "a.jpg" for year in ("VOC2007", "VOC2012")
    ]
    assert [image.image_id for image in (*train.images, *val.images)] == [1, 2, 3]
    assert val.images[0].objects.shape == (0, 5)


def test_splits_of_one_year_by_its_name(tmp_path):
    for year in ("VOC2007", "VOC2012"):
        for name, split in (("a", "trainval"), ("b", "test")):
            add(tmp_path / year, name, xml_object("dog", (1, 1, 9, 9)), splits=[split])
    train, val = read(tmp_path, train_splits=["trainval", "2007/trainval"], val_splits=["VOC2007/test"])
    assert [image.path.parts[-3:] for image in train.images] == [
        ("VOC2007", "JPEGImages", "a.jpg"),
        ("VOC2012", "JPEGImages", "a.jpg"),
    ]  # each once
    assert [image.path.parts[-3:] for image in val.images] == [("VOC2007", "JPEGImages", "b.jpg")]


def test_a_folder_without_lists_is_divided(tmp_path):
    for number in range(10):
        add(tmp_path, f"n{number}", xml_object("dog", (1, 1, 9, 9)), splits=())
    train, val = read(tmp_path, val_fraction=0.3)
    assert (len(train.images), len(val.images)) == (7, 3)
    refused(tmp_path, "train.txt", "--val_fraction 0.2")


def test_images_are_found_by_the_name_of_the_xml_file(tmp_path):
    add(tmp_path, "renamed", text=xml_image("before.png", 40, 60, [xml_object("dog", (1, 1, 9, 9))]))
    add(tmp_path, "moved", text=xml_image("C:\\photos\\other.jpg", 40, 60, []))
    (tmp_path / "JPEGImages" / "moved.jpg").rename(tmp_path / "JPEGImages" / "other.jpg")
    train, _ = read(tmp_path)
    assert [image.path.name for image in train.images] == ["renamed.jpg", "other.jpg"]


def test_all_images_that_cannot_be_used_are_told(tmp_path):
    for name in "abc":
        add(tmp_path, name, xml_object("dog", (1, 1, 9, 9)), splits=["train"])
    add(tmp_path, "d", xml_object("dog", (1, 1, 9, 9)), size=(60, 40), splits=["val"])
    (tmp_path / "JPEGImages" / "a.jpg").unlink()
    (tmp_path / "JPEGImages" / "c.jpg").write_bytes(b"text")
    train, val = read(tmp_path)
    missing, wrong = [str(tmp_path / "JPEGImages" / f"{name}.jpg") for name in "ac"]
    assert list(dict.fromkeys(train.problems[BROKEN])) == [
        f"{missing}: got no such file or directory",
        f"{wrong}: got bytes that do not decode",
    ]
    (size,) = val.problems[BROKEN]
    assert size.startswith(f"{tmp_path / 'Annotations' / 'd.xml'}: got size 40x60 of d.jpg") and "60x40 stored" in size
    assert [len(image.objects) for image in train.images] == [1, 1, 1]


def test_names_in_capitals_and_what_macos_leaves(tmp_path):
    path = add(tmp_path, "ä 1", xml_object("dog", (1, 1, 9, 9)))
    path.rename(path.with_suffix(".XML"))
    (tmp_path / "Annotations" / "._ä 1.xml").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "JPEGImages" / "._ä 1.jpg").write_bytes(b"\x00\x05\x16\x07")
    train, _ = read(tmp_path)
    assert [image.path.name for image in train.images] == ["ä 1.jpg"] and train.problems == {}
    add(tmp_path, "b", xml_object("dog", (1, 1, 9, 9)), splits=())
    shutil.rmtree(tmp_path / "ImageSets")
    train, val = read(tmp_path, val_fraction=0.5)
    assert {image.path.name for image in (*train.images, *val.images)} == {"ä 1.jpg", "b.jpg"}
    assert train.problems == val.problems == {}


def test_a_year_is_the_folder_of_the_shell(tmp_path, monkeypatch):
    for name in ("VOC2007", "VOC2012"):
        add(tmp_path / name, "a", xml_object("dog", (1, 1, 9, 9)))
    monkeypatch.chdir(tmp_path / "VOC2007")
    train, _ = read_splits(open_folder("voc", Path(".")), ["2007/train"], ["VOC2007/val"])
    assert train.images[0].path == tmp_path / "VOC2007" / "JPEGImages" / "a.jpg"


def test_sizes_that_are_absent_or_0_come_from_the_image(tmp_path):
    add(tmp_path, "a", xml_object("dog", (1, 1, 9, 9)), size=(0, 0))
    add(tmp_path, "b", text="<annotation/>")
    train, _ = read(tmp_path)
    assert [image.size for image in train.images] == [(40, 60), (40, 60)]


def test_boxes_without_extent_are_left_out_and_told(tmp_path):
    add(tmp_path, "a", xml_object("dog", (9, 1, 5, 9)), xml_object("dog", (1, 1, 9, 9)))
    train, val = read(tmp_path)
    assert len(train.images[0].objects) == len(val.content["annotations"]) == 1
    assert train.problems == {"boxes without extent, left out": [f"{tmp_path / 'Annotations' / 'a.xml'}, object 1"]}


# --- what is refused ---


@pytest.mark.parametrize(
    "text, parts",
    [
        ("<annotation>", ["XML"]),
        ("", ["XML"]),
        (xml_image("a.jpg", 40, 60, [xml_object(" ", (1, 1, 2, 2))]), ["object 1", "no name"]),
        (xml_image("a.jpg", 40, 60, [xml_object("dog", (1, 1, "nan", 2))]), ["object 1", "finite", "xmax"]),
        (xml_image("a.jpg", 40, 60, [xml_object("dog", (1, 1, 2))]), ["object 1", "ymax"]),
        ("<annotation><object><name>dog</name></object></annotation>", ["object 1", "ymax"]),
    ],
)
def test_what_cannot_be_is_refused_by_file_and_object(text, parts, tmp_path):
    path = add(tmp_path, "a")
    path.write_text(text)
    refused(tmp_path, path, *parts)


def test_missing_parts_are_named(tmp_path):
    refused(tmp_path, tmp_path, "Annotations", "--data_path")
    refused(tmp_path / "absent", tmp_path / "absent", "Annotations")
    add(tmp_path, "a", xml_object("dog", (1, 1, 9, 9)))
    refused(tmp_path, "'test'", "test.txt", "--val_split", val_splits=["test"])
    with open(tmp_path / "ImageSets" / "Main" / "val.txt", "a") as file:
        file.write("b\n")
    refused(tmp_path, "val.txt", "'b'", "b.xml")


def test_a_set_without_any_object_is_refused(tmp_path):
    add(tmp_path, "a")
    refused(tmp_path, tmp_path, "no categories")


def test_a_list_that_is_no_text_is_refused(tmp_path):
    add(tmp_path, "a", xml_object("dog", (1, 1, 9, 9)))
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_bytes("Käfer".encode("latin-1"))
    refused(tmp_path, "val.txt", "UTF-8")
