"""Annotation files: what is read from them, and how each impossible one is refused by name."""

import json
import re

import numpy as np
import pytest

from ssd.data.readers.annotations import BROKEN, load_coco
from ssd.data.readers.coco import parse_coco, read_coco
from ssd.errors import UserError

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 2, "name": "cat"}]


def image(image_id, **more):
    return {"id": image_id, "file_name": f"{image_id}.jpg", "height": 50, "width": 40, **more}


def annotation(annotation_id, image_id, bbox=(1, 2, 3, 4), category_id=2, **more):
    return {"id": annotation_id, "image_id": image_id, "bbox": bbox, "category_id": category_id, **more}


def write(folder, images=(), annotations=(), categories=CATEGORIES):
    """Write an annotation file and an empty file for each of its images, and return read_coco's arguments."""
    (folder / "images").mkdir(exist_ok=True)
    for entry in images:
        (folder / "images" / str(entry.get("file_name"))).touch()
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path, folder / "images"


def refused(arguments, *parts):
    """read_coco refuses in one line that holds each of `parts`."""
    with pytest.raises(UserError) as caught:
        read_coco(*arguments)
    message = str(caught.value)
    assert "\n" not in message and ": got " in message and ", expected " in message
    for part in parts:
        assert str(part) in message


# --- what is read ---


def test_classes_follow_rising_category_ids(tmp_path):
    annotations = [annotation(1, 5, category_id=7), annotation(2, 5, category_id=2)]
    split = read_coco(*write(tmp_path, [image(5)], annotations))
    assert split.classes == ["background", "cat", "dog"]  # 2 and 7, which the file has the other way round
    assert split.category_ids == [2, 7]
    assert split.images[0].objects[:, 4].tolist() == [2, 1]


def test_boxes_are_yxyx_and_never_rounded(tmp_path):
    (read,) = read_coco(*write(tmp_path, [image(5)], [annotation(1, 5, [10.25, 20.1, 3.3, 4.7])])).images
    assert read.objects.tolist() == [[20.1, 10.25, 20.1 + 4.7, 10.25 + 3.3, 1]]
    assert read.objects.dtype == np.float64


def test_boxes_beyond_the_image_are_left_to_the_reader_of_the_image(tmp_path):
    (read,) = read_coco(*write(tmp_path, [image(5)], [annotation(1, 5, [-10, -20, 100, 200])])).images
    assert read.objects.tolist() == [[-20, -10, 180, 90, 1]]


def test_images_stay_in_order_with_their_own_objects(tmp_path):
    images = [image(30), image(10), image(20, file_name="b.png")]
    annotations = [annotation(1, 20, [0, 0, 1, 1]), annotation(2, 30, [0, 0, 2, 2]), annotation(3, 20, [0, 0, 3, 3])]
    split = read_coco(*write(tmp_path, images, annotations))
    assert [(read.image_id, read.path.name) for read in split.images] == [(30, "30.jpg"), (10, "10.jpg"), (20, "b.png")]
    assert [read.objects[:, 2].tolist() for read in split.images] == [[2], [], [1, 3]]
    assert split.images[1].objects.shape == (0, 5)  # no object, and kept


def test_crowds_are_counted_but_no_objects(tmp_path):
    annotations = [annotation(1, 5, iscrowd=1), annotation(2, 5, iscrowd=0), annotation(3, 5)]
    annotations.append(
        {"id": 4, "image_id": 5, "category_id": 7, "iscrowd": 1, "segmentation": {"counts": [], "size": []}}
    )
    (read,) = read_coco(*write(tmp_path, [image(5)], annotations)).images
    assert len(read.objects) == 2 and read.crowd_boxes == 2


def test_size_is_height_and_width_or_none(tmp_path):
    no_size = {"id": 6, "file_name": "6.jpg"}
    first, second = read_coco(*write(tmp_path, [image(5), no_size])).images
    assert first.size == (50, 40) and second.size is None


def test_the_drawn_set_is_read_whole(shapes_coco):
    path = shapes_coco / "annotations" / "instances_train2017.json"
    split, content = read_coco(path, shapes_coco / "train2017"), json.loads(path.read_text())
    assert split.classes == ["background", "circle", "square", "triangle", "star", "ring", "cross"]
    assert split.category_ids == [2, 5, 7, 11, 18, 34]
    assert split.annotation_path == path
    assert [read.image_id for read in split.images] == list(range(1, 11))
    assert sum(len(read.objects) for read in split.images) == len(content["annotations"])


def test_a_byte_order_mark_is_no_text(tmp_path):
    path, folder = write(tmp_path, [image(5)], [annotation(1, 5)])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_coco(path, folder).images[0].objects) == 1


# --- what is refused ---


def test_missing_files_are_named(tmp_path):
    path, folder = write(tmp_path, [image(5)])
    refused((tmp_path / "absent.json", folder), f"{tmp_path / 'absent.json'}: got no such file", "--data_path")
    refused((path, tmp_path / "absent"), f"{tmp_path / 'absent'}: got no such folder", "instances.json")
    (folder / "5.jpg").unlink()
    refused((path, folder), f"{folder / '5.jpg'}: got no such file", path)


