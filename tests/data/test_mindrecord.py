"""Conversion to shards: every image and every box is kept."""

import json
import shutil

import pytest

from converted_shards import convert, edit, expect_records, records_of
from ssd.data import mindrecord
from ssd.data.dataset_info import check_files, read_dataset_info, sha256


@pytest.fixture
def coco(shapes_coco, tmp_path):
    """A copy of the drawn dataset that a test may change."""
    return shutil.copytree(shapes_coco, tmp_path / "coco")


# --- content ---


def test_layout_and_records(shapes_records, shapes_coco):
    assert {path.name for path in shapes_records.iterdir()} == {"train", "val", "annotations", "dataset.json"}
    names = {f"coco{index}{end}" for index in range(8) for end in ("", ".db")}
    for split in ("train", "val"):
        assert {path.name for path in (shapes_records / split).iterdir()} == names
    annotations = "annotations/instances_val2017.json"
    assert (shapes_records / annotations).read_bytes() == (shapes_coco / annotations).read_bytes()
    expect_records(shapes_records, shapes_coco)


def test_order_is_kept_with_little_read_ahead(shapes_coco, tmp_path, monkeypatch):
    monkeypatch.setattr(mindrecord, "READ_AHEAD", 2)
    convert(shapes_coco, tmp_path / "out")
    assert list(records_of(tmp_path / "out", "train")) == list(range(1, 11))
    assert list(records_of(tmp_path / "out", "val")) == list(range(11, 15))


def test_dataset_json_describes_the_shards(shapes_records, shapes_coco):
    info = read_dataset_info(shapes_records / "dataset.json")
    assert info.classes == ["background", "circle", "square", "triangle", "star", "ring", "cross"]
    assert info.category_ids == [2, 5, 7, 11, 18, 34]
    assert info.annotations == "annotations/instances_val2017.json"
    for split, source, images in ((info.train, "train2017", 10), (info.val, "val2017", 4)):
        path = shapes_coco / "annotations" / f"instances_{source}.json"
        annotations = json.loads(path.read_text())["annotations"]
        owners = [annotation["image_id"] for annotation in annotations]
        category_ids = [annotation["category_id"] for annotation in annotations]
        assert split.images == images and split.boxes == len(annotations)
        assert split.max_boxes == max(owners.count(owner) for owner in owners)
        counts = {name: category_ids.count(id_) for name, id_ in zip(info.classes[1:], info.category_ids)}
        assert split.boxes_per_class == counts
        assert (split.dropped_boxes, split.crowd_boxes) == (0, 0)
        assert (split.source, split.source_sha256) == (path.name, sha256(path))
    check_files(info, shapes_records, "train")
    check_files(info, shapes_records, "val")


def test_writing_in_several_parts_keeps_every_record(shapes_coco, tmp_path, monkeypatch):
    monkeypatch.setattr(mindrecord, "ROWS_PER_WRITE", 3)  # 10 images: three full writes and a rest
    info = convert(shapes_coco, tmp_path / "out")
    expect_records(tmp_path / "out", shapes_coco)
    assert info == read_dataset_info(tmp_path / "out" / "dataset.json") and info.train.images == 10


def test_left_out_boxes_are_counted_and_their_images_kept(coco, tmp_path):
    def change(content):
        by_image = {}
        for annotation in content["annotations"]:
            by_image.setdefault(annotation["image_id"], []).append(annotation)
        first, second, third = list(by_image.values())[:3]
        for annotation in first:
            annotation["iscrowd"] = 1
        second[0]["bbox"] = [5, 5, 0.5, 40]  # narrower than a pixel
        third[0]["bbox"] = [-10, 80.25, 50, 50]  # beyond the left and the lower border of 96 pixels
        counts.update(crowd=len(first), boxes=len(content["annotations"]) - len(first) - 1)
        ids.update(crowd=first[0]["image_id"], clipped=third[0]["image_id"])

    counts, ids = {}, {}
    edit(coco, "train2017", change)
    info = convert(coco, tmp_path / "out")
    assert (info.train.crowd_boxes, info.train.dropped_boxes, info.train.boxes) == (counts["crowd"], 1, counts["boxes"])
    assert sum(info.train.boxes_per_class.values()) == counts["boxes"] and info.train.images == 10
    records = records_of(tmp_path / "out", "train")
    assert len(records) == 10
    assert records[ids["crowd"]][1].tolist() == [[0, 0, 0, 0, 0]]  # padding, because MindRecord has no (0, 5)
    assert records[ids["clipped"]][1][0, :4].tolist() == [80.25, 0, 96, 40]


def test_64_bit_image_ids_are_kept(coco, tmp_path):
    def change(content):
        for entry in content["images"]:
            entry["id"] += 2**40
        for annotation in content["annotations"]:
            annotation["image_id"] += 2**40

    edit(coco, "val2017", change)
    convert(coco, tmp_path / "out")
    assert sorted(records_of(tmp_path / "out", "val")) == [2**40 + number for number in (11, 12, 13, 14)]
