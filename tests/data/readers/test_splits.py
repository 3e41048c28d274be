"""Reading both splits of a folder: equal results in each format, held-out images, empty and unlisted images."""

import dataclasses
import json
import shutil

import pytest

from own_data import make_voc, make_yolo, write_coco, xml_image
from ssd.data.dataset_info import check_files, read_dataset_info, sha256
from ssd.data.inspection.image_check import check_images
from ssd.data.readers.annotations import UNUSABLE_IMAGES, UncheckedSplit
from ssd.data.readers.coco import parse_coco, require_usable_images
from ssd.data.readers.splits import (
    PASSED_OVER,
    UNLISTED_IMAGES,
    find_repeated_images,
    hold_out_validation,
    open_dataset_folder,
    read_splits,
)
from ssd.errors import UserError


@pytest.fixture(scope="module")
def folders(shapes_coco, tmp_path_factory):
    """The drawn dataset in each format."""
    folder = tmp_path_factory.mktemp("formats")
    voc = make_voc(shapes_coco, folder / "voc", years=("VOC2007", "VOC2012"))
    return {"coco": shapes_coco, "voc": voc, "yolo": make_yolo(shapes_coco, folder / "yolo")}


def read(annotation_format, folder, *options, **more):
    return read_splits(open_dataset_folder(annotation_format, folder), *options, **more)


def by_name(split):
    """Return {file name: sorted [class name, y0, x0, y1, x1] of its boxes}."""
    return {
        image.path.name: sorted([split.classes[int(row[4])], *row[:4].round(3).tolist()] for row in image.ground_truth)
        for image in split.images
    }


# --- equal results in each format ---


@pytest.mark.parametrize("annotation_format", ["voc", "yolo"])
def test_a_dataset_is_the_same_in_each_format(annotation_format, folders):
    for split, expected in zip(read(annotation_format, folders[annotation_format]), read("coco", folders["coco"])):
        assert by_name(split) == by_name(expected)
        assert set(split.classes) == set(expected.classes)


@pytest.mark.parametrize("annotation_format", ["voc", "yolo"])
def test_shards_have_their_own_validation_annotations(annotation_format, folders, tmp_path):
    from ssd.data.mindrecord import convert

    train, val = read(annotation_format, folders[annotation_format])
    info = convert(train, val, tmp_path / "out", overwrite=False, num_workers=1)
    assert info == read_dataset_info(tmp_path / "out" / "dataset.json")
    assert info.annotations == "annotations/val_annotations.json"
    check_files(info, tmp_path / "out", "val")
    path = tmp_path / "out" / info.annotations
    assert info.val.source_sha256 == sha256(path) and json.loads(path.read_text()) == val.coco_dict
    assert info.train.boxes == sum(len(image.ground_truth) for image in train.images)
    with pytest.raises(UserError, match=str(tmp_path / "out" / "dataset.json")):
        convert(train, val, tmp_path / "out", overwrite=False, num_workers=1)
    again = convert(train, val, tmp_path / "out", overwrite=True, num_workers=1)
    assert again.val.source_sha256 == info.val.source_sha256 and again.train.boxes == info.train.boxes


def test_only_yolo_has_a_names_file(folders):
    with pytest.raises(UserError, match="--names: .*a.txt.*voc"):
        open_dataset_folder("voc", folders["voc"], "a.txt")


# --- held-out validation images ---


def test_a_share_of_the_only_annotation_file_is_held_out(tmp_path):
    write_coco(tmp_path / "all.json", 1, 10, folder=tmp_path / "images")
    train, val = read("coco", tmp_path, val_fraction=0.3)
    assert (len(train.images), len(val.images)) == (7, 3)
    for split in (train, val):
        assert all(image.ground_truth[:, 3].tolist() == [image.image_id] for image in split.images)
        assert {row["image_id"] for row in split.coco_dict["annotations"]} == {image.image_id for image in split.images}
    assert train.classes == val.classes
    write_coco(tmp_path / "more.json", 1, 10, folder=tmp_path / "images")
    with pytest.raises(UserError, match="2 .*all.json, more.json.*--train_split"):
        read("coco", tmp_path, val_fraction=0.3)
    assert len(read("coco", tmp_path, ["more"], val_fraction=0.5)[1].images) == 5


def content(numbers):
    images = [{"id": n, "file_name": f"{n}.jpg"} for n in numbers]
    return {"images": images, "annotations": [], "categories": [{"id": 1, "name": "a"}]}


