"""Laws of the drawn data set: the same for the same seed, valid COCO, exact boxes, nothing hidden, nothing lost."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

import make_shapes
import shape_drawing

SIZE = 128
SPLITS = ("train2017", "val2017")
CLASSES = ("circle", "square", "triangle", "star", "ring", "cross")


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    """A small data set, made once: (folder, number of objects that make_shapes returned)."""
    out = tmp_path_factory.mktemp("shapes") / "data"
    return out, make_shapes.make_shapes(out, train=60, val=50, size=SIZE, seed=3)


def load(out, split):
    return json.loads((out / "annotations" / f"instances_{split}.json").read_text())


def files_of(out):
    """{relative path: bytes} of every file under a folder."""
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def extent(changed):
    """x1, y1, x2, y2 of the True pixels of a (H, W) mask; the pixel columns 3..7 give 3 and 8."""
    columns, rows = np.flatnonzero(changed.any(axis=0)), np.flatnonzero(changed.any(axis=1))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def corners(box_xywh):
    x, y, w, h = box_xywh
    return np.array([x, y, x + w, y + h])


# --- the same seed, the same files ---


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_shapes.make_shapes(tmp_path / name, train=3, val=2, size=64, seed=seed)
    a, b, c = (files_of(tmp_path / name) for name in "abc")
    assert len(a) == 3 + 2 + 2
    assert a == b
    assert a.keys() == c.keys() and all(a[name] != c[name] for name in a)


def test_an_image_depends_on_its_index_not_on_the_counts(tmp_path):
    make_shapes.make_shapes(tmp_path / "few", train=1, val=1, size=64)
    make_shapes.make_shapes(tmp_path / "more", train=3, val=2, size=64)
    few, more = files_of(tmp_path / "few"), files_of(tmp_path / "more")
    assert few["train2017/000000000001.jpg"] == more["train2017/000000000001.jpg"]
    assert few["val2017/000000000002.jpg"] == more["val2017/000000000004.jpg"]  # val ids follow those of train
    assert few["train2017/000000000001.jpg"] != few["val2017/000000000002.jpg"]


# --- valid COCO ---


@pytest.mark.parametrize("split, first, count", [("train2017", 1, 60), ("val2017", 61, 50)])
def test_pycocotools_loads_it_and_ids_agree(data_set, split, first, count):
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
        assert corners(annotation["bbox"]) == pytest.approx([*points.min(axis=0), *points.max(axis=0)], abs=1e-6)
        mask = coco.annToMask(annotation)
        # pycocotools takes a pixel by its centre, which costs the tip of a star up to two
        assert np.abs(extent(mask) - corners(annotation["bbox"])).max() <= 2
        # pycocotools fills to the pixel, so allow half a pixel all along the edge
        assert abs(int(mask.sum()) - annotation["area"]) <= sum(annotation["bbox"][2:])


def test_annotation_ids_are_unique_over_both_splits(data_set):
    out, objects = data_set
    ids = [annotation["id"] for split in SPLITS for annotation in load(out, split)["annotations"]]
    assert sorted(ids) == list(range(1, objects + 1))


def test_category_ids_cannot_pass_for_class_indices(data_set):
    out, _ = data_set
    categories = load(out, "train2017")["categories"]
    assert categories == load(out, "val2017")["categories"]
    assert [category["name"] for category in categories] == list(CLASSES)
    for index, category in enumerate(categories):
        assert category["id"] not in (index, index + 1)


@pytest.mark.parametrize("split", SPLITS)
def test_all_classes_occur_and_one_image_in_fifty_is_empty(data_set, split):
    content = load(data_set[0], split)
    assert {a["category_id"] for a in content["annotations"]} == {c["id"] for c in content["categories"]}
    per_image = [sum(a["image_id"] == image["id"] for a in content["annotations"]) for image in content["images"]]
    assert [index for index, number in enumerate(per_image) if number == 0] == [49]
    assert max(per_image) <= 12 and sorted(per_image)[1] >= 1


# --- boxes ---


@pytest.mark.parametrize("size", [64, 320])
def test_boxes_lie_inside_and_keep_to_the_sizes(size):
    sides = []
    for seed in range(300):
        shape = shape_drawing.random_shape(np.random.default_rng(seed), size)
        x, y, w, h = make_shapes.coco_annotation(shape, 1, 1)["bbox"]
        assert 0 <= x and 0 <= y and x + w <= size + 1e-9 and y + h <= size + 1e-9
        sides.append(max(w, h) / size)
    assert 0.05 - 0.02 / size <= min(sides) and max(sides) <= 0.60 + 0.02 / size
    assert min(sides) < 1.2 * max(0.05, 12 / size) and max(sides) > 0.5  # and use them


def test_box_of_pixel_columns_3_to_7_by_hand():
    outline = shape_drawing.place_outline(shape_drawing.unit_outline("square"), 5, corner_xy=(3, 10))
    image = np.zeros((20, 20, 3), np.uint8)
    shape_drawing.paint(image, outline, (255, 255, 255), np.random.default_rng(0))
    assert extent(image.any(axis=2)).tolist() == [3, 10, 8, 15]  # columns 3..7: x = 3, w = 5
    assert (image[10:15, 3:8] > 150).all()  # and all 25 pixels of it
    assert make_shapes.coco_annotation(shape_drawing.Shape("square", outline), 1, 1)["bbox"] == [3, 10, 5, 5]


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("long_side, angle", [(16, 0.3), (41.7, -0.2), (90, 0.0)])
def test_box_is_the_extent_of_the_changed_pixels(name, long_side, angle):
    unit = shape_drawing.unit_outline(name)
    for shift in np.linspace(0, 1, 7):  # every position within the pixel grid
        outline = shape_drawing.place_outline(unit, long_side, angle, 1.1, (4 + shift, 7 + shift / 2))
        box = corners(shape_drawing.Shape(name, outline).box_xywh)
        assert max(box[2:] - box[:2]) == pytest.approx(long_side)
        image = np.zeros((SIZE, SIZE, 3), np.uint8)
        shape_drawing.paint(image, outline, (255, 255, 255), np.random.default_rng(0))
        assert np.abs(extent(image.any(axis=2)) - box).max() < 1
        alpha, (rows, columns) = shape_drawing.coverage(outline)
        assert alpha.sum() == pytest.approx(shape_drawing.Shape(name, outline).area, rel=0.04)
        if name in ("circle", "square", "ring", "cross"):  # point-symmetric: the centre of mass is that of the box
            x = (alpha.sum(axis=0) * (np.arange(columns.start, columns.stop) + 0.5)).sum() / alpha.sum()
            y = (alpha.sum(axis=1) * (np.arange(rows.start, rows.stop) + 0.5)).sum() / alpha.sum()
            assert [x, y] == pytest.approx([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], abs=0.1)


def test_a_scene_differs_from_its_background_just_inside_its_box():
    for seed in range(40):
        image, (shape,) = shape_drawing.draw_scene(np.random.default_rng(seed), SIZE, 1)
        background = shape_drawing.draw_background(np.random.default_rng(seed), SIZE)
        assert np.abs(extent((image != background).any(axis=2)) - corners(shape.box_xywh)).max() < 1


def test_a_ring_has_a_hole_and_leaves_it_out_of_its_area():
    outline = shape_drawing.place_outline(shape_drawing.unit_outline("ring"), 40)
    alpha, _ = shape_drawing.coverage(outline)
    assert alpha[20, 20] == 0 and alpha[20, 4] == 1
    assert shape_drawing.Shape("ring", outline).area == pytest.approx(math.pi * (20**2 - 11**2), rel=0.01)


# --- visible shapes ---


def test_later_shapes_hide_at_most_two_fifths_of_an_earlier_one(data_set):
    hidden = []
    for split in SPLITS:
        coco = COCO(str(data_set[0] / "annotations" / f"instances_{split}.json"))
        for image_id in coco.imgs:
            masks = [coco.annToMask(annotation) for annotation in coco.imgToAnns[image_id]]  # in drawing order
            for index, mask in enumerate(masks[:-1]):
                hidden.append((mask & np.any(masks[index + 1 :], axis=0)).sum() / mask.sum())
    assert max(hidden) <= 0.40  # 0.35 as drawn; pycocotools fills small outlines a little differently
    assert max(hidden) > 0.2  # overlaps do occur


@pytest.mark.parametrize("hue", [0, 120, 240])
@pytest.mark.parametrize("grey", [0, 128, 255])
def test_colours_have_their_hue_and_keep_off_what_lies_under_them(grey, hue):
    for seed in range(20):
        colour = shape_drawing.contrasting_colour(np.random.default_rng(seed), np.full((10, 3), grey, np.uint8), hue)
        assert np.linalg.norm(colour - grey) >= 100
        assert np.argmax(colour) == {0: 2, 120: 1, 240: 0}[hue]  # BGR: red, green and blue prevail


# --- folders: nothing lost, nothing half done ---


def refusal(capsys, *arguments):
    """Run the command, expect a refusal, return its one line."""
    assert make_shapes.main([str(argument) for argument in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert ": got " in printed.err and ", expected " in printed.err and "; " in printed.err
    return printed.err


def test_a_folder_with_content_is_refused_and_kept(tmp_path, capsys):
    make_shapes.make_shapes(tmp_path / "data", train=2, val=1, size=64)
    before = files_of(tmp_path)
    assert "--overwrite" in refusal(capsys, tmp_path / "data", "--train", 1, "--val", 0)
    assert files_of(tmp_path) == before


def test_overwrite_replaces_a_data_set_and_an_empty_folder(tmp_path):
    for name in ("old", "empty", "new"):
        (tmp_path / name).mkdir()
    make_shapes.make_shapes(tmp_path / "old", train=4, val=1, size=64, seed=9)
    for name in ("old", "empty", "new"):
        make_shapes.make_shapes(tmp_path / name, train=2, val=0, size=64, overwrite=name != "new")
    assert files_of(tmp_path / "old") == files_of(tmp_path / "empty") == files_of(tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "new", "old"]  # no scratch folder is left


@pytest.mark.parametrize(
    "kept",
    [
        {"notes.txt": "mine"},
        {"annotations/instances_train2017.json": '{"info": {"description": "COCO 2017"}}', "train2017/1.jpg": "mine"},
        {"annotations/instances_train2017.json": "OURS"},  # no train2017
        {"annotations/instances_train2017.json": "OURS", "train2017/1.jpg": "", "best.ckpt": "mine"},
    ],
    ids=["other files", "COCO itself", "incomplete", "more than a data set"],
)
def test_overwrite_removes_nothing_but_a_data_set_of_this_tool(tmp_path, capsys, kept):
    for name, text in kept.items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        ours = json.dumps({"info": {"description": make_shapes.DESCRIPTION, "version": "1.0"}})
        path.write_text(ours if text == "OURS" else text)
    before = files_of(tmp_path)
    assert "by hand" in refusal(capsys, tmp_path / "data", "--train", 1, "--val", 0, "--overwrite")
    assert files_of(tmp_path) == before


def test_a_file_in_the_way_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "data"):
        assert "got a file" in refusal(capsys, out, "--overwrite")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("existing", [False, True])
def test_an_interrupted_run_changes_nothing(tmp_path, monkeypatch, existing):
    out = tmp_path / "data"
    if existing:
        make_shapes.make_shapes(out, train=2, val=1, size=64)
    before = files_of(tmp_path)
    draw_image = make_shapes.draw_image

    def draw_until_val(seed, split, index, size):
        if split == "val2017":
            assert len(list(tmp_path.iterdir())) == 1 + existing  # the scratch folder is a sibling: a rename will do
            raise KeyboardInterrupt
        return draw_image(seed, split, index, size)

    monkeypatch.setattr(make_shapes, "draw_image", draw_until_val)
    with pytest.raises(KeyboardInterrupt):
        make_shapes.make_shapes(out, train=1, val=1, size=64, seed=5, overwrite=True)
    assert files_of(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == (["data"] if existing else [])


# --- the command ---


@pytest.mark.parametrize("option, value", [("train", 0), ("train", -1), ("val", -1), ("size", 63), ("seed", -1)])
def test_a_bad_number_is_named(tmp_path, capsys, option, value):
    assert f"--{option}: got {value}, expected" in refusal(capsys, tmp_path / "data", f"--{option}={value}")
    assert list(tmp_path.iterdir()) == []


def test_the_command_tells_what_it_made(tmp_path):
    command = [sys.executable, Path(make_shapes.__file__), "some/data", "--train", "3", "--val", "2", "--size", "64"]
    done = subprocess.run([str(part) for part in command], cwd=tmp_path, capture_output=True, text=True)
    objects = sum(len(load(tmp_path / "some" / "data", split)["annotations"]) for split in SPLITS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"some/data: 3 training and 2 validation images, {objects} objects of 6 classes\n"
