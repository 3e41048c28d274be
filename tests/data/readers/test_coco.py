"""COCO annotation files: the ground truth that is read, and errors that name the invalid entry."""

import json

import numpy as np
import pytest

from ssd.data.readers.annotations import UNUSABLE_IMAGES, UncheckedSplit, load_coco_json
from ssd.data.readers.coco import parse_coco, read_coco
from ssd.data.readers.coco_fields import normalize_coco
from ssd.data.readers.corners import REVERSED_BOXES
from ssd.errors import UserError

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 2, "name": "cat"}]


def image(image_id, **more):
    return {"id": image_id, "file_name": f"{image_id}.jpg", "height": 50, "width": 40, **more}


def annotation(annotation_id, image_id, bbox=(1, 2, 3, 4), category_id=2, **more):
    return {"id": annotation_id, "image_id": image_id, "bbox": bbox, "category_id": category_id, **more}


def write(folder, images=(), annotations=(), categories=CATEGORIES):
    """Write an annotation file and an empty file for each of its images, and return the arguments of read_coco."""
    (folder / "images").mkdir(exist_ok=True)
    for entry in images:
        (folder / "images" / str(entry.get("file_name"))).touch()
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path, folder / "images"


def expect_error(paths, parts):
    """Check that read_coco(*paths) raises a UserError of one line that contains each of `parts`."""
    with pytest.raises(UserError) as caught:
        read_coco(*paths)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


# --- reading ---


def test_classes_have_the_order_of_category_ids(tmp_path):
    annotations = [annotation(1, 5, category_id=7), annotation(2, 5, category_id=2)]
    split = read_coco(*write(tmp_path, [image(5)], annotations))
    assert split.classes == ["background", "cat", "dog"]  # ids 2 and 7; the file lists 7 first
    assert split.category_ids == [2, 7]
    assert split.images[0].ground_truth[:, 4].tolist() == [2, 1]


def test_boxes_are_yxyx_and_not_rounded(tmp_path):
    (read,) = read_coco(*write(tmp_path, [image(5)], [annotation(1, 5, [10.25, 20.1, 3.3, 4.7])])).images
    assert read.ground_truth.tolist() == [[20.1, 10.25, 20.1 + 4.7, 10.25 + 3.3, 1]]
    assert read.ground_truth.dtype == np.float64


def test_boxes_are_not_clipped_to_the_image(tmp_path):
    (read,) = read_coco(*write(tmp_path, [image(5)], [annotation(1, 5, [-10, -20, 100, 200])])).images
    assert read.ground_truth.tolist() == [[-20, -10, 180, 90, 1]]


def test_images_keep_their_order_and_their_boxes(tmp_path):
    images = [image(30), image(10), image(20, file_name="b.png")]
    annotations = [annotation(1, 20, [0, 0, 1, 1]), annotation(2, 30, [0, 0, 2, 2]), annotation(3, 20, [0, 0, 3, 3])]
    split = read_coco(*write(tmp_path, images, annotations))
    assert [(read.image_id, read.path.name) for read in split.images] == [(30, "30.jpg"), (10, "10.jpg"), (20, "b.png")]
    assert [read.ground_truth[:, 2].tolist() for read in split.images] == [[2], [], [1, 3]]
    assert split.images[1].ground_truth.shape == (0, 5)  # an image without boxes is kept


def test_crowd_regions_are_counted_but_not_read_as_boxes(tmp_path):
    annotations = [annotation(1, 5, iscrowd=1), annotation(2, 5, iscrowd=0), annotation(3, 5)]
    segmentation = {"counts": [400, 10, 1590], "size": [50, 40]}
    annotations.append({"id": 4, "image_id": 5, "category_id": 7, "iscrowd": 1, "segmentation": segmentation})
    (read,) = read_coco(*write(tmp_path, [image(5)], annotations)).images
    assert len(read.ground_truth) == 2 and read.crowd_boxes == 2


