"""The report before a conversion: every figure by hand, every problem with an example, advice for a recipe."""

from pathlib import Path

import numpy as np
import pytest

from ssd.boxes.anchors import create_anchors
from ssd.data.inspection.anchor_recall import AnchorSet
from ssd.data.inspection.report import FEW, describe
from ssd.data.readers.annotations import BROKEN, CocoImage, CocoSplit

CLASSES = ["background", "cat", "dog", "猫咪"]


def image(name, *objects, size=(100, 200), crowds=0):
    """objects: y0, x0, y1, x1, class"""
    return CocoImage(1, Path(f"/data/{name}"), size, np.array(objects, dtype=np.float64).reshape(-1, 5), crowds)


def split(*images, **problems):
    return CocoSplit(Path("/data"), CLASSES, [1, 2, 3], list(images), None, problems)


GOOD = [[0, 0, 20, 40, 1], [10, 10, 50, 50, 2], [0, 100, 100, 200, 3]]


def report(train, val, recipe=None):
    """{heading: lines below it}, the figures under `top`."""
    text = describe(train, val, recipe)
    top, _, rest = text.partition("problems:\n")
    problems, _, advice = rest.partition("advice:\n")
    clean = {"top": top, "problems": problems, "advice": advice}
    return {name: [line.strip() for line in part.splitlines() if line.strip()] for name, part in clean.items()}


def test_figures(capsys):
    train = split(image("a.jpg", *GOOD, crowds=2), image("b.jpg", size=(50, 60)))
    val = split(image("c.jpg", GOOD[0]))
    assert report(train, val)["top"] == [
        "train: 2 images, 1 of them without objects; 3 objects, 2 crowd regions and difficult objects beside them",
        "train: image sizes, width x height (images): 200x100 (1), 60x50 (1)",
        # sides 28.3, 40, 100: areas 800, 1600, 10000
        "train: box side in pixels, root of the area: median 40, nine in ten between 29 and 94; small 33%, medium 33%, "
        "large 33% by COCO's bounds of 32x32 and 96x96",
        "train: box width over height: median 1.00, nine in ten between 1.00 and 1.90",
        "train: objects in an image: median 2, at most 3",
        "val: 1 images, 0 of them without objects; 1 objects, 0 crowd regions and difficult objects beside them",
        "val: image sizes, width x height (images): 200x100 (1)",
        "val: box side in pixels, root of the area: median 28, nine in ten between 28 and 28; small 100%, medium 0%, "
        "large 0% by COCO's bounds of 32x32 and 96x96",
        "val: box width over height: median 2.00, nine in ten between 2.00 and 2.00",
        "val: objects in an image: median 1, at most 1",
        "class    train      val",
        "cat          1        1",
        "dog          1        0",
        "猫咪         1        0",  # each character is two columns wide
    ]
    assert capsys.readouterr().out == ""


def test_a_sound_set_has_no_problems():
    assert report(split(image("a.jpg", *GOOD)), split(image("c.jpg", *GOOD)))["problems"] == ["none found"]


def test_each_kind_of_problem_has_examples():
    thin, outside = [10, 10, 10.5, 90, 1], [-5, 150, 20, 260.5, 2]
    train = split(
        image("a.jpg", *GOOD, thin, outside, GOOD[0]), image("twice.jpg"), **{"labels of a kind": ["x", "y", "z", "w"]}
    )
    val = split(image("c.jpg", *GOOD, [200, 10, 220, 20, 1]), image("twice.jpg"))
    assert report(train, val)["problems"] == [
        "4 labels of a kind: x; y; z, and 1 more",
        "2 boxes thinner than a pixel within their image, left out of training: a.jpg cat x 10 to 90, y 10 to 10.5; "
        "c.jpg cat x 10 to 20, y 200 to 220",
        "1 boxes beyond their image, cut off at its border: a.jpg dog x 150 to 260.5, y -5 to 20",
        "1 boxes given twice with one class: a.jpg cat x 0 to 40, y 0 to 20",
        "1 images in both splits or twice in one: /data/twice.jpg",
    ]


def test_problems_found_elsewhere_come_first():
    problems = describe(split(image("a.jpg", *GOOD)), split(), None, {"of images": ["x"], "of none": []})
    assert "problems:\n  1 of images: x\n\nadvice" in problems