def test_all_missing_images_are_told(tmp_path):
    path, folder = write(tmp_path, [image(5), image(6), image(7)], [annotation(1, 5)])
    for name in "57":
        (folder / f"{name}.jpg").unlink()
    split = parse_coco(load_coco(path), path, folder)
    wrong = [f"{folder / name}.jpg: got no such file or directory" for name in "57"]
    assert split.problems == {BROKEN: wrong} and len(split.images) == 3
    refused((path, folder), f"{wrong[0]} and 1 more", path)


@pytest.mark.parametrize(
    "text, part",
    [
        ("{", "line 1"),
        ("", "Expecting value"),
        ("[]", "instances.json"),
        ('{"categories": [], "images": []}', "categories"),
        ('{"categories": [{"id": 1, "name": "a"}], "images": []}', "annotations"),
        ('{"categories": [{"id": 1, "name": "a"}], "images": [], "annotations": []}', "no images"),
        ('{"categories": [{"id": 1}], "images": [], "annotations": []}', "name"),
        ('{"categories": null, "images": [], "annotations": []}', "instances.json"),
        ('{"categories": [{"id": 1, "name": "a"}, {"id": "b", "name": "b"}], "images": []}', "instances.json"),
    ],
)
def test_what_is_not_coco_s_format_is_refused(text, part, tmp_path):
    path, folder = write(tmp_path)
    path.write_text(text)
    refused((path, folder), path, part)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path, folder = write(tmp_path)
    path.write_bytes(b"\xff\xd8\xff\xe0")
    refused((path, folder), path)


BAD_BOXES = {
    "three numbers": [1, 2, 3],
    "five numbers": [1, 2, 3, 4, 5],
    "NaN": [1, 2, float("nan"), 4],
    "infinity": [1, 2, float("inf"), 4],
    "text": [1, 2, "3", 4],
    "null": [1, 2, None, 4],
    "null for all": None,
    "no list": 5,
}


@pytest.mark.parametrize("kind", BAD_BOXES)
def test_a_bad_box_is_named_by_its_annotation(kind, tmp_path):
    arguments = write(tmp_path, [image(5)], [annotation(31, 5), annotation(32, 5, BAD_BOXES[kind])])
    refused(arguments, arguments[0], "annotation 32", "bbox")


def test_a_missing_box_is_named_by_its_annotation(tmp_path):
    arguments = write(tmp_path, [image(5)], [{"id": 32, "image_id": 5, "category_id": 2}])
    refused(arguments, arguments[0], "annotation 32", "bbox")


@pytest.mark.parametrize(
    "images, annotations, categories, parts",
    [
        ([image(5)], [annotation(9, 5, category_id=3)], CATEGORIES, ["annotation 9", "category_id 3", "[2, 7]"]),
        ([image(5)], [annotation(9, 6)], CATEGORIES, ["annotation 9", "image_id 6"]),
        ([image(5), image(5, file_name="b.jpg")], [], CATEGORIES, ["image id 5 twice"]),
        ([image("five")], [], CATEGORIES, ["five.jpg", "id 'five'", "whole number"]),
        ([image(5.5)], [], CATEGORIES, ["5.5.jpg", "id 5.5", "whole number"]),
        ([image(5)], [], [*CATEGORIES, {"id": 7, "name": "cow"}], ["category id 7 twice"]),
        ([image(5)], [], [*CATEGORIES, {"id": 9, "name": "cat"}], ["category name 'cat' twice"]),
        ([image(5)], [], [], ["no categories"]),
        ([image(5)], [], [*CATEGORIES, {"id": 9, "name": 3}], ["category 9", "name 3", "text"]),
        ([image(5)], [], [*CATEGORIES, {"id": 9, "name": None}], ["category 9", "name None", "text"]),
        ([image(5, height="80")], [], CATEGORIES, ["image 5.jpg", "height '80'", "number"]),
        ([image(5, width=[80])], [], CATEGORIES, ["image 5.jpg", "width [80]", "number"]),
        ([{"id": 5}], [], CATEGORIES, ["file_name"]),
    ],
)
def test_what_cannot_be_is_refused(images, annotations, categories, parts, tmp_path):
    arguments = write(tmp_path, images, annotations, categories)
    refused(arguments, arguments[0], *parts)


def test_a_crowd_of_an_unknown_category_is_refused_too(tmp_path):
    refused(write(tmp_path, [image(5)], [annotation(9, 5, category_id=3, iscrowd=1)]), "annotation 9")


def test_messages_end_with_what_to_do(tmp_path):
    with pytest.raises(UserError) as caught:
        read_coco(*write(tmp_path, [image(5)], [annotation(9, 6)]))
    assert re.fullmatch(r".+: annotation 9: got image_id 6, expected .+; mend the file", str(caught.value))