def hold_out(numbers, folder, fraction=0.2):
    for number in numbers:
        (folder / f"{number}.jpg").touch()
    train, val = hold_out_validation(UncheckedSplit(content(numbers), folder, folder), fraction)
    ids = [{image["id"] for image in part.coco_dict["images"]} for part in (train, val)]
    assert not ids[0] & ids[1] and ids[0] | ids[1] == set(numbers)
    return ids[1]


def test_held_out_images_depend_neither_on_the_order_nor_much_on_added_images(tmp_path):
    first = hold_out(range(100), tmp_path)
    assert len(first) == 20 and hold_out(range(99, -1, -1), tmp_path) == first
    assert len(first & hold_out(range(110), tmp_path)) >= 18
    assert first != set(range(20))  # not simply the first ones


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_a_share_that_leaves_a_split_empty_is_refused(fraction, tmp_path):
    with pytest.raises(UserError, match=f"--val_fraction: .*{fraction} of 10"):
        hold_out(range(10), tmp_path, fraction)


@pytest.mark.parametrize("fraction", [0, 1, -0.2, float("nan")])
def test_invalid_shares_are_refused(fraction, folders):
    with pytest.raises(UserError, match=f"--val_fraction: .*{fraction:g}"):
        read("coco", folders["coco"], val_fraction=fraction)


def test_a_share_and_a_validation_split_exclude_each_other(folders):
    with pytest.raises(UserError, match="--val_fraction: .*--val_split"):
        read("coco", folders["coco"], val_splits=["val2017"], val_fraction=0.2)


def test_an_image_that_fits_two_names_is_missing_in_both_parts(tmp_path):
    """An image of one camera is not taken for that of another, although its other name is in the other part."""
    entries = [{"id": 20 + number, "file_name": f"cam{number % 2}/{number // 2}.jpg"} for number in range(20)]
    write_coco(tmp_path / "set.json", 1, 5, folder=tmp_path / "images")
    content = json.loads((tmp_path / "set.json").read_text())
    (tmp_path / "set.json").write_text(json.dumps({**content, "images": [*content["images"], *entries]}))
    for number in range(10):
        (tmp_path / "images" / f"{number}.jpg").touch()
    train, val = read("coco", tmp_path, val_fraction=0.5)
    assert len(set(train.problems[UNUSABLE_IMAGES])) == 20 and len(train.images) + len(val.images) == 25
    with pytest.raises(UserError, match="19 more images"):
        require_usable_images(train, val)


@pytest.mark.parametrize("name", ["x" * 300 + ".jpg", "x" * 300 + "/z.jpg", "a\0.jpg"], ids=["file", "folder", "null"])
def test_names_that_no_file_can_have_are_missing_images(name, tmp_path):
    write_coco(tmp_path / "coco" / "set.json", 1, 3, folder=tmp_path / "coco" / "images")
    content = json.loads((tmp_path / "coco/set.json").read_text())
    content["images"][0]["file_name"] = name
    (tmp_path / "coco/set.json").write_text(json.dumps(content))
    (tmp_path / "yolo/images").mkdir(parents=True)
    (tmp_path / "yolo/images/a.jpg").touch()
    (tmp_path / "yolo/classes.txt").write_text("cat\n")
    (tmp_path / "yolo/train.txt").write_text(f"{name}\nimages/a.jpg\n")
    (tmp_path / "voc/set").mkdir(parents=True)
    (tmp_path / "voc/set/a.jpg").touch()
    (tmp_path / "voc/set/b.xml").write_text(xml_image(name.replace("\0", "%00"), 4, 4, objects=[]))
    for annotation_format, split_name in (("coco", "set"), ("yolo", "train"), ("voc", "set")):
        folder = open_dataset_folder(annotation_format, tmp_path / annotation_format)
        split = folder.read({"train": [split_name]})["train"]
        categories = split.coco_dict["categories"] or [{"id": 1, "name": "cat"}]
        checked = parse_coco(dataclasses.replace(split, coco_dict={**split.coco_dict, "categories": categories}))
        (missing,) = checked.problems[UNUSABLE_IMAGES]
        assert missing.startswith(str(tmp_path / annotation_format))


def test_entries_of_data_yaml_that_no_folder_can_have_are_refused(tmp_path):
    (tmp_path / "data.yaml").write_text(json.dumps({"names": ["cat"], "train": "x" * 300}))
    with pytest.raises(UserError, match="'train'"):
        read("yolo", tmp_path)