def test_size_is_height_and_width_or_none(tmp_path):
    no_size = {"id": 6, "file_name": "6.jpg"}
    first, second = read_coco(*write(tmp_path, [image(5), no_size])).images
    assert first.size == (50, 40) and second.size is None


def test_the_drawn_dataset_is_read_completely(shapes_coco):
    path = shapes_coco / "annotations" / "instances_train2017.json"
    split, content = read_coco(path, shapes_coco / "train2017"), json.loads(path.read_text())
    assert split.classes == ["background", "circle", "square", "triangle", "star", "ring", "cross"]
    assert split.category_ids == [2, 5, 7, 11, 18, 34]
    assert split.annotation_path == path
    assert [read.image_id for read in split.images] == list(range(1, 11))
    assert sum(len(read.ground_truth) for read in split.images) == len(content["annotations"])


def test_a_byte_order_mark_is_ignored(tmp_path):
    path, folder = write(tmp_path, [image(5)], [annotation(1, 5)])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_coco(path, folder).images[0].ground_truth) == 1


# --- errors ---


def test_missing_files_are_named(tmp_path):
    path, folder = write(tmp_path, [image(5)])
    expect_error((tmp_path / "absent.json", folder), [tmp_path / "absent.json", "--data_path"])
    expect_error((path, tmp_path / "absent"), [tmp_path / "absent", "instances.json", "--data_path"])
    (folder / "5.jpg").unlink()
    expect_error((path, folder), [folder / "5.jpg", path])


def test_all_missing_images_are_recorded(tmp_path):
    path, folder = write(tmp_path, [image(5), image(6), image(7)], [annotation(1, 5)])
    missing = [folder / "5.jpg", folder / "7.jpg"]
    for file in missing:
        file.unlink()
    split = parse_coco(UncheckedSplit(normalize_coco(load_coco_json(path), path)[0], path, folder))
    assert split.problems.keys() == {UNUSABLE_IMAGES} and len(split.images) == 3
    assert [text.partition(": ")[0] for text in split.problems[UNUSABLE_IMAGES]] == [str(file) for file in missing]
    expect_error((path, folder), [missing[0], "1 more", path])


@pytest.mark.parametrize(
    "text, part",
    [
        ("{", "line 1"),
        ("", "JSON"),
        ("[]", "instances.json"),
        ('{"categories": [], "images": []}', "categories"),
        ('{"categories": [{"id": 1, "name": "a"}], "images": []}', "annotations"),
        ('{"categories": [{"id": 1, "name": "a"}], "images": [], "annotations": []}', "images"),
        ('{"categories": [{"id": 1}], "images": [], "annotations": []}', "name"),
        ('{"categories": null, "images": [], "annotations": []}', "instances.json"),
        ('{"categories": [{"id": 1, "name": "a"}, {"id": "b", "name": "b"}], "images": []}', "instances.json"),
    ],
)
def test_files_in_another_format_are_refused(text, part, tmp_path):
    path, folder = write(tmp_path)
    path.write_text(text)
    expect_error((path, folder), [path, part])


def test_files_that_are_not_text_are_refused(tmp_path):
    path, folder = write(tmp_path)
    path.write_bytes(b"\xff\xd8\xff\xe0")
    expect_error((path, folder), [path])


INVALID_BOXES = {
    "three numbers": [1, 2, 3],
    "five numbers": [1, 2, 3, 4, 5],
    "NaN": [1, 2, float("nan"), 4],
    "infinity": [1, 2, float("inf"), 4],
    "text": [1, 2, "three", 4],
    "true": [1, 2, True, 4],
    "null": [1, 2, None, 4],
    "null for all": None,
    "no list": 5,
}


