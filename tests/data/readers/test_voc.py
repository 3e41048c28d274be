"""Pascal VOC folders: inclusive pixel coordinates, several years, difficult objects, and errors."""

import shutil
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest

from own_data import xml_image, xml_object
from ssd.data.readers.annotations import EMPTY_BOXES, UNUSABLE_IMAGES
from ssd.data.readers.corners import REVERSED_BOXES
from ssd.data.readers.splits import open_dataset_folder, read_splits
from ssd.data.readers.voc import VocFolder
from ssd.errors import UserError


def add(year, name, objects=(), splits=("train", "val"), size=(40, 60), text=None):
    """Write an image of height 40 and width 60, its XML file and its name in the lists of `splits`.

    objects: results of xml_object
    size: height and width stated in the XML file
    text: content of the XML file, instead of objects and size
    Returns the path of the XML file.
    """
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


def expect_error(folder, parts, **options):
    """Check that reading raises a UserError of one line that contains each of `parts`."""
    with pytest.raises(UserError) as caught:
        read(folder, **options)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


# --- reading ---


def test_corners_count_from_1_and_are_inclusive(tmp_path):
    add(tmp_path, "whole", [xml_object("dog", (1, 1, 60, 40))])
    add(tmp_path, "pixel", [xml_object("dog", (5, 7, 5, 7))])
    add(tmp_path, "float", [xml_object("dog", (10.5, 20.25, 30.5, 30.25))])
    train, val = read(tmp_path)
    assert [image.ground_truth.tolist() for image in train.images] == [
        [[0, 0, 40, 60, 1]],  # y0, x0, y1, x1: the whole image
        [[6, 4, 7, 5, 1]],
        [[19.25, 9.5, 30.25, 30.5, 1]],
    ]
    assert [image.size for image in train.images] == [(40, 60)] * 3
    assert [row["bbox"] for row in val.coco_dict["annotations"]] == [[0, 0, 60, 40], [4, 6, 1, 1], [9.5, 19.25, 21, 11]]


def test_classes_are_the_names_in_both_splits_in_alphabetical_order(tmp_path):
    add(tmp_path, "a", [xml_object("zebra", (1, 1, 9, 9)), xml_object("cat", (1, 1, 9, 9))], splits=["train"])
    add(tmp_path, "b", [xml_object("猫", (1, 1, 9, 9)), xml_object("cat", (1, 1, 9, 9))], splits=["val"])
    train, val = read(tmp_path)
    assert train.classes == val.classes == ["background", "cat", "zebra", "猫"]
    assert train.category_ids == val.category_ids == [1, 2, 3]
    assert train.images[0].ground_truth[:, 4].tolist() == [2, 1] and val.images[0].ground_truth[:, 4].tolist() == [3, 1]


def test_difficult_objects_become_crowd_regions(tmp_path):
    flags = "<truncated>1</truncated><occluded>1</occluded><difficult>1</difficult>"
    add(tmp_path, "a", [xml_object("dog", (1, 1, 9, 9), flags), xml_object("dog", (11, 1, 30, 9))])
    train, val = read(tmp_path)
    assert train.images[0].ground_truth.tolist() == [[0, 10, 9, 30, 1]] and train.images[0].crowd_boxes == 1
    first, second = val.coco_dict["annotations"]
    assert (first["iscrowd"], first["difficult"], first["truncated"], first["occluded"]) == (1, 1, 1, 1)
    assert (second["iscrowd"], second["difficult"], second["truncated"], second["occluded"]) == (0, 0, 0, 0)


