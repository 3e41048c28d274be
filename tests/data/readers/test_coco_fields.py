"""Fields of COCO annotations: what counts as missing, what is corrected, and errors that name the entry."""

import copy
import json
import math

import pytest

from ssd.data.readers.coco_fields import (
    BOXES_FROM_SEGMENTATIONS,
    REPLACED_AREAS,
    normalize_coco,
    to_integer,
    to_number,
)
from ssd.data.readers.corners import REVERSED_BOXES
from ssd.errors import UserError

PATH = "val.json"
MISSING = object()
ANNOTATION = {"id": 4, "image_id": 5, "category_id": 2, "bbox": [1, 2, 30, 40], "area": 1000, "iscrowd": 0}
# Pixels 105 to 109 of an image of height 100: column 1, rows 5 to 9. The second run covers rows 5 to 9 of column 2.
UNCOMPRESSED = {"size": [100, 50], "counts": [105, 5, 95, 5, 4790]}


def coco(annotation=None, image=None, category=None):
    """Return a COCO object with one entry in each list. The arguments replace or add keys; MISSING removes a key."""
    lists = {
        "images": [{"id": 5, "file_name": "a.jpg", "height": 100, "width": 50}],
        "annotations": [dict(ANNOTATION)],
        "categories": [{"id": 2, "name": "cat"}],
    }
    for entries, changes in zip(lists.values(), (image, annotation, category)):
        for key, value in (changes or {}).items():
            entries[0].pop(key, None) if value is MISSING else entries[0].update({key: value})
    return lists


def normalize(**changes):
    """Return (the entry with the changes, problems) of coco(**changes), which must pass a round trip through JSON."""
    content = coco(**changes)
    before = copy.deepcopy(content)
    normalized, problems = normalize_coco(content, PATH)
    assert repr(content) == repr(before)  # the argument is not changed; repr, because NaN differs from NaN
    assert json.loads(json.dumps(normalized, allow_nan=False)) == normalized
    key = {"annotation": "annotations", "image": "images", "category": "categories"}[next(iter(changes))]
    return normalized[key][0], problems


def refuse(content, *parts):
    """Check that the content raises a UserError of one line with each of the parts."""
    with pytest.raises(UserError) as caught:
        normalize_coco(content, PATH)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{PATH}: ")
    for part in parts:
        assert part in message
    return message


# --- unchanged ---


def test_a_normal_file_is_returned_itself():
    content = coco()
    content["info"] = None
    assert normalize_coco(content, PATH) == (content, {})
    assert normalize_coco(content, PATH)[0] is content


@pytest.mark.parametrize(
    "changes",
    [
        {"segmentation": "garbage"},
        {"keypoints": None},
        {"area": 0.5},
        {"id": -4},
        {"bbox": [1, 2, 0, 4], "area": 0},
        {"bbox": [-5, 2.5, 3, 4]},
    ],
)
def test_other_keys_and_unusual_values_do_not_count(changes):
    content = coco(annotation=changes)
    assert normalize_coco(content, PATH)[0] is content


# --- null means missing, and numeric text is a number ---


@pytest.mark.parametrize(
    "key, value, expected",
    [
        ("area", None, 1200),
        ("area", MISSING, 1200),
        ("area", "123.5", 123.5),
        ("area", " 12 ", 12),
        ("iscrowd", None, 0),
        ("iscrowd", MISSING, 0),
        ("iscrowd", "0", 0),
        ("iscrowd", "1", 1),
        ("iscrowd", 1.0, 1),
        ("iscrowd", False, 0),
        ("iscrowd", True, 1),
        ("iscrowd", "false", 0),
        ("iscrowd", 2, 1),
        ("ignore", "0", 0),
        ("ignore", None, 0),
        ("difficult", "1", 1),
        ("image_id", "5", 5),
        ("image_id", 5.0, 5),
        ("category_id", "2", 2),
        ("category_id", 2.0, 2),
        ("bbox", ["1", "2.5", 30, "4e1"], [1, 2.5, 30, 40]),
    ],
)
def test_values_of_annotations(key, value, expected):
    annotation, problems = normalize(annotation={key: value})
    assert annotation[key] == expected and not isinstance(annotation[key], bool)
    assert annotation == {**ANNOTATION, key: expected} and problems == {}


