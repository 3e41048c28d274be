"""Folders of Pascal VOC and of labelling tools: years, splits, and the places of XML files and images."""

import shutil
import unicodedata

import pytest

from own_data import xml_image, xml_object
from ssd.data.readers.annotations import UNUSABLE_IMAGES
from voc_folders import add, expect_error, read


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
