"""YOLO folders: boxes, polygons, labels and class names, and errors."""

import pytest
from PIL import Image

from ssd.data.readers.annotations import EMPTY_BOXES, UNUSABLE_IMAGES
from ssd.data.readers.corners import REVERSED_BOXES
from ssd.data.readers.yolo_label_files import WITHOUT_IMAGE, WITHOUT_LABEL_FILE
from ssd.data.readers.yolo_label_rows import CONFIDENCES, KEYPOINTS, POLYGONS
from yolo_folders import add, expect_error, read, stems


@pytest.fixture
def folder(tmp_path):
    """A training image with a box, a validation image without objects, and the names cat and dog."""
    add(tmp_path, "a", "1 0.5 0.25 0.25 0.5\n", images="images/train")
    add(tmp_path, "b", images="images/val")
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\n")
    return tmp_path


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


def test_several_folders_are_merged_into_one_split(folder):
    add(folder, "c", "0 0.5 0.5 1 1\n", images="images/extra")
    table = folder / "data.yaml"
    table.write_text("train: [images/train, ./images/extra]\nnames: [cat, dog]\n")
    assert [stems(split) for split in read(folder)] == [["a", "c"], ["b"]]
    table.write_text("train: [images/train, images/more]\nnames: [cat, dog]\n")
    expect_error(folder, [table, "'images/more'", "train"])
    table.write_text("train: [gone, images/more]\nnames: [cat, dog]\n")  # neither exists, so the usual place is used
    assert stems(read(folder)[0]) == ["a"]


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
