"""Boxes of images that EXIF data rotate or mirror: the decision between upright and stored pixels, and the turning."""

import json

import numpy as np
import pytest
from pycocotools import mask

from rotated_images import BOXES_XYWH, COLORS, SIZE, find_boxes, store, write_dataset
from ssd.data.readers import box_orientation
from ssd.data.readers.splits import open_dataset_folder, read_splits
from ssd.errors import UserError

CENTRAL = ("blue",)  # a box that lies inside the image upright and as stored


def read(folder, annotation_format, **options):
    return read_splits(open_dataset_folder(annotation_format, folder), **options)


def boxes_of(split):
    """Return for each image {name: (x, y, width, height)}, rounded to a thousandth of a pixel."""
    return [
        {
            split.classes[int(label)]: tuple(np.round([x0, y0, x1 - x0, y1 - y0], 3).tolist())
            for y0, x0, y1, x1, label in image.ground_truth
        }
        for image in split.images
    ]


def decision(split):
    """Return the kind of problem that states the decision, and its texts."""
    ((kind, texts),) = [item for item in split.problems.items() if "EXIF" in item[0]]
    return kind, texts


@pytest.mark.parametrize("annotation_format", ["coco", "voc", "yolo"])
@pytest.mark.parametrize("frame", ["upright", "stored"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_upright(annotation_format, frame, orientation, tmp_path):
    write_dataset(tmp_path, annotation_format, [orientation], frame)
    # YOLO's fractions fit both images, and the sides of the orientations 2 to 4 are not swapped.
    boxes_in = frame if annotation_format == "yolo" or orientation < 5 else None
    for split in read(tmp_path, annotation_format, boxes_in=boxes_in):
        assert boxes_of(split) == [BOXES_XYWH]
        assert [image.size for image in split.images] == [SIZE]
        if orientation == 1:
            assert not split.problems
        else:
            kind, texts = decision(split)
            assert frame in kind and len(texts) == 1 and f"(orientation {orientation})" in texts[0]


@pytest.mark.parametrize("annotation_format", ["coco", "voc", "yolo"])
def test_boxes_are_upright_by_default(annotation_format, tmp_path):
    write_dataset(tmp_path, annotation_format, range(1, 9), "upright", stated="nothing", names=CENTRAL)
    train, _ = read(tmp_path, annotation_format)
    assert boxes_of(train) == [{"blue": BOXES_XYWH["blue"]}] * 8
    assert [image.size for image in train.images][1:] == [SIZE] * 7
    kind, texts = decision(train)
    assert "--boxes_in stored" in kind and len(texts) == 7


@pytest.mark.parametrize("annotation_format", ["coco", "voc"])
@pytest.mark.parametrize("frame, stated", [("upright", "stored"), ("stored", "upright"), ("stored", "nothing")])
def test_boxes_decide_against_the_stated_sizes(annotation_format, frame, stated, tmp_path):
    write_dataset(tmp_path, annotation_format, range(1, 9), frame, stated=stated)
    for split in read(tmp_path, annotation_format):
        assert boxes_of(split) == [BOXES_XYWH] * 8
        kind, texts = decision(split)
        assert f"as {frame}," in kind and len(texts) == 7
        assert {image.size for image in split.images[1:]} == {SIZE}


@pytest.mark.parametrize("annotation_format", ["coco", "voc"])
@pytest.mark.parametrize("frame", ["upright", "stored"])
def test_stated_sizes_decide_if_boxes_fit_both_images(annotation_format, frame, tmp_path):
    write_dataset(tmp_path, annotation_format, range(1, 9), frame, names=CENTRAL)
    train, val = read(tmp_path, annotation_format)
    assert boxes_of(train) == boxes_of(val) == [{"blue": BOXES_XYWH["blue"]}] * 8
    kind, _ = decision(train)
    assert f"as {frame}," in kind and "stated" in kind


@pytest.mark.parametrize("frame", ["upright", "stored"])
def test_both_splits_decide_together(frame, tmp_path):
    """The only evidence of the validation split, whose images are mirrored, comes from the training split."""
    write_dataset(tmp_path, "coco", [6], frame)
    write_dataset(tmp_path / "mirrored", "coco", [2], frame)
    for part in ("val", "annotations/instances_val.json"):
        (tmp_path / part).rename(tmp_path / f"{part}.old")
        (tmp_path / "mirrored" / part).rename(tmp_path / part)
    _, val = read(tmp_path, "coco")
    assert boxes_of(val) == [BOXES_XYWH]


@pytest.mark.parametrize("boxes_in", ["upright", "stored"])
def test_option_decides_against_the_boxes(boxes_in, tmp_path):
    write_dataset(tmp_path, "coco", [6], "upright")
    train, _ = read(tmp_path, "coco", boxes_in=boxes_in)
    assert (boxes_of(train) == [BOXES_XYWH]) == (boxes_in == "upright")
    assert "--boxes_in" in decision(train)[0]


def mixed(folder, upright, stored):
    """Write training images of orientation 6, some with upright boxes and some with boxes in stored pixels."""
    write_dataset(folder, "coco", [6], "upright")
    path = folder / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["images"], content["annotations"] = [], []
    for image_id in range(upright + stored):
        pixels = store(folder / "train" / f"{image_id}.jpg", 6)
        x, y, w, h = BOXES_XYWH["red"] if image_id < upright else find_boxes(pixels)["green"]
        content["images"].append({"id": image_id, "file_name": f"{image_id}.jpg"})
        annotation = {"id": image_id + 1, "image_id": image_id, "category_id": 1, "bbox": [x, y, w, h]}
        content["annotations"].append(annotation)
    path.write_text(json.dumps(content))


def test_many_contradicting_boxes_are_an_error(tmp_path):
    mixed(tmp_path, upright=7, stored=3)
    with pytest.raises(UserError, match=r"0\.jpg: .*/7\.jpg.*--boxes_in") as error:
        read(tmp_path, "coco")
    assert "\n" not in str(error.value)
    train, _ = read(tmp_path, "coco", boxes_in="upright")
    assert boxes_of(train)[0] == {"red": BOXES_XYWH["red"]}


def test_a_few_contradicting_boxes_are_mistakes(tmp_path):
    mixed(tmp_path, upright=20, stored=2)
    train, _ = read(tmp_path, "coco")
    assert boxes_of(train)[0] == {"red": BOXES_XYWH["red"]}
    kind, _ = decision(train)
    assert "21 boxes" in kind and "2" in kind.split("against")[1]  # 20, and the box of the validation image


def test_boxes_slightly_outside_their_image_are_no_evidence(tmp_path):
    write_dataset(tmp_path, "coco", [6], "upright", stated="stored", names=CENTRAL)
    for split in ("train", "val"):
        path = tmp_path / "annotations" / f"instances_{split}.json"
        content = json.loads(path.read_text())
        content["annotations"][0]["bbox"] = [10, 10, 30, 64.9 - 10]  # the stored image has 96 rows, the upright one 64
        path.write_text(json.dumps(content))
    assert "as stored, because the stated" in decision(read(tmp_path, "coco")[0])[0]


def test_boxes_outside_both_images_and_negative_sides(tmp_path):
    write_dataset(tmp_path, "coco", [6], "upright", stated="nothing", names=CENTRAL)
    path = tmp_path / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    first = content["annotations"][0]
    content["annotations"] = [
        {**first, "id": 1, "bbox": [90, 90, 20, 20]},  # inside neither
        {**first, "id": 2, "bbox": [90, 30, -40, -20]},  # x 50 to 90, y 10 to 30: inside only the upright image
    ]
    path.write_text(json.dumps(content))
    assert "1 box " in decision(read(tmp_path, "coco")[0])[0]


def test_annotations_for_evaluation_are_those_of_the_upright_image(tmp_path):
    write_dataset(tmp_path, "coco", [1, 6], "stored")
    path = tmp_path / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    pixels = store(tmp_path / "val" / "val6.jpg", 6)
    x, y, w, h = find_boxes(pixels)["red"]
    red = next(row for row in content["annotations"] if row["image_id"] == 102 and row["category_id"] == 1)
    is_red = np.asfortranarray((pixels == COLORS["red"]).all(axis=2).astype(np.uint8))
    rle = mask.encode(is_red)
    red["segmentation"] = [[x, y, x + w, y, x + w, y + h]]
    red["keypoints"] = [x, y, 2]
    for number, counts in enumerate([rle["counts"].decode(), _counts(is_red)], start=50):
        crowd = {**red, "id": number, "iscrowd": 1, "segmentation": {"size": [96, 64], "counts": counts}}
        content["annotations"].append(crowd)
    path.write_text(json.dumps(content))
    _, val = read(tmp_path, "coco")
    assert val.coco_dict["images"][1] == {"id": 102, "file_name": "val6.jpg", "height": 64, "width": 96}
    unchanged = [row for row in content["annotations"] if row["image_id"] == 101]
    assert [row for row in val.coco_dict["annotations"] if row["image_id"] == 101] == unchanged
    turned = {row["id"]: row for row in val.coco_dict["annotations"]}
    assert turned[red["id"]]["bbox"] == list(map(float, BOXES_XYWH["red"])) and turned[red["id"]]["area"] == 240
    # The stored corners top left, top right and bottom right; a viewer rotates the image clockwise.
    assert turned[red["id"]]["segmentation"] == [[90, 4, 90, 16, 70, 16]]
    assert "keypoints" not in turned[red["id"]]
    for number in (50, 51):
        found = mask.decode(turned[number]["segmentation"])
        assert found.shape == (64, 96) and np.argwhere(found).min(axis=0).tolist() == [4, 70] and found.sum() == 240
    json.dumps(val.coco_dict)


@pytest.mark.parametrize("counts", ["~~~zz", "", [5, 10**9], ["a"], [-1, 3], None, [10, 10]])
def test_damaged_masks_of_rotated_images_do_not_stop_the_conversion(counts, tmp_path):
    write_dataset(tmp_path, "coco", [6], "stored")
    path = tmp_path / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    for row in content["annotations"]:
        row["segmentation"] = {"size": [96.0, 64.0], "counts": counts}
    path.write_text(json.dumps(content))
    assert boxes_of(read(tmp_path, "coco")[0]) == [BOXES_XYWH]


def _counts(binary):
    """Return the run lengths of a mask, column by column, beginning with zeros."""
    values = binary.ravel(order="F")
    changes = np.flatnonzero(np.diff(values)) + 1
    return np.diff([0, *changes.tolist(), len(values)]).tolist()


def test_dataset_without_rotated_images_keeps_its_annotation_file(tmp_path):
    write_dataset(tmp_path, "coco", [1], "upright")
    train, val = read(tmp_path, "coco")
    assert train.coco_dict is val.coco_dict is None and not train.problems


def test_invalid_annotations_have_the_error_of_the_reader(tmp_path, monkeypatch):
    write_dataset(tmp_path, "coco", [6], "upright")
    path = tmp_path / "annotations" / "instances_train.json"
    valid = json.loads(path.read_text())
    for change in (
        {"annotations": [{"id": 1}]},
        {"annotations": [{"id": 1, "image_id": [], "category_id": 1, "bbox": [1, 2, 3, 4]}]},
        {"annotations": [{**valid["annotations"][0], "bbox": [1, 2, None, 4]}]},
        {"annotations": [{**valid["annotations"][0], "bbox": None}]},
        {"images": [{"id": 1}]},
        {"images": 5},
    ):
        path.write_text(json.dumps({**valid, **change}))
        for boxes_in in (None, "stored"):
            with pytest.raises(UserError, match="instances_train.json"):
                read(tmp_path, "coco", boxes_in=boxes_in)


@pytest.mark.parametrize("boxes_in", [None, "upright", "stored"])
def test_fractions_are_refused_before_boxes_are_turned(boxes_in, tmp_path):
    write_dataset(tmp_path, "coco", [6], "stored")
    path = tmp_path / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    for row in content["annotations"]:
        row["bbox"] = [0.1, 0.2, 0.3, 0.4]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="instances_train.json: .* 4 boxes .*0 and 1"):
        read(tmp_path, "coco", boxes_in=boxes_in)


def test_held_out_images_are_turned_too(tmp_path):
    write_dataset(tmp_path, "coco", [5, 6, 7, 8], "stored")
    train, val = read(tmp_path, "coco", train_splits=["train"], val_fraction=0.5)
    assert boxes_of(train) == boxes_of(val) == [BOXES_XYWH] * 2


def test_images_are_probed_once(tmp_path, monkeypatch):
    """Turning boxes probes only images of COCO, because the readers of the other formats have probed theirs."""
    probed = []
    monkeypatch.setattr(box_orientation, "probe_images", lambda paths: probed.extend(paths) or iter([]))
    for annotation_format in ("coco", "voc", "yolo"):
        write_dataset(tmp_path / annotation_format, annotation_format, [1], "upright")
        read(tmp_path / annotation_format, annotation_format)
    assert [path.name for path in probed] == ["train1.jpg", "val1.jpg"]