@pytest.mark.parametrize("split", ["x" * 300, "/absent/train", "a\0b", "[", "../train"])
@pytest.mark.parametrize("annotation_format", ["coco", "voc", "yolo"])
def test_names_of_splits_that_do_not_exist_are_refused(annotation_format, split, folders):
    with pytest.raises(UserError, match="--train_split"):
        read(annotation_format, folders[annotation_format], [split])


def test_a_file_of_class_names_with_a_long_name_is_missing(folders):
    with pytest.raises(UserError, match="--names"):
        open_dataset_folder("yolo", folders["yolo"], names_path=folders["yolo"] / ("x" * 300))


@pytest.mark.parametrize("annotation_format", ["coco", "voc", "yolo"])
def test_links_to_themselves_are_missing_images(annotation_format, folders, tmp_path):
    folder = shutil.copytree(folders[annotation_format], tmp_path / annotation_format)
    path = read(annotation_format, folder)[0].images[0].path
    path.unlink()
    path.symlink_to(path.name)
    train, _ = read(annotation_format, folder)
    (missing,) = train.problems[UNUSABLE_IMAGES]  # counted once
    assert missing.startswith(f"{path}: ")
    assert check_images(train, train, num_workers=1)[UNUSABLE_IMAGES] == [missing] * 2


# --- empty, repeated and unlisted images ---


def test_empty_images_are_kept_by_default(tmp_path):
    for split in ("train", "val"):
        write_coco(tmp_path / f"{split}.json", 1, 3, folder=tmp_path / split)
        content = json.loads((tmp_path / f"{split}.json").read_text())
        content["annotations"][1]["iscrowd"] = 1  # image 2 has no box to train on
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    train, val = read("coco", tmp_path)
    assert [len(image.ground_truth) for image in train.images] == [1, 0, 1]
    train, val = read("coco", tmp_path, keep_empty=False)
    assert [image.image_id for image in train.images] == [1, 3]
    assert [image.image_id for image in val.images] == [1, 2, 3]


def test_repeated_images_are_found(folders):
    train, val = read("voc", folders["voc"], train_splits=["train", "val"], val_splits=["VOC2012/val"])
    assert find_repeated_images(train, val) == [str(image.path) for image in val.images]
    assert find_repeated_images(*read("voc", folders["voc"])) == []


def test_images_that_belong_to_neither_split_are_recorded(tmp_path):
    for split in ("train", "val"):
        write_coco(tmp_path / f"{split}.json", 1, 3, folder=tmp_path / "images")
    assert read("coco", tmp_path)[0].problems == {}
    for name in ("later.PNG", "notes.txt"):
        (tmp_path / "images" / name).touch()
    expected = {UNLISTED_IMAGES: [str(tmp_path / "images" / "later.PNG")]}
    assert read("coco", tmp_path)[0].problems == expected
    assert read("coco", tmp_path, keep_empty=False)[0].problems == expected  # without the images left out


@pytest.mark.parametrize("keep_empty", [True, False])
def test_a_training_split_of_crowd_regions_is_refused(keep_empty, tmp_path):
    for split, first_id in (("train", 1), ("val", 11)):
        write_coco(tmp_path / f"{split}.json", first_id, 3, folder=tmp_path / split)
    path = tmp_path / "train.json"
    path.write_text(path.read_text().replace('"iscrowd": 0', '"iscrowd": 1'))
    with pytest.raises(UserError, match="train.json: .*3 annotations.*iscrowd"):
        read_splits(open_dataset_folder("coco", tmp_path), keep_empty=keep_empty)


@pytest.mark.parametrize("annotation_format", ["coco", "voc", "yolo"])
def test_files_with_other_suffixes_are_recorded(annotation_format, folders, tmp_path):
    """Raw photographs are counted; annotations, text and hidden files beside the images are not."""
    shutil.copytree(folders[annotation_format], tmp_path / "data")
    train, _ = read(annotation_format, tmp_path / "data")
    folder = train.images[0].path.parent
    for name in ("a.DNG", "b.cr2", "c.jxl", "d", "notes.TXT", "Thumbs.db", "a.xml", ".hidden.dng"):
        (folder / name).touch()
    train, val = read(annotation_format, tmp_path / "data")
    assert train.problems[PASSED_OVER] == [str(folder / name) for name in ("a.DNG", "b.cr2", "c.jxl", "d")]
    assert PASSED_OVER not in val.problems
