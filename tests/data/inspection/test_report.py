"""The summary of a dataset: statistics computed by hand, problems with examples, and advice for a recipe."""

import re
from pathlib import Path

import numpy as np
import pytest

from ssd.boxes.anchors import create_anchors
from ssd.data.inspection.anchor_recall import AnchorSet
from ssd.data.inspection.report import FEW_BOXES, summarize_dataset
from ssd.data.readers.annotations import UNUSABLE_IMAGES, AnnotatedImage, DatasetSplit

CLASSES = ["background", "cat", "dog", "猫咪"]
BOXES = [[0, 0, 20, 40, 1], [10, 10, 50, 50, 2], [0, 100, 100, 200, 3]]


def image(name, *boxes, size=(100, 200), crowd_boxes=0):
    """boxes: y0, x0, y1, x1 in pixels and class index"""
    ground_truth = np.array(boxes, dtype=np.float64).reshape(-1, 5)
    return AnnotatedImage(
        image_id=1, path=Path(f"/data/{name}"), size=size, ground_truth=ground_truth, crowd_boxes=crowd_boxes
    )


def split(*images, problems=None):
    return DatasetSplit(
        annotation_path=Path("/data"),
        classes=CLASSES,
        category_ids=[1, 2, 3],
        images=list(images),
        problems=problems or {},
    )


def summarize(train, val, anchor_set=None, more_problems=None):
    """Return {section: its lines}: statistics, problems and advice."""
    text = summarize_dataset(train, val, anchor_set=anchor_set, more_problems=more_problems)
    statistics, _, rest = text.partition("problems:\n")
    problems, _, advice = rest.partition("advice:\n")
    sections = {"statistics": statistics, "problems": problems, "advice": advice}
    return {name: [line.strip() for line in part.splitlines() if line.strip()] for name, part in sections.items()}


def find_line(lines, parts):
    """Return the only line that contains a text, or all of a list of texts."""
    parts = [parts] if isinstance(parts, str) else parts
    (line,) = [line for line in lines if all(part in line for part in parts)]
    return line


def has_numbers(line, expected):
    """Return whether a line contains the numbers of a text in its order; other numbers may lie between them."""
    numbers = iter(re.findall(r"-?\d+(?:\.\d+)?", line))
    return all(any(number == wanted for number in numbers) for wanted in expected.split())


# --- statistics ---


def test_statistics_by_hand(capsys):
    train = split(image("a.jpg", *BOXES, crowd_boxes=2), image("b.jpg", size=(50, 60)))
    lines = summarize(train, split(image("c.jpg", BOXES[0])))["statistics"]
    of_train = [line for line in lines if line.startswith("train: ")]
    of_val = [line for line in lines if line.startswith("val: ")]
    assert has_numbers(of_train[0], "2 1 3 2")  # images, those without boxes, boxes, crowd regions
    assert has_numbers(of_val[0], "1 0 1 0")
    assert "1 image," in of_val[0] and "1 box;" in of_val[0]
    assert "200x100 (1), 60x50 (1)" in find_line(of_train, "60x50")
    # The boxes have areas of 800, 1600 and 10000 pixels, the squares of 28.3, 40 and 100.
    assert has_numbers(find_line(of_train, "area"), "40 29 94 33 33 33")
    assert has_numbers(find_line(of_val, "area"), "28 28 28 100 0 0")
    assert has_numbers(find_line(of_train, "width over height"), "1.00 1.00 1.90")
    assert has_numbers(find_line(of_val, "width over height"), "2.00 2.00 2.00")
    assert has_numbers(find_line(of_train, "per image"), "2 3")  # median, maximum
    cells = [line.split() for line in lines]
    for row in (["cat", "1", "1"], ["dog", "1", "0"], ["猫咪", "1", "0"]):
        assert row in cells
    assert capsys.readouterr().out == ""


def test_table_is_aligned_for_wide_characters():
    """In a terminal each Chinese character is two columns wide."""
    lines = summarize(split(image("a.jpg", *BOXES)), split())["statistics"]
    assert len(find_line(lines, "猫咪")) + 2 == len(find_line(lines, "cat "))


def test_statistics_without_boxes():
    lines = summarize(split(image("a.jpg")), split())["statistics"]
    assert has_numbers(find_line(lines, ["train: ", "boxes"]), "1 1 0")
    assert has_numbers(find_line(lines, "val: "), "0 0 0")


# --- problems ---


def test_sound_dataset_has_no_problems():
    assert summarize(split(image("a.jpg", *BOXES)), split(image("c.jpg", *BOXES)))["problems"] == ["none found"]


def test_each_kind_of_problem_is_counted_with_examples():
    thin, outside = [10, 10, 10.5, 90, 1], [-5, 150, 20, 260.5, 2]
    train = split(
        image("a.jpg", *[*BOXES, thin, outside, BOXES[0]]),
        image("twice.jpg"),
        problems={"unreadable labels": ["x", "y", "z", "w"]},
    )
    val = split(image("c.jpg", *BOXES, [200, 10, 220, 20, 1]), image("twice.jpg"))
    lines = summarize(train, val)["problems"]
    line = find_line(lines, ["unreadable labels", "(4)", "x; y; z"])
    assert "w" not in line and has_numbers(line, "4 1")  # one more than the examples
    find_line(lines, ["thinner", "(1)", "a.jpg cat x 10 to 90, y 10 to 10.5"])
    find_line(lines, ["outside", "(1)", "c.jpg cat x 10 to 20, y 200 to 220"])
    find_line(lines, ["(1)", "a.jpg dog x 150 to 260.5, y -5 to 20"])
    find_line(lines, ["duplicate", "(1)", "a.jpg cat x 0 to 40, y 0 to 20"])
    find_line(lines, ["(1)", "/data/twice.jpg"])
    assert len(lines) == 6  # no other kinds


