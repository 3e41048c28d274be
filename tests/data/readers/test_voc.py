"""Pascal VOC folders: inclusive pixel coordinates, several years, difficult objects, and errors."""

import shutil
from pathlib import Path

import pytest

from own_data import xml_image, xml_object
from ssd.data.readers import voc_xml
from ssd.data.readers.annotations import EMPTY_BOXES, UNUSABLE_IMAGES
from ssd.data.readers.corners import REVERSED_BOXES
from ssd.data.readers.splits import open_dataset_folder, read_splits
from voc_folders import add, expect_error, read

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


ENTITIES = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 9))


@pytest.mark.parametrize(
    "declarations",
    [
        '<!ENTITY e8 "dog">',
        '<!ENTITY e0 "dog">' + ENTITIES,  # a hundred million dogs
        '<!ENTITY e8 SYSTEM "file:///etc/hostname">',
        '<!ENTITY % e8 SYSTEM "http://127.0.0.1:9/"> %e8;',
    ],
)
def test_entities_are_refused(declarations, tmp_path):
    path = add(
        tmp_path, "a", text=f"<!DOCTYPE annotation [{declarations}]><annotation><filename>&e8;</filename></annotation>"
    )
    expect_error(tmp_path, [path, "entities"])


def test_a_document_type_without_entities_is_read(tmp_path):
    text = xml_image("a.jpg", 40, 60, objects=[xml_object("dog", (1, 1, 9, 9))])
    add(tmp_path, "a", text=f"<!DOCTYPE annotation>{text}")
    train, _ = read(tmp_path)
    assert len(train.images[0].ground_truth) == 1


def test_deep_and_large_files(tmp_path, monkeypatch):
    box = xml_object("dog", (1, 1, 9, 9))
    path = add(tmp_path, "a", text=f"<annotation>{'<a>' * 50_000}{'</a>' * 50_000}{box}</annotation>")
    train, _ = read(tmp_path)
    assert len(train.images[0].ground_truth) == 1
    monkeypatch.setattr(voc_xml, "MAX_BYTES", 100_000)
    expect_error(tmp_path, [path, "100,000 bytes"])