def test_parts_of_an_object_are_ignored(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    box = "<bndbox><ymax>9</ymax><xmax>8</xmax><ymin>3</ymin><xmin>2</xmin></bndbox>"
    text = xml_image("a.jpg", 40, 60, objects=[f"<object>{part}<name> person </name>{box}</object>"])
    add(tmp_path, "a", text=text)
    train, _ = read(tmp_path)
    assert train.classes == ["background", "person"]
    assert train.images[0].ground_truth.tolist() == [[2, 1, 9, 8, 1]]


@pytest.mark.parametrize("above", ["", "VOCdevkit"])
def test_several_years_are_merged(above, tmp_path):
    add(tmp_path / above / "VOC2007", "a", [xml_object("dog", (1, 1, 9, 9))], splits=["train"])
    add(tmp_path / above / "VOC2012", "a", [xml_object("cat", (1, 1, 9, 9))], splits=["train"])
    add(tmp_path / above / "VOC2012", "b", splits=["val"])
    train, val = read(tmp_path)
    assert [image.path for image in train.images] == [
        tmp_path / above / year / "JPEGImages" / "a.jpg" for year in ("VOC2007", "VOC2012")
    ]
    assert [image.image_id for image in (*train.images, *val.images)] == [1, 2, 3]
    assert val.images[0].ground_truth.shape == (0, 5)


def test_a_split_of_one_year_is_named_with_the_year(tmp_path):
    for year in ("VOC2007", "VOC2012"):
        for name, split in (("a", "trainval"), ("b", "test")):
            add(tmp_path / year, name, [xml_object("dog", (1, 1, 9, 9))], splits=[split])
    train, val = read(tmp_path, train_splits=["trainval", "2007/trainval"], val_splits=["VOC2007/test"])
    assert [image.path.parts[-3:] for image in train.images] == [
        ("VOC2007", "JPEGImages", "a.jpg"),
        ("VOC2012", "JPEGImages", "a.jpg"),
    ]  # without repetition
    assert [image.path.parts[-3:] for image in val.images] == [("VOC2007", "JPEGImages", "b.jpg")]


def test_a_folder_without_lists_needs_val_fraction(tmp_path):
    for number in range(10):
        add(tmp_path, f"n{number}", [xml_object("dog", (1, 1, 9, 9))], splits=())
    train, val = read(tmp_path, val_fraction=0.3)
    assert (len(train.images), len(val.images)) == (7, 3)
    expect_error(tmp_path, ["train.txt", "--val_fraction 0.2"])


def test_images_are_found_by_the_name_of_the_xml_file_or_by_its_content(tmp_path):
    add(tmp_path, "renamed", text=xml_image("before.png", 40, 60, objects=[xml_object("dog", (1, 1, 9, 9))]))
    add(tmp_path, "moved", text=xml_image("C:\\photos\\other.jpg", 40, 60, objects=[]))
    (tmp_path / "JPEGImages" / "moved.jpg").rename(tmp_path / "JPEGImages" / "other.jpg")
    train, _ = read(tmp_path)
    assert [image.path.name for image in train.images] == ["renamed.jpg", "other.jpg"]


LAYOUTS = {  # of a split: (folder of XML files, folder of images)
    "labelling tools: XML files beside images": ("{}", "{}"),
    "Annotations and images for each split": ("{}/Annotations", "{}/images"),
    "XML files in a folder of their own": ("{}/xml", "{}"),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("val", ["val", "valid"])
def test_a_folder_for_each_split(layout, val, tmp_path):
    for split, name in (("train", "a"), (val, "b")):
        add(tmp_path / "made", name, [xml_object("cat", (1, 1, 20, 20))])
        for source, folder in (("Annotations/{}.xml", layout[0]), ("JPEGImages/{}.jpg", layout[1])):
            target = tmp_path / "set" / folder.format(split)
            target.mkdir(parents=True, exist_ok=True)
            shutil.move(tmp_path / "made" / source.format(name), target)
    train, val_split = read(tmp_path / "set")
    assert [image.path for image in train.images] == [tmp_path / "set" / layout[1].format("train") / "a.jpg"]
    assert [image.path.stem for image in val_split.images] == ["b"]
    assert [len(image.ground_truth) for image in (*train.images, *val_split.images)] == [1, 1]


@pytest.mark.parametrize(
    "layout",
    [
        *((".", "."), ("xmls", "images"), ("annotations/xmls", "images"), ("labels", "images")),
        *(("JPEGImages", "JPEGImages"), ("images", "images")),
    ],
)
@pytest.mark.parametrize("list_folder", ["", "{}", "ImageSets/Main"])
def test_a_folder_without_splits(layout, list_folder, tmp_path):
    """A share is held out, or text files in the folder list the images of each split."""
    for name in "abcd":
        add(tmp_path / "made", name, [xml_object("cat", (1, 1, 20, 20))])
    for source, folder in (("Annotations", layout[0]), ("JPEGImages", layout[1])):
        (tmp_path / "set" / folder).mkdir(parents=True, exist_ok=True)
        for path in list((tmp_path / "made" / source).iterdir()):
            shutil.move(path, tmp_path / "set" / folder)
    train, val = read(tmp_path / "set", val_fraction=0.25)
    assert (len(train.images), len(val.images)) == (3, 1)
    lists = tmp_path / "set" / list_folder.format(layout[0])
    lists.mkdir(parents=True, exist_ok=True)
    (lists / "train.txt").write_text("a.jpg\nimages/b.jpg\n")
    (lists / "val.txt").write_text("d\n")
    train, val = read(tmp_path / "set")
    assert [image.path.stem for image in (*train.images, *val.images)] == ["a", "b", "d"]


def test_xml_files_without_images_are_named(tmp_path):
    add(tmp_path, "a", [xml_object("cat", (1, 1, 20, 20))])
    shutil.rmtree(tmp_path / "JPEGImages")
    expect_error(tmp_path, [tmp_path / "JPEGImages", tmp_path / "images"])


@pytest.mark.parametrize(
    "entry",
    ["{}.jpg", "JPEGImages/{}.jpg", "/home/anna/JPEGImages/{}.JPG", "D:\\set\\{}.png", "{}.xml", "./{}"],
)
def test_lists_of_other_tools_and_machines(entry, tmp_path):
    """Lists may contain files and paths, and names with letters composed in another way than those of the files."""
    add(tmp_path, unicodedata.normalize("NFD", "Zürich.1"), [xml_object("cat", (1, 1, 20, 20))], splits=())
    add(tmp_path, "b", [xml_object("cat", (1, 1, 20, 20))], splits=("val",))
    name = unicodedata.normalize("NFC", "Zürich.1")
    (tmp_path / "ImageSets/Main/train.txt").write_text(entry.format(name), encoding="utf-8")
    (image,) = read(tmp_path)[0].images
    assert image.path.is_file() and len(image.ground_truth) == 1


@pytest.mark.parametrize(
    "stated", ["my%20photo.jpg", "my photo.JPG", "D:\\set\\my photo.jpg", "https://host/my%20photo.png"]
)
def test_the_image_of_a_renamed_file_is_found_by_its_element(stated, tmp_path):
    path = add(tmp_path, "a", [xml_object("cat", (1, 1, 20, 20))])
    path.write_text(path.read_text().replace("a.jpg", stated))
    image = (tmp_path / "JPEGImages/a.jpg").rename(tmp_path / "JPEGImages/my photo.jpg")
    train, _ = read(tmp_path)
    assert train.images[0].path == image and UNUSABLE_IMAGES not in train.problems


def test_all_unusable_images_are_recorded(tmp_path):
    for name in "abc":
        add(tmp_path, name, [xml_object("dog", (1, 1, 9, 9))], splits=["train"])
    add(tmp_path, "d", [xml_object("dog", (1, 1, 9, 9))], size=(60, 40), splits=["val"])
    (tmp_path / "JPEGImages" / "a.jpg").unlink()
    (tmp_path / "JPEGImages" / "c.jpg").write_bytes(b"text")
    train, val = read(tmp_path)
    paths = [text.partition(": ")[0] for text in dict.fromkeys(train.problems[UNUSABLE_IMAGES])]
    assert paths == [str(tmp_path / "JPEGImages" / f"{name}.jpg") for name in "ac"]
    (wrong_size,) = val.problems[UNUSABLE_IMAGES]
    assert wrong_size.startswith(f"{tmp_path / 'Annotations' / 'd.xml'}: ")
    assert "d.jpg" in wrong_size and wrong_size.index("40x60") < wrong_size.index("60x40")  # stated, then stored
    assert [len(image.ground_truth) for image in train.images] == [1, 1, 1]


def test_upper_case_suffixes_and_metadata_files_of_macos(tmp_path):
    path = add(tmp_path, "ä 1", [xml_object("dog", (1, 1, 9, 9))])
    path.rename(path.with_suffix(".XML"))
    (tmp_path / "Annotations" / "._ä 1.xml").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "JPEGImages" / "._ä 1.jpg").write_bytes(b"\x00\x05\x16\x07")
    train, _ = read(tmp_path)
    assert [image.path.name for image in train.images] == ["ä 1.jpg"] and train.problems == {}
    add(tmp_path, "b", [xml_object("dog", (1, 1, 9, 9))], splits=())
    shutil.rmtree(tmp_path / "ImageSets")
    train, val = read(tmp_path, val_fraction=0.5)
    assert {image.path.name for image in (*train.images, *val.images)} == {"ä 1.jpg", "b.jpg"}
    assert train.problems == val.problems == {}


def test_the_current_directory_is_a_year(tmp_path, monkeypatch):
    for name in ("VOC2007", "VOC2012"):
        add(tmp_path / name, "a", [xml_object("dog", (1, 1, 9, 9))])
    monkeypatch.chdir(tmp_path / "VOC2007")
    train, _ = read_splits(open_dataset_folder("voc", Path(".")), ["2007/train"], ["VOC2007/val"])
    assert train.images[0].path == tmp_path / "VOC2007" / "JPEGImages" / "a.jpg"


def test_missing_sizes_are_read_from_the_image(tmp_path):
    add(tmp_path, "a", [xml_object("dog", (1, 1, 9, 9))], size=(0, 0))
    add(tmp_path, "b", text="<annotation/>")
    train, _ = read(tmp_path)
    assert [image.size for image in train.images] == [(40, 60), (40, 60)]


def test_empty_boxes_are_left_out_and_recorded(tmp_path):
    add(tmp_path, "a", [xml_object("dog", (6, 1, 5, 9)), xml_object("dog", (1, 1, 9, 9))])
    train, val = read(tmp_path)
    assert len(train.images[0].ground_truth) == len(val.coco_dict["annotations"]) == 1
    assert train.problems == {EMPTY_BOXES: [f"{tmp_path / 'Annotations' / 'a.xml'}, object 1"]}


def test_reversed_corners_are_sorted_and_recorded(tmp_path):
    corners = [(9, 2, 5, 7), (9, 7, 5, 2), (5, 7, 9, 2), (5, 2, 9, 7)]
    add(tmp_path, "a", [xml_object("dog", box) for box in corners])
    train, val = read(tmp_path)
    assert train.images[0].ground_truth.tolist() == [[1, 4, 7, 9, 1]] * 4  # rows 2 to 7 and columns 5 to 9 from 1
    where = [f"{tmp_path / 'Annotations' / 'a.xml'}: object {number}" for number in (1, 2, 3)]
    assert train.problems == val.problems == {REVERSED_BOXES: where}
    assert [row["area"] for row in val.coco_dict["annotations"]] == [30] * 4


# --- errors ---


def test_boxes_given_as_fractions_are_refused(tmp_path):
    add(tmp_path, "a", [xml_object("dog", (0.1, 0.2, 0.5, 1)), xml_object("dog", (0, 0, 0.25, 0.5))])
    expect_error(tmp_path, [tmp_path, "2 boxes", "0 and 1"])


def test_only_difficult_objects_are_refused(tmp_path):
    add(tmp_path, "a", [xml_object("dog", (1, 1, 9, 9), more="<difficult>1</difficult>")] * 3)
    expect_error(tmp_path, [tmp_path, "3 annotations", "difficult"])


@pytest.mark.parametrize(
    "text, parts",
    [
        ("<annotation>", ["XML"]),
        ("", ["XML"]),
        (xml_image("a.jpg", 40, 60, objects=[xml_object(" ", (1, 1, 2, 2))]), ["object 1", "name"]),
        (xml_image("a.jpg", 40, 60, objects=[xml_object("dog", (1, 1, "nan", 2))]), ["object 1", "xmax"]),
        (xml_image("a.jpg", 40, 60, objects=[xml_object("dog", (1, 1, 2))]), ["object 1", "ymax"]),
        ("<annotation><object><name>dog</name></object></annotation>", ["object 1", "ymax"]),
    ],
)
def test_invalid_files_are_named_with_the_object(text, parts, tmp_path):
    path = add(tmp_path, "a")
    path.write_text(text)
    expect_error(tmp_path, [path, *parts])


def test_missing_parts_are_named(tmp_path):
    expect_error(tmp_path, [tmp_path, "Annotations", "--data_path"])
    expect_error(tmp_path / "absent", [tmp_path / "absent", "Annotations"])
    add(tmp_path, "a", [xml_object("dog", (1, 1, 9, 9))])
    expect_error(tmp_path, ["'test'", "test.txt", "--val_split"], val_splits=["test"])
    with open(tmp_path / "ImageSets" / "Main" / "val.txt", "a") as file:
        file.write("b\n")
    expect_error(tmp_path, ["val.txt", "'b'", "b.xml"])


def test_a_dataset_without_objects_is_refused(tmp_path):
    add(tmp_path, "a")
    expect_error(tmp_path, [tmp_path, "categories"])


def test_a_list_that_is_not_utf8_is_refused(tmp_path):
    add(tmp_path, "a", [xml_object("dog", (1, 1, 9, 9))])
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_bytes("Käfer".encode("latin-1"))
    expect_error(tmp_path, ["val.txt", "UTF-8"])