@pytest.mark.parametrize(
    "entry, key, value, expected",
    [
        ("image", "id", "5", 5),
        ("image", "id", 5.0, 5),
        ("image", "height", "100", 100),
        ("image", "width", 50.0, 50),
        ("image", "height", None, None),
        ("image", "width", 0, 0),  # as None: unknown
        ("category", "id", "2", 2),
        ("category", "id", 2.0, 2),
    ],
)
def test_values_of_images_and_categories(entry, key, value, expected):
    normalized, problems = normalize(**{entry: {key: value}})
    assert normalized[key] == expected and type(normalized[key]) is type(expected) and problems == {}


def test_numbers():
    assert [to_number(value) for value in (3, 2.5, "3", "-2.5", "1e3")] == [3, 2.5, 3, -2.5, 1000]
    invalid = (None, True, "", "x", "nan", "inf", math.nan, -math.inf, [3], {}, "9" * 5000)
    assert [to_number(value) for value in invalid] == [None] * len(invalid)
    assert to_number(10**400) == 10**400  # a JSON file may contain it


def test_integers_have_64_bits():
    assert [to_integer(value) for value in (3, 3.0, "3", "3.0", -3, 2**63 - 1)] == [3, 3, 3, 3, -3, 2**63 - 1]
    assert to_integer(str(2**63 - 1)) == 2**63 - 1  # not by way of a float
    assert [to_integer(value) for value in (3.5, "x", True, None, 2**63, 10**400, 1e30)] == [None] * 7


# --- boxes and areas ---


@pytest.mark.parametrize("area", ["big", [1], {}, math.nan, math.inf, -1, True, 0])
def test_an_invalid_area_is_replaced_and_counted(area):
    annotation, problems = normalize(annotation={"area": area})
    assert annotation["area"] == 1200
    assert problems == {REPLACED_AREAS: ["val.json: annotation 4"]}


@pytest.mark.parametrize("bbox", [None, [], MISSING])
@pytest.mark.parametrize(
    "segmentation, expected",
    [
        (UNCOMPRESSED, [1, 5, 2, 5]),
        ([[3, 4, 33, 4, 33, 24.5]], [3, 4, 30, 20.5]),
    ],
)
def test_a_missing_box_comes_from_the_segmentation(bbox, segmentation, expected):
    changes = {"bbox": bbox, "segmentation": segmentation, "iscrowd": 1, "area": None}
    annotation, problems = normalize(annotation=changes)
    assert annotation["bbox"] == expected and annotation["area"] == expected[2] * expected[3]
    assert problems == {BOXES_FROM_SEGMENTATIONS: ["val.json: annotation 4"]}


@pytest.mark.parametrize(
    "bbox, expected",
    [([40, 60, -30, -40], [10, 20, 30, 40]), ([40, 20, -30, 40], [10, 20, 30, 40]), ([0, 9, 5, -9], [0, 0, 5, 9])],
)
def test_reversed_corners_are_sorted_and_counted(bbox, expected):
    annotation, problems = normalize(annotation={"bbox": bbox})
    assert annotation["bbox"] == expected
    assert problems == {REVERSED_BOXES: ["val.json: annotation 4"]}


# --- annotation ids ---


@pytest.mark.parametrize("ids", [[0, 1], [7, 7], [None, 3], ["3", "4"], [[1], 2], [10**30, 1], [1.5, 2], [True, 2]])
def test_unusable_annotation_ids_are_renumbered(ids):
    content = coco()
    content["annotations"] = [{**ANNOTATION, "id": value} for value in ids]
    normalized, problems = normalize_coco(content, PATH)
    assert [annotation["id"] for annotation in normalized["annotations"]] == [1, 2] and problems == {}


