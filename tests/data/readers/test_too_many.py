"""Too many boxes in an image, too many classes, and names that no file can contain, are refused in one line."""

import json

import cv2
import numpy as np
import pytest

import voc_folders
import yolo_folders
from own_data import write_coco, xml_object
from ssd.data.readers import annotations, coco
from ssd.data.readers.coco_exports import undo_export_quirks
from ssd.data.readers.coco_layouts import CocoFolder
from ssd.data.readers.coco_segmentation import segmentation_box
from ssd.data.readers.image_finder import find_images
from ssd.data.readers.splits import open_dataset_folder, read_splits
from ssd.errors import UserError
from ssd.evaluation.coco_metrics import CocoEvaluator


def write(folder, annotation_format, num_boxes):
    """Write a dataset whose training and validation image have so many boxes. Return its folder."""
    for split in ("train", "val"):
        if annotation_format == "coco":
            boxes = [
                {"id": n, "image_id": 5, "category_id": 3, "bbox": [n, 0, 9, 9], "area": 81, "iscrowd": 0}
                for n in range(1, num_boxes + 1)
            ]
            write_coco(folder / f"{split}.json", 5, 1, folder=folder / split, annotations=boxes)
        elif annotation_format == "voc":
            voc_folders.add(folder, split, [xml_object("dog", (1, 1, 9, 9))] * num_boxes, splits=[split])
        else:
            (folder / "classes.txt").parent.mkdir(exist_ok=True)
            (folder / "classes.txt").write_text("dog\n")
            yolo_folders.add(folder, split, "0 0.5 0.5 0.5 0.5\n" * num_boxes, images=f"images/{split}")
    return folder


@pytest.mark.parametrize(
    "annotation_format, place", [("coco", "train.json: image 5: 4"), ("voc", "train.xml: 4"), ("yolo", "train.txt: 4")]
)
def test_many_boxes_in_an_image(annotation_format, place, tmp_path, monkeypatch):
    monkeypatch.setattr(annotations, "MAX_BOXES", 3)
    for number in (3, 4):
        write(tmp_path / str(number), annotation_format, number)
    train, _ = read_splits(open_dataset_folder(annotation_format, tmp_path / "3"))
    assert len(train.images[0].ground_truth) == 3
    with pytest.raises(UserError, match=f"{place} boxes"):
        read_splits(open_dataset_folder(annotation_format, tmp_path / "4"))


def test_many_boxes_in_the_annotations_of_an_evaluation(tmp_path, monkeypatch):
    monkeypatch.setattr(annotations, "MAX_BOXES", 3)
    write(tmp_path, "coco", 4)
    with pytest.raises(UserError, match="val.json: image 5: 4 boxes"):
        CocoEvaluator(tmp_path / "val.json", ["background", "猫"])


def test_many_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(coco, "MAX_CLASSES", 1)
    write(tmp_path, "coco", 1)
    with pytest.raises(UserError, match="train.json: .*2 categories"):
        read_splits(CocoFolder(tmp_path))


def test_a_root_category_among_many_is_found_fast():
    categories = [{"id": 0, "name": "root", "supercategory": "none"}]
    categories += [{"id": n, "name": f"c{n}", "supercategory": "root"} for n in range(1, 30_000)]
    found, problems = undo_export_quirks({"images": [], "annotations": [], "categories": categories})
    assert len(found["categories"]) == 29_999 and len(problems) == 1
    same = [{**category, "supercategory": ["root"]} for category in categories]
    assert undo_export_quirks({"images": [], "annotations": [], "categories": same})[1] == {}


def test_names_and_numbers_of_a_million_characters(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert find_images(["x/" * 500_000 + "a.jpg", "y/" * 2000 + "a.jpg"], [tmp_path]) == [None, tmp_path / "a.jpg"]
    assert segmentation_box({"size": [9, 9], "counts": "o" * 1_000_000}) is None


@pytest.mark.parametrize("key", ["images", "categories"])
def test_names_with_half_a_character(key, tmp_path):
    write(tmp_path, "coco", 1)
    content = json.loads((tmp_path / "train.json").read_text())
    content[key][0] |= {"file_name": "\ud800.jpg", "name": "\ud800"}
    (tmp_path / "train.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="train.json: .*name.*ud800"):
        read_splits(CocoFolder(tmp_path, tmp_path / "train"))


def test_file_names_that_are_not_utf8(tmp_path):
    write(tmp_path, "yolo", 1)
    image = cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1].tobytes()
    (tmp_path / "images/train" / b"\xff.png".decode(errors="surrogateescape")).write_bytes(image)
    with pytest.raises(UserError, match="udcff.png"):
        read_splits(open_dataset_folder("yolo", tmp_path))
