"""Drawn data sets: reproducible, valid COCO, exact boxes, limited occlusion, and no user file lost."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

import make_shapes
import shape_drawing
from folder_contents import read_files

SIZE = 128
SPLITS = ("train2017", "val2017")
CLASSES = ("circle", "square", "triangle", "star", "ring", "cross")


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    """A small data set: (folder, number of objects that make_shapes returned)."""
    out = tmp_path_factory.mktemp("shapes") / "data"
    return out, make_shapes.make_shapes(out, train=60, val=50, size=SIZE, seed=3)


def load_annotations(out, split):
    return json.loads((out / "annotations" / f"instances_{split}.json").read_text())


def mask_corners(mask):
    """Return x1, y1, x2, y2 of the True pixels of a (H, W) mask; pixel columns 3 to 7 give 3 and 8."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def box_corners(box_xywh):
    x, y, w, h = box_xywh
    return np.array([x, y, x + w, y + h])


# --- reproducibility ---


def test_only_the_same_seed_gives_the_same_bytes(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_shapes.make_shapes(tmp_path / name, train=3, val=2, size=64, seed=seed)
    a, b, c = (read_files(tmp_path / name) for name in "abc")
    assert len(a) == 3 + 2 + 2
    assert a == b
    assert a.keys() == c.keys() and all(a[name] != c[name] for name in a)


def test_an_image_does_not_depend_on_the_number_of_images(tmp_path):
    make_shapes.make_shapes(tmp_path / "few", train=1, val=1, size=64)
    make_shapes.make_shapes(tmp_path / "more", train=3, val=2, size=64)
    few, more = read_files(tmp_path / "few"), read_files(tmp_path / "more")
    assert few["train2017/000000000001.jpg"] == more["train2017/000000000001.jpg"]
    assert few["val2017/000000000002.jpg"] == more["val2017/000000000004.jpg"]  # val2017 continues the ids
    assert few["train2017/000000000001.jpg"] != few["val2017/000000000002.jpg"]


# --- valid COCO ---


@pytest.mark.parametrize("split, first, count", [("train2017", 1, 60), ("val2017", 61, 50)])
def test_pycocotools_loads_the_annotations(data_set, split, first, count):
    out, _ = data_set
    coco = COCO(str(out / "annotations" / f"instances_{split}.json"))
    assert sorted(coco.imgs) == list(range(first, first + count))
    assert sorted(path.name for path in (out / split).iterdir()) == [f"{i:012d}.jpg" for i in sorted(coco.imgs)]
    assert all((image["width"], image["height"]) == (SIZE, SIZE) for image in coco.imgs.values())
    for annotation in coco.anns.values():
        assert annotation["image_id"] in coco.imgs and annotation["category_id"] in coco.cats
        assert annotation["iscrowd"] == 0
        (polygon,) = annotation["segmentation"]
        points = np.reshape(polygon, (-1, 2))
        assert box_corners(annotation["bbox"]) == pytest.approx([*points.min(axis=0), *points.max(axis=0)], abs=1e-6)
        mask = coco.annToMask(annotation)
        # pycocotools counts a pixel if its centre is inside, so the tip of a star loses up to two pixels
        assert np.abs(mask_corners(mask) - box_corners(annotation["bbox"])).max() <= 2
        # pycocotools fills whole pixels, so allow half a pixel along the whole edge
        assert abs(int(mask.sum()) - annotation["area"]) <= sum(annotation["bbox"][2:])


def test_annotation_ids_are_unique_across_splits(data_set):
    out, num_objects = data_set
    ids = [annotation["id"] for split in SPLITS for annotation in load_annotations(out, split)["annotations"]]
    assert sorted(ids) == list(range(1, num_objects + 1))


def test_category_ids_differ_from_class_indices(data_set):
    out, _ = data_set
    categories = load_annotations(out, "train2017")["categories"]
    assert categories == load_annotations(out, "val2017")["categories"]
    assert [category["name"] for category in categories] == list(CLASSES)
    for index, category in enumerate(categories):
        assert category["id"] not in (index, index + 1)


@pytest.mark.parametrize("split", SPLITS)
def test_all_classes_occur_and_one_image_in_fifty_is_empty(data_set, split):
    content = load_annotations(data_set[0], split)
    assert {a["category_id"] for a in content["annotations"]} == {c["id"] for c in content["categories"]}
    per_image = [sum(a["image_id"] == image["id"] for a in content["annotations"]) for image in content["images"]]
    assert [index for index, number in enumerate(per_image) if number == 0] == [49]
    assert max(per_image) <= 12 and sorted(per_image)[1] >= 1


# --- boxes ---


@pytest.mark.parametrize("size", [64, 320])
def test_boxes_are_inside_the_image_and_in_the_size_range(size):
    sides = []
    for seed in range(300):
        shape = shape_drawing.random_shape(np.random.default_rng(seed), size)
        x, y, w, h = make_shapes.coco_annotation(shape, 1, 1)["bbox"]
        assert 0 <= x and 0 <= y and x + w <= size + 1e-9 and y + h <= size + 1e-9
        sides.append(max(w, h) / size)
    assert 0.05 - 0.02 / size <= min(sides) and max(sides) <= 0.60 + 0.02 / size
    assert min(sides) < 1.2 * max(0.05, 12 / size) and max(sides) > 0.5  # the range is used


def test_box_of_pixel_columns_3_to_7():
    outline = shape_drawing.place_outline(shape_drawing.unit_outline("square"), 5, corner_xy=(3, 10))
    image = np.zeros((20, 20, 3), np.uint8)
    shape_drawing.paint(image, outline, colour=(255, 255, 255), rng=np.random.default_rng(0))
    assert mask_corners(image.any(axis=2)).tolist() == [3, 10, 8, 15]  # columns 3..7: x = 3, w = 5
    assert (image[10:15, 3:8] > 150).all()  # all 25 pixels
    assert make_shapes.coco_annotation(shape_drawing.Shape("square", outline), 1, 1)["bbox"] == [3, 10, 5, 5]


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("long_side, angle", [(16, 0.3), (41.7, -0.2), (90, 0.0)])
def test_box_encloses_the_painted_pixels(name, long_side, angle):
    unit = shape_drawing.unit_outline(name)
    for shift in np.linspace(0, 1, 7):  # positions relative to the pixel grid
        outline = shape_drawing.place_outline(
            unit, long_side=long_side, angle=angle, stretch=1.1, corner_xy=(4 + shift, 7 + shift / 2)
        )
        box = box_corners(shape_drawing.Shape(name, outline).box_xywh)
        assert max(box[2:] - box[:2]) == pytest.approx(long_side)
        image = np.zeros((SIZE, SIZE, 3), np.uint8)
        shape_drawing.paint(image, outline, colour=(255, 255, 255), rng=np.random.default_rng(0))
        assert np.abs(mask_corners(image.any(axis=2)) - box).max() < 1
        alpha, (rows, columns) = shape_drawing.coverage(outline)
        assert alpha.sum() == pytest.approx(shape_drawing.Shape(name, outline).area, rel=0.04)
        if name in (
            "circle",
            "square",
            "ring",
            "cross",
        ):  # point-symmetric: the box is around the centre of mass
            x = (alpha.sum(axis=0) * (np.arange(columns.start, columns.stop) + 0.5)).sum() / alpha.sum()
            y = (alpha.sum(axis=1) * (np.arange(rows.start, rows.stop) + 0.5)).sum() / alpha.sum()
            assert [x, y] == pytest.approx([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], abs=0.1)


def test_a_scene_differs_from_its_background_only_inside_the_box():
    for seed in range(40):
        image, (shape,) = shape_drawing.draw_scene(np.random.default_rng(seed), SIZE, 1)
        background = shape_drawing.draw_background(np.random.default_rng(seed), SIZE)
        assert np.abs(mask_corners((image != background).any(axis=2)) - box_corners(shape.box_xywh)).max() < 1


def test_the_area_of_a_ring_excludes_its_hole():
    outline = shape_drawing.place_outline(shape_drawing.unit_outline("ring"), 40)
    alpha, _ = shape_drawing.coverage(outline)
    assert alpha[20, 20] == 0 and alpha[20, 4] == 1
    assert shape_drawing.Shape("ring", outline).area == pytest.approx(math.pi * (20**2 - 11**2), rel=0.01)


# --- occlusion and contrast ---


def test_at_most_two_fifths_of_a_shape_are_hidden(data_set):
    hidden = []
    for split in SPLITS:
        coco = COCO(str(data_set[0] / "annotations" / f"instances_{split}.json"))
        for image_id in coco.imgs:
            masks = [coco.annToMask(annotation) for annotation in coco.imgToAnns[image_id]]  # in drawing order
            for index, mask in enumerate(masks[:-1]):
                hidden.append((mask & np.any(masks[index + 1 :], axis=0)).sum() / mask.sum())
    assert max(hidden) <= 0.40  # drawn with at most 0.35; pycocotools fills small outlines slightly differently
    assert max(hidden) > 0.2  # overlaps do occur


@pytest.mark.parametrize("hue", [0, 120, 240])
@pytest.mark.parametrize("grey", [0, 128, 255])
def test_colours_have_their_hue_and_contrast_with_the_background(grey, hue):
    for seed in range(20):
        colour = shape_drawing.contrasting_colour(np.random.default_rng(seed), np.full((10, 3), grey, np.uint8), hue)
        assert np.linalg.norm(colour - grey) >= 100
        assert np.argmax(colour) == {0: 2, 120: 1, 240: 0}[hue]  # BGR: the strongest channel is red, green or blue


# --- the command ---


def test_the_command_prints_the_numbers_of_images_and_objects(tmp_path):
    command = [sys.executable, Path(make_shapes.__file__), "some/data", "--train", "3", "--val", "2", "--size", "64"]
    result = subprocess.run([str(part) for part in command], cwd=tmp_path, capture_output=True, text=True)
    num_objects = sum(len(load_annotations(tmp_path / "some" / "data", split)["annotations"]) for split in SPLITS)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("some/data: ")
    assert [int(number) for number in re.findall(r"\d+", result.stdout)] == [3, 2, num_objects, 6]
