"""YOLO folders: boxes, polygons, the places of splits, labels and class names, and errors."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ssd.data.readers.annotations import EMPTY_BOXES, UNUSABLE_IMAGES
from ssd.data.readers.corners import REVERSED_BOXES
from ssd.data.readers.splits import open_dataset_folder, read_splits
from ssd.data.readers.yolo import OUTSIDE_DATA_PATH, YoloFolder
from ssd.data.readers.yolo_label_files import WITHOUT_IMAGE, WITHOUT_LABEL_FILE
from ssd.data.readers.yolo_label_rows import CONFIDENCES, KEYPOINTS, POLYGONS
from ssd.errors import UserError


def add(folder, name, labels=None, images="images", beside=False):
    """Write an image of height 40 and width 80 and its labels, if any, and return the path of the label file.

    images: folder of the image, relative to `folder`
    beside: whether the label file is beside the image, instead of in the folder with `labels` in place of `images`
    """
    path = folder / images / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((40, 80, 3), np.uint8))
    label = path.with_suffix(".txt") if beside else folder / images.replace("images", "labels") / f"{name}.txt"
    if labels is not None:
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(labels)
    return label


@pytest.fixture
def folder(tmp_path):
    """A training image with a box, a validation image without objects, and the names cat and dog."""
    add(tmp_path, "a", "1 0.5 0.25 0.25 0.5\n", images="images/train")
    add(tmp_path, "b", images="images/val")
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\n")
    return tmp_path


def read(folder, names=None, **options):
    return read_splits(YoloFolder(folder, names), **options)


def stems(split):
    return [image.path.stem for image in split.images]


def expect_error(folder, parts, names=None, **options):
    """Check that reading raises a UserError of one line that contains each of `parts`."""
    with pytest.raises(UserError) as caught:
        read(folder, names, **options)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


# --- reading ---


def test_centres_and_sizes_are_fractions_of_the_image(folder):
    train, val = read(folder)
    assert train.images[0].ground_truth.tolist() == [
        [0, 30, 20, 50, 2]
    ]  # y0, x0, y1, x1 of 40x80: x 40 +- 10, y 10 +- 10
    assert train.images[0].size == (40, 80)
    assert train.coco_dict["annotations"][0]["bbox"] == [30, 0, 20, 20]
    assert val.images[0].ground_truth.shape == (0, 5)
    assert train.classes == val.classes == ["background", "cat", "dog"] and train.category_ids == [1, 2]
    assert [train.images[0].image_id, val.images[0].image_id] == [1, 2]


def test_a_polygon_becomes_its_bounding_box(folder):
    add(folder, "a", "0 0.25 0.5 0.75 0.25 0.5 1.0\n", images="images/train")
    assert read(folder)[0].images[0].ground_truth.tolist() == [[10, 20, 40, 60, 1]]


@pytest.mark.parametrize("kind", ["images/train", "images/val"])
def test_boxes_of_keypoints_are_the_first_four_numbers(kind, folder):
    (folder / "data.yaml").write_text("names: [cat, dog]\nkpt_shape: [2, 3]\n")
    path = add(folder, "c", "0 0.5 0.5 0.25 0.5 0.1 0.9 2 0 0 0\n0 0.5 0.5 1 1\n", images=kind)
    split = read(folder)[kind.endswith("val")]
    assert split.images[1].ground_truth.tolist() == [[10, 30, 30, 50, 1], [0, 0, 40, 80, 1]]
    assert split.problems[KEYPOINTS] == [f"{path}, line 1"]


def test_keypoints_are_recognised_by_the_rows_of_both_splits(folder):
    """One row of each split: together they tell keypoints from polygons."""
    for name, split in (("c", "train"), ("d", "val")):
        add(folder, name, "0 0.5 0.5 0.25 0.5 0.45 0.6 2 0 0 0\n", images=f"images/{split}")
    for split in read(folder):
        assert split.images[1].ground_truth.tolist() == [[10, 30, 30, 50, 1]] and len(split.problems[KEYPOINTS]) == 1


def test_rows_with_a_confidence_are_boxes(folder):
    path = add(folder, "a", "0 0.5 0.5 0.25 0.5 0.9\n", images="images/train")
    train, _ = read(folder)
    assert train.images[0].ground_truth.tolist() == [[10, 30, 30, 50, 1]]
    assert train.problems == {CONFIDENCES: [f"{path}, line 1"]}


def test_polygons_are_reported(folder):
    path = add(folder, "a", "0 0.25 0.5 0.75 0.25 0.5 1.0\n", images="images/train")
    assert read(folder)[0].problems == {POLYGONS: [f"{path}, line 1"]}


def test_label_files_without_an_image_are_recorded_once(folder):
    """The images of a.txt and others are in the folder, although lists of images leave them out."""
    path = add(folder, "lost", "0 0.5 0.5 1 1\n", images="images/train")
    (folder / "images" / "train" / "lost.png").unlink()
    (path.parent / "classes.txt").write_text("cat\n")
    (path.parent / "empty.txt").write_text("")
    add(folder, "c", "0 0.5 0.5 1 1\n", images="images/train")
    (folder / "train.txt").write_text("images/train/a.png\n")
    (folder / "val.txt").write_text("images/train/c.png\n")
    (folder / "data.yaml").write_text("names: [cat, dog]\ntrain: train.txt\nval: val.txt\n")
    train, val = read(folder)
    assert train.problems[WITHOUT_IMAGE] == [str(path.parent / "empty.txt"), str(path)]
    assert WITHOUT_IMAGE not in val.problems


def test_blank_lines_and_float_classes_are_accepted(folder):
    add(folder, "a", "\n0.0 0.5 0.5 1 1\n  \n1 0.5 0.5 1 1", images="images/train")
    assert read(folder)[0].images[0].ground_truth[:, 4].tolist() == [1, 2]


def test_labels_may_be_beside_the_image(tmp_path):
    add(tmp_path, "a", "0 0.5 0.5 1 1\n", images="train", beside=True)
    add(tmp_path, "b", "0 0.5 0.5 1 1\n", images="valid/images", beside=True)
    (tmp_path / "classes.txt").write_text("cat\n")
    train, val = read(tmp_path)
    assert len(train.images[0].ground_truth) == len(val.images[0].ground_truth) == 1


@pytest.mark.parametrize("images", ["images/{}", "{}/images", "{}"])
def test_splits_are_folders(images, tmp_path):
    for name, split in (("a", "train"), ("b", "valid"), ("c", "test")):
        add(tmp_path, name, "0 0.5 0.5 1 1\n", images=images.format(split), beside="images" not in images)
    (tmp_path / "obj.names").write_text("cat\n")
    train, val = read(tmp_path)
    assert (stems(train), stems(val)) == (["a"], ["b"])
    assert len(train.images[0].ground_truth) == 1
    train, val = read(tmp_path, train_splits=["train", "valid"], val_splits=["test"])
    assert (stems(train), stems(val)) == (["a", "b"], ["c"])


def test_splits_are_lists_of_files(tmp_path):
    for name in "abc":
        add(tmp_path, name, "0 0.5 0.5 1 1\n")
    (tmp_path / "train.txt").write_text("./images/c.png\nimages/a.png\nimages/c.png\n")
    (tmp_path / "val.txt").write_text(f"{tmp_path}/images/b.png\n")
    (tmp_path / "classes.txt").write_text("cat\n")
    train, val = read(tmp_path)
    assert (stems(train), stems(val)) == (["c", "a"], ["b"])
    assert all(len(image.ground_truth) == 1 for image in (*train.images, *val.images))
    (tmp_path / "val.txt").write_text("images/d.png\nimages/b.png\nimages/e.png\n")
    missing = [text.partition(": ")[0] for text in dict.fromkeys(read(tmp_path)[1].problems[UNUSABLE_IMAGES])]
    assert missing == [str(tmp_path / "images" / f"{name}.png") for name in "de"]


def test_lists_may_use_backslashes(tmp_path):
    for name in "ab":
        add(tmp_path, name, "0 0.5 0.5 1 1\n", images="images/all")
    for name, split in (("a", "train"), ("b", "val")):
        (tmp_path / f"{split}.txt").write_text(f".\\images\\all\\{name}.png\r\n")
    (tmp_path / "classes.txt").write_text("cat\n")
    assert [stems(split) for split in read(tmp_path)] == [["a"], ["b"]]


@pytest.mark.parametrize(
    "settings", ["path: /nowhere\ntrain: left/images", "train: ../left/images", "path: left\ntrain: images"]
)
def test_data_yaml_names_the_folders_of_splits(settings, tmp_path):
    add(tmp_path, "a", "0 0.5 0.5 1 1\n", images="left/images")
    add(tmp_path, "b", images="val")
    (tmp_path / "data.yaml").write_text(f"{settings}\nnames: {{0: cat}}\n")
    train, _ = read(tmp_path)
    assert stems(train) == ["a"] and len(train.images[0].ground_truth) == 1


@pytest.mark.parametrize(
    "prefix",
    ["data/obj_train_data/", "/home/anna/set/obj_train_data/", "D:\\set\\obj_train_data\\", "../obj_train_data/"],
)
def test_lists_of_other_tools_and_machines(prefix, tmp_path):
    """CVAT writes data/obj_train_data/a.png, although obj_train_data is beside the list."""
    add(tmp_path, "a", "0 0.5 0.5 0.5 0.5\n", images="obj_train_data", beside=True)
    add(tmp_path, "b", "0 0.5 0.5 0.5 0.5\n", images="obj_train_data", beside=True)
    (tmp_path / "obj.names").write_text("cat\n")
    (tmp_path / "train.txt").write_text(f"{prefix}a.png\n{prefix}absent.png\n")
    (tmp_path / "val.txt").write_text(f"{prefix}b.png\n")
    train, val = read(tmp_path)
    assert train.images[0].path == tmp_path / "obj_train_data/a.png" and stems(val) == ["b"]
    assert [len(image.ground_truth) for image in train.images] == [1, 0]
    (text,) = train.problems[UNUSABLE_IMAGES]
    assert "absent.png" in text


def test_several_folders_are_merged_into_one_split(folder):
    add(folder, "c", "0 0.5 0.5 1 1\n", images="images/extra")
    table = folder / "data.yaml"
    table.write_text("train: [images/train, ./images/extra]\nnames: [cat, dog]\n")
    assert [stems(split) for split in read(folder)] == [["a", "c"], ["b"]]
    table.write_text("train: [images/train, images/more]\nnames: [cat, dog]\n")
    expect_error(folder, [table, "'images/more'", "train"])
    table.write_text("train: [gone, images/more]\nnames: [cat, dog]\n")  # neither exists, so the usual place is used
    assert stems(read(folder)[0]) == ["a"]


# --- images in --data_path come before any others ---


@pytest.fixture
def other(tmp_path):
    """Another dataset beside `mine`, with its own splits and class names."""
    for split in ("train", "val"):
        add(tmp_path / "other", "x", "0 0.5 0.5 1 1\n", images=f"images/{split}")
    (tmp_path / "other" / "classes.txt").write_text("ant\nbee\n")
    return tmp_path / "other"


@pytest.fixture
def mine(tmp_path):
    for name, split in (("a", "train"), ("b", "val")):
        add(tmp_path / "mine", name, "1 0.5 0.5 1 1\n", images=f"images/{split}")
    (tmp_path / "mine" / "data.yaml").write_text("names: [cat, dog]\n")
    return tmp_path / "mine"


def test_images_beside_the_names_file_are_not_read(mine, other):
    train, val = read(mine, other / "classes.txt")
    assert (stems(train), stems(val)) == (["a"], ["b"]) and train.classes == ["background", "ant", "bee"]
    assert train.problems == val.problems == {}


def test_images_in_the_original_folder_of_a_copy_are_not_read(mine, other):
    text = f"path: {other}\ntrain: images/train\nval: {other}/images/val\nnames: [cat, dog]\n"
    (mine / "data.yaml").write_text(text)
    assert [stems(split) for split in read(mine)] == [["a"], ["b"]]


def test_images_in_a_sibling_folder_are_not_read(tmp_path):
    add(tmp_path, "x", "0 0.5 0.5 1 1\n", images="train/images")
    for name, split in (("a", "train"), ("b", "valid")):
        add(tmp_path / "mine", name, "0 0.5 0.5 1 1\n", images=f"{split}/images")
    (tmp_path / "mine" / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: [cat]\n")
    assert [stems(split) for split in read(tmp_path / "mine")] == [["a"], ["b"]]


@pytest.mark.parametrize("setting", ["path: {}\ntrain: images/train", "train: ../other/images/train"])
def test_images_outside_of_data_path_are_recorded(setting, mine, other):
    (mine / "images" / "train").rename(mine / "spare")
    (mine / "data.yaml").write_text(f"{setting.format(other)}\nnames: [cat, dog]\n")
    train, val = read(mine)
    assert stems(train) == ["x"] and len(train.images[0].ground_truth) == 1 and train.images[0].path.is_file()
    (path,) = train.problems[OUTSIDE_DATA_PATH]
    assert (mine / path).resolve() == other / "images" / "train" / "x.png"
    assert stems(val) == ["b"] and val.problems == {}


def test_images_may_be_in_the_current_directory(tmp_path, monkeypatch):
    for number in range(5):
        add(tmp_path, f"n{number}", "0 0.5 0.5 1 1\n", images="", beside=True)
    (tmp_path / "classes.txt").write_text("cat\n")
    monkeypatch.chdir(tmp_path)
    train, val = read_splits(open_dataset_folder("yolo", Path(".")), val_fraction=0.2)
    assert (len(train.images), len(val.images)) == (4, 1)
    assert train.problems == {} and train.annotation_path.name == tmp_path.name


def test_folder_names_may_have_any_case(tmp_path):
    for name, split in (("a", "train"), ("b", "val")):
        add(tmp_path, name, images=f"Images/{split}")
        (tmp_path / "Labels" / split).mkdir(parents=True)
        (tmp_path / "Labels" / split / f"{name}.txt").write_text("0 0.5 0.5 1 1\n")
    (tmp_path / "classes.txt").write_text("cat\n")
    for split in read(tmp_path):
        assert len(split.images[0].ground_truth) == 1 and split.problems == {}


def test_without_splits_a_share_of_all_images_is_held_out(tmp_path):
    for number in range(10):
        add(tmp_path, f"n{number}", "0 0.5 0.5 1 1\n")
    (tmp_path / "classes.txt").write_text("cat\n")
    train, val = read(tmp_path, val_fraction=0.2)
    assert (len(train.images), len(val.images)) == (8, 2)
    assert {*stems(train), *stems(val)} == {f"n{number}" for number in range(10)}


def test_class_names_may_be_in_any_language_and_order(folder):
    (folder / "data.yaml").write_text("names: {1: 狗, 0: 7}\n", encoding="utf-8")
    assert read(folder)[0].classes == ["background", "7", "狗"]
    (folder / "mine.txt").write_text("Käfer \nsécheuse\n", encoding="utf-8")
    assert read(folder, folder / "mine.txt")[0].classes == ["background", "Käfer", "sécheuse"]


def test_yaml_files_of_other_programs_are_ignored(folder):
    (folder / "a_hooks.yaml").write_text("{{ x }}: [1")
    (folder / ".pre.yaml").write_text("names: [wrong]")
    assert read(folder)[0].classes == ["background", "cat", "dog"]
    (folder / "data.yaml").rename(folder / "mine.yaml")
    assert read(folder)[0].classes == ["background", "cat", "dog"]
    (folder / "mine.yaml").unlink()
    expect_error(folder, ["a_hooks.yaml", "YAML"])  # it may contain the names
    (folder / "classes.txt").write_text("ant\nbee\n\n")
    assert read(folder)[0].classes == ["background", "ant", "bee"]
    (folder / "data.yaml").write_text("[")
    expect_error(folder, ["data.yaml", "YAML"])


def test_empty_boxes_and_images_without_a_label_file_are_recorded(folder):
    path = add(folder, "a", "1 0.5 0.5 0 0.5\n0 0.5 0.5 1 1\n", images="images/train")
    train, val = read(folder)
    assert train.problems == {EMPTY_BOXES: [f"{path}, line 1"]}
    assert val.problems == {WITHOUT_LABEL_FILE: [str(folder / "images" / "val" / "b.png")]}
    add(folder, "b", "", images="images/val")  # an empty label file states that there are no objects
    assert read(folder)[1].problems == {}


def test_negative_sizes_are_sorted_and_recorded(folder):
    path = add(folder, "a", "1 0.5 0.25 -0.25 0.5\n1 0.5 0.25 0.25 -0.5\n1 0.5 0.25 0.25 0.5\n", images="images/train")
    train, _ = read(folder)
    assert train.images[0].ground_truth.tolist() == [[0, 30, 20, 50, 2]] * 3
    assert train.problems == {REVERSED_BOXES: [f"{path}, line 1", f"{path}, line 2"]}


def test_boxes_of_images_rotated_by_exif_are_fractions_of_the_upright_image(folder):
    path = folder / "images" / "train" / "rotated.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 40)).save(path, exif=exif)
    add(folder, "rotated", "0 0.5 0.5 1 1\n", images="images/train")
    train, _ = read(folder)
    (texts,) = [texts for kind, texts in train.problems.items() if "EXIF" in kind]
    assert texts == [f"{path} (orientation 6)"]
    assert train.images[1].size == (80, 40)
    assert train.images[1].ground_truth.tolist() == [[0, 0, 80, 40, 1]]


# --- errors ---


@pytest.mark.parametrize(
    "line, part",
    [
        ("0 0.5 0.5 1", "class x y width height"),
        ("0 0.5 0.5 1 1 1.1", "confidence"),
        ("0 0.5 0.5 1 1 37", "confidence"),
        ("0 0.1 0.1 0.5 0.1 0.5 0.5 0.1", "class x y width height"),
        ("0 0.5 0.5 1 one", "class x y width height"),
        ("0 0.5 0.5 1 nan", "class x y width height"),
        ("2 0.5 0.5 1 1", "class 2"),
        ("-1 0.5 0.5 1 1", "class -1"),
        ("0.5 0.5 0.5 1 1", "class 0.5"),
        ("0 40 20 10 10", "0 to 1"),
        ("0 0.5 1.51 1 1", "0 to 1"),
        ("0 0.5 -0.51 1 1", "0 to 1"),
        ("0 0.5 0.5 1.51 1", "0 to 1"),
        ("0 1 1 20 1 20 30 1 30", "0 to 1"),
    ],
)
def test_invalid_lines_are_named(line, part, folder):
    path = add(folder, "a", f"1 0.5 0.25 0.25 0.5\n{line}\n", images="images/train")
    expect_error(folder, [f"{path}: line 2", part])


@pytest.mark.parametrize("text", ["names: [cat, cat]", "names: []", "names: {1: cat, 2: dog}", "names: 2", "[", "3"])
def test_invalid_class_names_are_refused(text, folder):
    (folder / "data.yaml").write_text(text)
    expect_error(folder, ["data.yaml"], names=folder / "data.yaml")


@pytest.mark.parametrize("value", ["no", "null", "", "2024-05-01", "[cat]", '""'])
def test_class_names_that_yaml_reads_as_another_type_are_refused(value, folder):
    (folder / "data.yaml").write_text(f"names:\n  0: ant\n  1: {value}\n")
    expect_error(folder, ["data.yaml", "class 1"])
    (folder / "data.yaml").write_text('names: {0: "no", 1: 7.5}\n')
    assert read(folder)[0].classes == ["background", "no", "7.5"]


def test_an_empty_line_between_class_names_is_refused(folder):
    (folder / "mine.txt").write_text("ant\n\nbee\n")
    expect_error(folder, ["mine.txt: line 2"], names=folder / "mine.txt")


def test_missing_parts_are_named(folder):
    expect_error(folder, ["images/test", "--train_split"], train_splits=["test"])
    expect_error(folder, ["absent.txt", "--names"], names=folder / "absent.txt")
    (folder / "data.yaml").unlink()
    expect_error(folder, [folder, "--names FILE"])
    expect_error(folder / "absent", [folder / "absent", "--data_path"])


def test_all_unreadable_images_are_recorded(folder):
    paths = [folder / "images" / "train" / "a.png", folder / "images" / "val" / "b.png"]
    for path in paths:
        path.write_bytes(b"text")
    train, val = read(folder)
    for path, split in zip(paths, (train, val)):
        (text,) = split.problems[UNUSABLE_IMAGES]
        assert text.startswith(f"{path}: ")
    assert train.images[0].size is None and train.images[0].ground_truth.shape == (0, 5)
    add(folder, "c", "0 0.5 0.5 1 1\n", images="images/train")
    train, _ = read(folder, val_fraction=0.5)
    assert len(train.images) == 1 and len(train.problems[UNUSABLE_IMAGES]) == 1


@pytest.mark.parametrize("split", ["train", None])
def test_a_folder_without_images_is_named_with_the_suffixes_in_it(split, tmp_path):
    (tmp_path / "images" / "train").mkdir(parents=True)
    (tmp_path / "images" / "val").mkdir()
    (tmp_path / "images" / "train" / "a.DNG").touch()
    (tmp_path / "classes.txt").write_text("cat\n")
    more = {"train_splits": [split]} if split else {"val_fraction": 0.5}
    if not split:
        (tmp_path / "images" / "train").rename(tmp_path / "images" / "all")
    expect_error(tmp_path, [tmp_path / "images", ".DNG"], **more)


def test_label_files_that_are_not_utf8_are_refused(folder):
    path = add(folder, "a", "", images="images/train")
    path.write_bytes(b"\xff\xd8\xff")
    expect_error(folder, [path, "UTF-8"])