def test_problems_found_elsewhere_come_first():
    train = split(image("a.jpg", *BOXES), problems={"bad labels": ["y"]})
    lines = summarize(train, split(), more_problems={"bad images": ["x"], "no occurrence": []})["problems"]
    assert [line.partition(" (")[0] for line in lines] == ["bad images", "bad labels"]


def test_unusable_image_is_reported_once():
    train = split(image("a.jpg", *BOXES), problems={UNUSABLE_IMAGES: ["a: x", "b: y"]})
    val = split(image("a.jpg", *BOXES), problems={UNUSABLE_IMAGES: ["b: y"]})
    more_problems = {UNUSABLE_IMAGES: ["b: y", "c: z"]}
    lines = summarize(train, val, more_problems=more_problems)["problems"]
    find_line(lines, [UNUSABLE_IMAGES, "(3)", "b: y; c: z; a: x"])
    assert more_problems == {UNUSABLE_IMAGES: ["b: y", "c: z"]}


def test_one_pixel_beyond_the_image_is_no_problem():
    train = split(image("a.jpg", *BOXES, [-1, 0, 50, 201, 1]))
    assert summarize(train, split())["problems"] == ["none found"]


def test_box_in_an_image_of_unknown_size_is_no_problem():
    train = split(image("a.jpg", *BOXES, [0, 0, 9999, 9999, 1], size=None))
    assert summarize(train, split())["problems"] == ["none found"]


def test_classes_without_boxes_and_with_few_boxes():
    sections = summarize(split(image("a.jpg", BOXES[0])), split(image("c.jpg", BOXES[1])))
    find_line(sections["problems"], ["(2)", "dog; 猫咪"])  # no training boxes
    find_line(sections["advice"], ["20", "cat (1)"])  # few training boxes
    find_line(sections["advice"], ["validation", "cat"])  # no validation boxes
    find_line(sections["advice"], "--config RECIPE")
    assert FEW_BOXES == 20


# --- anchors ---

# One anchor of 100x100 pixels in the middle of an input of 200x200, and one of 20x40 (height, width) at its corner.
ANCHORS = AnchorSet(np.array([[0.25, 0.25, 0.75, 0.75], [0, 0, 0.1, 0.2]]), (200, 200))


def test_missed_boxes_are_counted_and_explained():
    boxes = [
        [25, 50, 75, 150, 1],  # in an image of height 100 and width 200: the first anchor
        [0, 0, 10, 40, 1],  # the second anchor
        [90, 180, 94, 188, 2],  # 8x8 pixels of the input: too small
        [80, 0, 85, 200, 3],  # 10x200 pixels of the input: too elongated
    ]
    lines = summarize(split(image("a.jpg", *boxes)), split(image("c.jpg", *BOXES)), anchor_set=ANCHORS)["advice"]
    assert has_numbers(find_line(lines, ["not recalled", "IoU"]), "50.0 2 0.5")
    # Half the area of the second anchor, 20x40 pixels, is a square of 20x20.
    assert has_numbers(find_line(lines, "too small"), "50 20 20 200 200")
    assert has_numbers(find_line(lines, "too elongated"), "50 0.44 4.50")
    assert has_numbers(find_line(lines, "between"), "0")
    find_line(lines, "dog 100%, 猫咪 100%")


def test_own_anchors_of_a_recipe_are_all_recalled(load_recipe):
    cfg = load_recipe("ssd_mobilenetv2")
    anchors = create_anchors(cfg).boxes_yxyx
    inside = anchors[((anchors >= 0) & (anchors <= 1)).all(axis=1)][::20]
    boxes = np.concatenate([inside * 300, np.ones((len(inside), 1))], axis=1)
    train = split(image("a.jpg", *boxes, size=(300, 300)))
    lines = summarize(train, split(), anchor_set=AnchorSet(anchors, cfg.image_size, cfg.match_threshold))["advice"]
    assert has_numbers(find_line(lines, "not recalled"), "0.0 0 0.5")


@pytest.mark.parametrize("train", [split(image("a.jpg")), split(image("a.jpg", *BOXES, size=None)), split()])
def test_anchors_are_not_evaluated_without_sizes_or_boxes(train):
    lines = summarize(train, split(), anchor_set=ANCHORS)["advice"]
    assert "anchors cannot be evaluated" in lines[-1] and not any("recalled" in line for line in lines)


def test_many_boxes_are_sampled():
    boxes = [[25, 50, 75, 150, 1], [90, 190, 94, 194, 2]] * 3000
    lines = summarize(split(image("a.jpg", *boxes)), split(), anchor_set=ANCHORS)["advice"]
    assert has_numbers(find_line(lines, ["not recalled", "IoU"]), "50.0 1000 2000")