def test_an_image_that_stops_the_conversion_is_told_once():
    train, val = (split(image("a.jpg", *GOOD), **{BROKEN: where}) for where in (["a: got x", "b: got y"], ["b: got y"]))
    more = {BROKEN: ["b: got y", "c: got z"]}
    assert f"  3 {BROKEN}: b: got y; c: got z; a: got x\n" in describe(train, val, None, more)
    assert more == {BROKEN: ["b: got y", "c: got z"]}


def test_rounding_at_the_border_is_no_problem():
    assert report(split(image("a.jpg", *GOOD, [-1, 0, 50, 201, 1])), split())["problems"] == ["none found"]


def test_an_unknown_size_makes_no_problem_of_a_box():
    lines = report(split(image("a.jpg", *GOOD, [0, 0, 9999, 9999, 1], size=None)), split())
    assert lines["problems"] == ["none found"]


def test_classes_without_objects_are_named():
    lines = report(split(image("a.jpg", GOOD[0])), split(image("c.jpg", GOOD[1])))
    assert lines["problems"] == ["2 classes without objects to train on: dog; 猫咪"]
    assert lines["advice"][:2] == [
        "fewer than 20 objects to learn from, which is seldom enough: cat (1)",
        "no object to validate, so evaluation says nothing of them: cat",
    ]
    assert FEW == 20 and "--config RECIPE" in lines["advice"][2]


def test_splits_without_objects_are_described():
    lines = report(split(image("a.jpg")), split())
    assert lines["top"][0].startswith("train: 1 images, 1 of them without objects; 0 objects")
    assert lines["top"][2].startswith("val: 0 images")


# --- anchors ---

# One anchor of 100x100 pixels in the middle of an input of 200x200, and one of 20x40 (height, width) at its corner.
RECIPE = AnchorSet(np.array([[0.25, 0.25, 0.75, 0.75], [0, 0, 0.1, 0.2]]), (200, 200))


def test_missed_objects_are_counted_and_explained():
    objects = [
        [25, 50, 75, 150, 1],  # in an image of height 100 and width 200: the first anchor
        [0, 0, 10, 40, 1],  # the second
        [90, 180, 94, 188, 2],  # 8x8 pixels of the input: small
        [80, 0, 85, 200, 3],  # 10x200: long
    ]
    lines = report(split(image("a.jpg", *objects)), split(image("c.jpg", *GOOD)), RECIPE)["advice"][-5:]
    assert lines == [
        "50.0% of the objects to train on (2) are reached by no anchor at IoU 0.5; each of those learns by its single "
        "best anchor",
        # half of the second anchor's 20x40 pixels is the square of 20
        "of these, 50% are too small for any: below 20 pixels a side once the image is 200x200; a larger image_size "
        "or smaller anchors help",
        "50% are too long for any: width over height below 0.44 or above 4.50; more aspect_ratios help",
        "0% lie between the sizes and places of anchors, or are larger than all",
        "most often missed: dog 100%, 猫咪 100%",
    ]


def test_a_recipe_s_own_anchors_are_all_reached(load_recipe):
    cfg = load_recipe("ssd_mobilenetv2")
    anchors = create_anchors(cfg).boxes_yxyx
    inside = anchors[((anchors >= 0) & (anchors <= 1)).all(axis=1)][::20]
    objects = np.concatenate([inside * 300, np.ones((len(inside), 1))], axis=1)
    train = split(image("a.jpg", *objects, size=(300, 300)))
    lines = report(train, split(), AnchorSet(anchors, cfg.image_size, cfg.match_threshold))["advice"]
    assert any(line.startswith("0.0% of the objects to train on (0) are reached by no anchor") for line in lines)


@pytest.mark.parametrize("train", [split(image("a.jpg")), split(image("a.jpg", *GOOD, size=None)), split()])
def test_without_sizes_or_objects_no_anchors_are_compared(train):
    assert "no anchors can be compared" in report(train, split(), RECIPE)["advice"][-1]


def test_many_objects_are_sampled():
    rows = [[25, 50, 75, 150, 1], [90, 190, 94, 194, 2]] * 3000
    (line,) = [row for row in report(split(image("a.jpg", *rows)), split(), RECIPE)["advice"] if "reached by no" in row]
    assert line.startswith("50.0% of the objects to train on (1000 of 2000 looked at)")