def test_missing_annotation_ids_are_added():
    assert normalize(annotation={"id": MISSING})[0] == {**ANNOTATION, "id": 1}


# --- errors ---


@pytest.mark.parametrize(
    "entry, key, value, parts",
    [
        ("annotation", "iscrowd", "yes", ["annotation 4", "iscrowd", "'yes'"]),
        ("annotation", "iscrowd", [], ["annotation 4", "iscrowd"]),
        ("annotation", "iscrowd", math.nan, ["annotation 4", "iscrowd"]),
        ("annotation", "ignore", {}, ["annotation 4", "ignore"]),
        ("annotation", "image_id", MISSING, ["annotation 4", "image_id"]),
        ("annotation", "image_id", True, ["annotation 4", "image_id True"]),
        ("annotation", "image_id", 6, ["annotation 4", "image_id 6"]),
        ("annotation", "image_id", 2**70, ["annotation 4", "image_id"]),
        ("annotation", "category_id", [2], ["annotation 4", "category_id [2]"]),
        ("annotation", "category_id", 3, ["annotation 4", "category_id 3", "[2]"]),
        ("annotation", "bbox", MISSING, ["annotation 4", "bbox", "segmentation"]),
        ("annotation", "bbox", [1, 2, 3], ["annotation 4", "bbox [1, 2, 3]"]),
        ("annotation", "bbox", {"x": 1}, ["annotation 4", "bbox"]),
        ("annotation", "bbox", [1, 2, 1e12, 4], ["annotation 4", "bbox"]),
        ("image", "id", None, ["image a.jpg", "id None"]),
        ("image", "id", True, ["image a.jpg", "id True"]),
        ("image", "file_name", None, ["image 5", "file_name None"]),
        ("image", "file_name", "", ["image 5", "file_name ''"]),
        ("image", "file_name", 5, ["image 5", "file_name 5"]),
        ("image", "height", math.nan, ["image a.jpg", "height nan"]),
        ("image", "width", True, ["image a.jpg", "width True"]),
        ("category", "id", MISSING, ["category number 1", "id None"]),
        ("category", "id", 2**70, ["category", str(2**70)]),
        ("category", "name", None, ["category 2", "name None"]),
        ("category", "name", "", ["category 2", "name ''"]),
    ],
)
def test_what_cannot_be_used_is_named(entry, key, value, parts):
    refuse(coco(**{entry: {key: value}}), *parts)


def test_the_first_entry_is_named_and_all_are_counted():
    content = coco()
    content["annotations"] += [{**ANNOTATION, "id": number, "bbox": "x"} for number in (8, 9, 10)]
    refuse(content, "annotation 8", "2 more annotations")
    content["annotations"] = [None, {**ANNOTATION, "id": 9}]
    message = refuse(content, "annotation number 1", "None")
    assert "more" not in message


def test_unknown_images_are_named_by_the_id_of_the_file():
    content = coco()
    content["annotations"] = [ANNOTATION, {**ANNOTATION, "image_id": 6}, {**ANNOTATION, "image_id": 7}]  # id 4 thrice
    refuse(content, "annotation 4", "image_id 6", "1 more annotation ")


def test_references_need_not_be_checked():
    """Shards of other tools may come with annotations of more images, which pycocotools ignores."""
    content = coco(annotation={"image_id": 6})
    assert normalize_coco(content, PATH, check_references=False)[0] is content


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize("value", [None, {}, "x", 5, MISSING])
def test_the_three_lists_are_required(key, value):
    content = coco()
    content.pop(key) if value is MISSING else content.update({key: value})
    refuse(content, key)


@pytest.mark.parametrize("content", [[], None, 5, "text", [{}], {}])
def test_other_content_is_refused(content):
    refuse(content, "COCO")
