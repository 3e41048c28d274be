"""Images with YOLO labels: boxes, polygons, where splits and names are looked for, and what is refused."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ssd.data.readers.annotations import BROKEN
from ssd.data.readers.splits import open_folder, read_splits
from ssd.data.readers.yolo import OUTSIDE, TURNED, YoloFolder
from ssd.errors import UserError


def add(folder, name, labels=None, images="images", beside=False):
    """Write an image of height 40 and width 80, and its labels if any: in `labels` where the image has `images`."""
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
    add(tmp_path, "a", "1 0.5 0.25 0.25 0.5\n", "images/train")
    add(tmp_path, "b", images="images/val")
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\n")
    return tmp_path


def read(folder, names=None, **options):
    return read_splits(YoloFolder(folder, names), **options)


def names_of(split):
    return [image.path.stem for image in split.images]


def refused(folder, *parts, names=None, **options):
    with pytest.raises(UserError) as caught:
        read(folder, names, **options)
    message = str(caught.value)
    assert "\n" not in message and ": got " in message and ", expected " in message and "; " in message
    for part in parts:
        assert str(part) in message


# --- what is read ---


def test_centres_and_sizes_are_shares_of_the_image(folder):
    train, val = read(folder)
    assert train.images[0].objects.tolist() == [[0, 30, 20, 50, 2]]  # y0, x0, y1, x1 of 40x80: x 40 +- 10, y 10 +- 10
    assert train.images[0].size == (40, 80)
    assert train.content["annotations"][0]["bbox"] == [30, 0, 20, 20]
    assert val.images[0].objects.shape == (0, 5)
    assert train.classes == val.classes == ["background", "cat", "dog"] and train.category_ids == [1, 2]
    assert [train.images[0].image_id, val.images[0].image_id] == [1, 2]


def test_a_polygon_gives_the_box_around_it(folder):
    add(folder, "a", "0 0.25 0.5 0.75 0.25 0.5 1.0\n", "images/train")
    assert read(folder)[0].images[0].objects.tolist() == [[10, 20, 40, 60, 1]]


def test_blank_lines_and_float_classes_are_taken(folder):
    add(folder, "a", "\n0.0 0.5 0.5 1 1\n  \n1 0.5 0.5 1 1", "images/train")
    assert read(folder)[0].images[0].objects[:, 4].tolist() == [1, 2]


def test_labels_lie_beside_the_image_too(tmp_path):
    add(tmp_path, "a", "0 0.5 0.5 1 1\n", "train", beside=True)
    add(tmp_path, "b", "0 0.5 0.5 1 1\n", "valid/images", beside=True)
    (tmp_path / "classes.txt").write_text("cat\n")
    train, val = read(tmp_path)
    assert len(train.images[0].objects) == len(val.images[0].objects) == 1


@pytest.mark.parametrize("images", ["images/{}", "{}/images", "{}"])
def test_splits_are_folders(images, tmp_path):
    for name, split in (("a", "train"), ("b", "valid"), ("c", "test")):
        add(tmp_path, name, "0 0.5 0.5 1 1\n", images.format(split), beside="images" not in images)
    (tmp_path / "obj.names").write_text("cat\n")
    train, val = read(tmp_path)
    assert (names_of(train), names_of(val)) == (["a"], ["b"])
    assert len(train.images[0].objects) == 1
    train, val = read(tmp_path, train_splits=["train", "valid"], val_splits=["test"])
    assert (names_of(train), names_of(val)) == (["a", "b"], ["c"])


def test_splits_are_lists_of_files(tmp_path):
    for name in "abc":
        add(tmp_path, name, "0 0.5 0.5 1 1\n")
    (tmp_path / "train.txt").write_text("./images/c.png\nimages/a.png\nimages/c.png\n")
    (tmp_path / "val.txt").write_text(f"{tmp_path}/images/b.png\n")
    (tmp_path / "classes.txt").write_text("cat\n")
    train, val = read(tmp_path)
    assert (names_of(train), names_of(val)) == (["c", "a"], ["b"])
    assert all(len(image.objects) == 1 for image in (*train.images, *val.images))
    (tmp_path / "val.txt").write_text("images/d.png\nimages/b.png\nimages/e.png\n")
    wrong = [f"{tmp_path / 'images' / name}.png: got no such file or directory" for name in "de"]
    assert list(dict.fromkeys(read(tmp_path)[1].problems[BROKEN])) == wrong


def test_lists_may_be_of_windows(tmp_path):
    for name in "ab":
        add(tmp_path, name, "0 0.5 0.5 1 1\n", "images/all")
    for name, split in (("a", "train"), ("b", "val")):
        (tmp_path / f"{split}.txt").write_text(f".\\images\\all\\{name}.png\r\n")
    (tmp_path / "classes.txt").write_text("cat\n")
    assert [names_of(split) for split in read(tmp_path)] == [["a"], ["b"]]


@pytest.mark.parametrize(
    "settings", ["path: /nowhere\ntrain: left/images", "train: ../left/images", "path: left\ntrain: images"]
)
def test_splits_are_where_data_yaml_says(settings, tmp_path):
    add(tmp_path, "a", "0 0.5 0.5 1 1\n", "left/images")
    add(tmp_path, "b", images="val")
    (tmp_path / "data.yaml").write_text(f"{settings}\nnames: {{0: cat}}\n")
    train, _ = read(tmp_path)
    assert names_of(train) == ["a"] and len(train.images[0].objects) == 1


def test_several_folders_are_one_split(folder):
    add(folder, "c", "0 0.5 0.5 1 1\n", "images/extra")
    table = folder / "data.yaml"
    table.write_text("train: [images/train, ./images/extra]\nnames: [cat, dog]\n")
    assert [names_of(split) for split in read(folder)] == [["a", "c"], ["b"]]
    table.write_text("train: [images/train, images/more]\nnames: [cat, dog]\n")
    refused(folder, table, "'images/more'", "train")
    table.write_text("train: [gone, images/more]\nnames: [cat, dog]\n")  # of which the usual places know better
    assert names_of(read(folder)[0]) == ["a"]


# --- images of --data_path come before any others ---


@pytest.fixture
def other(tmp_path):
    """Another set, beside the one of `folder` below, with splits and names of its own."""
    for split in ("train", "val"):
        add(tmp_path / "other", "x", "0 0.5 0.5 1 1\n", f"images/{split}")
    (tmp_path / "other" / "classes.txt").write_text("ant\nbee\n")
    return tmp_path / "other"


@pytest.fixture
def mine(tmp_path):
    for name, split in (("a", "train"), ("b", "val")):
        add(tmp_path / "mine", name, "1 0.5 0.5 1 1\n", f"images/{split}")
    (tmp_path / "mine" / "data.yaml").write_text("names: [cat, dog]\n")
    return tmp_path / "mine"


def test_images_beside_the_names_are_not_taken(mine, other):
    train, val = read(mine, other / "classes.txt")
    assert (names_of(train), names_of(val)) == (["a"], ["b"]) and train.classes == ["background", "ant", "bee"]
    assert train.problems == val.problems == {}


def test_images_of_an_older_place_are_not_taken(mine, other):
    text = f"path: {other}\ntrain: images/train\nval: {other}/images/val\nnames: [cat, dog]\n"
    (mine / "data.yaml").write_text(text)
    assert [names_of(split) for split in read(mine)] == [["a"], ["b"]]


def test_images_of_a_sibling_folder_are_not_taken(tmp_path):
    add(tmp_path, "x", "0 0.5 0.5 1 1\n", "train/images")
    for name, split in (("a", "train"), ("b", "valid")):
        add(tmp_path / "mine", name, "0 0.5 0.5 1 1\n", f"{split}/images")
    (tmp_path / "mine" / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: [cat]\n")
    assert [names_of(split) for split in read(tmp_path / "mine")] == [["a"], ["b"]]


@pytest.mark.parametrize("said", ["path: {}\ntrain: images/train", "train: ../other/images/train"])
def test_images_from_elsewhere_are_told(said, mine, other):
    (mine / "images" / "train").rename(mine / "spare")
    (mine / "data.yaml").write_text(f"{said.format(other)}\nnames: [cat, dog]\n")
    train, val = read(mine)
    assert names_of(train) == ["x"] and len(train.images[0].objects) == 1 and train.images[0].path.is_file()
    (told,) = train.problems[OUTSIDE]
    assert (mine / told).resolve() == other / "images" / "train" / "x.png"
    assert names_of(val) == ["b"] and val.problems == {}


def test_images_lie_directly_in_the_folder_of_the_shell(tmp_path, monkeypatch):
    for number in range(5):
        add(tmp_path, f"n{number}", "0 0.5 0.5 1 1\n", "", beside=True)
    (tmp_path / "classes.txt").write_text("cat\n")
    monkeypatch.chdir(tmp_path)
    train, val = read_splits(open_folder("yolo", Path(".")), val_fraction=0.2)
    assert (len(train.images), len(val.images)) == (4, 1)
    assert train.problems == {} and train.annotation_path.name == tmp_path.name


def test_folders_have_any_case(tmp_path):
    for name, split in (("a", "train"), ("b", "val")):
        add(tmp_path, name, images=f"Images/{split}")
        (tmp_path / "Labels" / split).mkdir(parents=True)
        (tmp_path / "Labels" / split / f"{name}.txt").write_text("0 0.5 0.5 1 1\n")
    (tmp_path / "classes.txt").write_text("cat\n")
    for split in read(tmp_path):
        assert len(split.images[0].objects) == 1 and split.problems == {}


def test_a_share_of_all_images_is_held_out(tmp_path):
    for number in range(10):
        add(tmp_path, f"n{number}", "0 0.5 0.5 1 1\n")
    (tmp_path / "classes.txt").write_text("cat\n")
    train, val = read(tmp_path, val_fraction=0.2)
    assert (len(train.images), len(val.images)) == (8, 2)
    assert {*names_of(train), *names_of(val)} == {f"n{number}" for number in range(10)}


def test_names_are_text_in_any_language_and_order(folder):
    (folder / "data.yaml").write_text("names: {1: 狗, 0: 7}\n", encoding="utf-8")
    assert read(folder)[0].classes == ["background", "7", "狗"]
    (folder / "mine.txt").write_text("Käfer \nsécheuse\n", encoding="utf-8")
    assert read(folder, folder / "mine.txt")[0].classes == ["background", "Käfer", "sécheuse"]


def test_tables_of_other_programs_are_passed_over(folder):
    (folder / "a_hooks.yaml").write_text("{{ x }}: [1")
    (folder / ".pre.yaml").write_text("names: [wrong]")
    assert read(folder)[0].classes == ["background", "cat", "dog"]
    (folder / "data.yaml").rename(folder / "mine.yaml")
    assert read(folder)[0].classes == ["background", "cat", "dog"]
    (folder / "mine.yaml").unlink()
    refused(folder, "a_hooks.yaml", "YAML")  # which may have been meant
    (folder / "classes.txt").write_text("ant\nbee\n\n")
    assert read(folder)[0].classes == ["background", "ant", "bee"]
    (folder / "data.yaml").write_text("[")
    refused(folder, "data.yaml", "YAML")


def test_boxes_without_extent_and_images_without_labels_are_told(folder):
    path = add(folder, "a", "1 0.5 0.5 0 0.5\n0 0.5 0.5 1 1\n", "images/train")
    train, val = read(folder)
    assert train.problems == {"boxes without extent, left out": [f"{path}, line 1"]}
    assert val.problems == {"images without a label file, taken for empty": [str(folder / "images" / "val" / "b.png")]}
    add(folder, "b", "", "images/val")  # says that there is nothing
    assert read(folder)[1].problems == {}


def test_images_turned_by_exif_are_told(folder):
    path = folder / "images" / "train" / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 40)).save(path, exif=exif)
    add(folder, "turned", "0 0.5 0.5 1 1\n", "images/train")
    train, _ = read(folder)
    assert train.problems == {TURNED: [str(path)]} and train.images[1].size == (40, 80)


# --- what is refused ---


@pytest.mark.parametrize(
    "line, part",
    [
        ("0 0.5 0.5 1", "class x y width height"),
        ("0 0.5 0.5 1 1 0.9", "class x y width height"),
        ("0 0.5 0.5 1 one", "class x y width height"),
        ("0 0.5 0.5 1 nan", "class x y width height"),
        ("2 0.5 0.5 1 1", "class 2, expected 0 to 1"),
        ("-1 0.5 0.5 1 1", "class -1"),
        ("0.5 0.5 0.5 1 1", "class 0.5"),
        ("0 40 20 10 10", "shares of the image"),
        ("0 0.5 -0.5 1 1", "shares of the image"),
    ],
)
def test_what_cannot_be_is_refused_by_file_and_line(line, part, folder):
    path = add(folder, "a", f"1 0.5 0.25 0.25 0.5\n{line}\n", "images/train")
    refused(folder, f"{path}: line 2", part)


@pytest.mark.parametrize("text", ["names: [cat, cat]", "names: []", "names: {1: cat, 2: dog}", "names: 2", "[", "3"])
def test_names_that_cannot_be_are_refused(text, folder):
    (folder / "data.yaml").write_text(text)
    refused(folder, "data.yaml", names=folder / "data.yaml")


@pytest.mark.parametrize("value", ["no", "null", "", "2024-05-01", "[cat]", '""'])
def test_names_that_yaml_takes_for_something_else_are_refused(value, folder):
    (folder / "data.yaml").write_text(f"names:\n  0: ant\n  1: {value}\n")
    refused(folder, "data.yaml", "class 1", "quotes")
    (folder / "data.yaml").write_text('names: {0: "no", 1: 7.5}\n')
    assert read(folder)[0].classes == ["background", "no", "7.5"]


def test_an_empty_line_among_names_is_refused(folder):
    (folder / "mine.txt").write_text("ant\n\nbee\n")
    refused(folder, "mine.txt: line 2", "numbered by lines", names=folder / "mine.txt")


def test_missing_parts_are_named(folder):
    refused(folder, "images/test", "--train_split", train_splits=["test"])
    refused(folder, "absent.txt", "--names", names=folder / "absent.txt")
    (folder / "data.yaml").unlink()
    refused(folder, folder, "--names FILE")
    refused(folder / "absent", "no such folder", "--data_path")


def test_all_images_that_are_none_are_told(folder):
    paths = [folder / "images" / "train" / "a.png", folder / "images" / "val" / "b.png"]
    for path in paths:
        path.write_bytes(b"text")
    train, val = read(folder)
    assert [split.problems[BROKEN] for split in (train, val)] == [
        [f"{path}: got bytes that do not decode"] for path in paths
    ]
    assert train.images[0].size is None and train.images[0].objects.shape == (0, 5)
    add(folder, "c", "0 0.5 0.5 1 1\n", "images/train")
    train, _ = read(folder, val_fraction=0.5)
    assert len(train.images) == 1 and len(train.problems[BROKEN]) == 1


def test_labels_that_are_no_text_are_refused(folder):
    path = add(folder, "a", "", "images/train")
    path.write_bytes(b"\xff\xd8\xff")
    refused(folder, path, "UTF-8")