@pytest.mark.parametrize("kind", INVALID_BOXES)
def test_an_invalid_box_is_named_by_its_annotation(kind, tmp_path):
    path, folder = write(tmp_path, [image(5)], [annotation(31, 5), annotation(32, 5, INVALID_BOXES[kind])])
    expect_error((path, folder), [f"{path}: annotation 32: ", "bbox"])


def test_a_missing_box_is_named_by_its_annotation(tmp_path):
    path, folder = write(tmp_path, [image(5)], [{"id": 32, "image_id": 5, "category_id": 2}])
    expect_error((path, folder), [f"{path}: annotation 32: ", "bbox"])


@pytest.mark.parametrize(
    "images, annotations, categories, parts",
    [
        ([image(5)], [annotation(9, 5, category_id=3)], CATEGORIES, ["annotation 9", "category_id 3", "[2, 7]"]),
        ([image(5)], [annotation(9, 6)], CATEGORIES, ["annotation 9", "image_id 6"]),
        ([image(5), image(5, file_name="b.jpg")], [], CATEGORIES, ["image id 5"]),
        ([image("five")], [], CATEGORIES, ["five.jpg", "id 'five'"]),
        ([image(5.5)], [], CATEGORIES, ["5.5.jpg", "id 5.5"]),
        ([image(5)], [], [*CATEGORIES, {"id": 7, "name": "cow"}], ["category id 7"]),
        ([image(5)], [], [*CATEGORIES, {"id": 9, "name": "cat"}], ["category name 'cat'"]),
        ([image(5)], [], [], ["categories"]),
        ([image(5)], [], [*CATEGORIES, {"id": 9, "name": 3}], ["name", "category 9", "3"]),
        ([image(5)], [], [*CATEGORIES, {"id": 9, "name": None}], ["name", "category 9", "None"]),
        ([image(5, height="tall")], [], CATEGORIES, ["image 5.jpg", "height 'tall'"]),
        ([image(5, height=-80)], [], CATEGORIES, ["image 5.jpg", "height -80"]),
        ([image(5, height=80.5)], [], CATEGORIES, ["image 5.jpg", "height 80.5"]),
        ([image(5, width=[80])], [], CATEGORIES, ["image 5.jpg", "width [80]"]),
        ([{"id": 5}], [], CATEGORIES, ["file_name"]),
    ],
)
def test_invalid_entries_are_named(images, annotations, categories, parts, tmp_path):
    path, folder = write(tmp_path, images, annotations, categories=categories)
    expect_error((path, folder), [path, *parts])


@pytest.mark.parametrize("boxes", [[[0.1, 0.2, 0.5, 0.8], [0, 0, 1, 1]], [["0.5", "0.5", "-0.25", "-0.5"]]])
def test_boxes_given_as_fractions_are_refused(boxes, tmp_path):
    rows = [annotation(number, 5, box) for number, box in enumerate(boxes, start=1)]
    path, folder = write(tmp_path, [image(5)], rows)
    expect_error((path, folder), [path, f"{len(boxes)} box", "0 and 1"])


def test_boxes_of_a_pixel_are_no_fractions(tmp_path):
    rows = [annotation(1, 5, [0, 0, 1, 1]), annotation(2, 5, [1, 0, 1, 1])]
    assert len(read_coco(*write(tmp_path, [image(5)], rows)).images[0].ground_truth) == 2


def test_corrections_are_kept_for_the_evaluation(tmp_path):
    split = read_coco(*write(tmp_path, [image(5)], [annotation(1, 5, [9, 9, -4, -5], area=None)]))
    assert split.coco_dict["annotations"] == [annotation(1, 5, [5, 4, 4, 5], area=20, iscrowd=0)]
    assert split.problems == {REVERSED_BOXES: [f"{split.annotation_path}: annotation 1"]}


def test_a_crowd_region_of_an_unknown_category_is_refused_too(tmp_path):
    paths = write(tmp_path, [image(5)], [annotation(9, 5, category_id=3, iscrowd=1)])
    expect_error(paths, ["annotation 9", "category_id 3"])
