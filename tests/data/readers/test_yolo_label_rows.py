"""Rows of YOLO label files: which numbers are the box, what is clipped, and ambiguous rows."""

from pathlib import Path

import numpy as np
import pytest

from ssd.data.readers.annotations import EMPTY_BOXES, OUTSIDE_BOXES
from ssd.data.readers.yolo_label_rows import (
    CLIPPED_FRACTIONS,
    KEYPOINTS,
    POLYGONS,
    choose_keypoint_counts,
    parse_row,
    row_to_box,
)
from ssd.errors import UserError

NAMES = Path("data.yaml")


def parse(text, line=1):
    return parse_row(text.split(), path=Path("a.txt"), line=line, num_classes=3, names_path=NAMES)


def choose(texts, **settings):
    return choose_keypoint_counts([parse(text) for text in texts], settings, NAMES)


def to_box(text, counts=()):
    problems = {}
    box_xywh = row_to_box(parse(text), counts, problems)
    return None if box_xywh is None else box_xywh.tolist(), problems


def texts_of(rows):
    return ["1 " + " ".join(f"{value:.6f}" for value in row) for row in rows]


def pose_rows(count, keypoints, size, visibilities=(0, 2), seed=0):
    """Draw boxes with keypoints inside; a fifth of the keypoints is unlabeled, as zeros."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        sides = rng.uniform(0.05, 0.3, 2)
        center = rng.uniform(sides / 2, 1 - sides / 2)
        points = center + rng.uniform(-0.5, 0.5, (keypoints, 2)) * sides
        visible = np.full((keypoints, 1), visibilities[1]) if size == 3 else np.zeros((keypoints, 0))
        points = np.concatenate([points, visible], axis=1) * (rng.random((keypoints, 1)) > 0.2)
        rows.append(np.concatenate([center, sides, points.ravel()]))
    return texts_of(rows)


def polygon_rows(count, num_points, seed=0):
    """Draw convex polygons around random centers."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        radius = rng.uniform(0.02, 0.2, 2)
        angles = np.sort(rng.uniform(0, 2 * np.pi, num_points))
        rows.append(rng.uniform(radius, 1 - radius) + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius)
    return texts_of(row.ravel() for row in rows)


# --- keypoints or polygons ---


@pytest.mark.parametrize("shape, counts", [([17, 3], (55, 56)), ([4, 2], (12, 13)), (None, ()), (False, ()), ([], ())])
def test_kpt_shape_decides(shape, counts):
    for texts in (pose_rows(20, 4, 2), polygon_rows(20, 6), []):
        assert choose(texts, kpt_shape=shape) == counts


@pytest.mark.parametrize("shape", [5, "17, 3", [17], [17, 4], [17.5, 2], {"a": 1}, ["17", 3]])
def test_invalid_kpt_shapes_are_refused(shape):
    with pytest.raises(UserError, match="data.yaml: kpt_shape"):
        choose([], kpt_shape=shape)


@pytest.mark.parametrize("keypoints, size", [(1, 3), (2, 3), (17, 3), (1, 2), (2, 2), (4, 2)])
def test_keypoints_in_their_boxes_are_recognised(keypoints, size):
    assert choose(pose_rows(50, keypoints, size)) == (4 + keypoints * size,)
    assert choose([*pose_rows(50, keypoints, size), "0 0.5 0.5 1 1"]) == (4 + keypoints * size,)


@pytest.mark.parametrize("num_points", [4, 5, 8, 30])
def test_polygons_with_one_number_of_points_are_recognised(num_points):
    assert choose(polygon_rows(50, num_points)) == ()


@pytest.mark.parametrize("seed", range(20))
def test_keypoints_are_never_taken_for_polygons(seed):
    """Where the numbers fit both, an error asks for kpt_shape."""
    for count in (1, 5, 30):
        for keypoints, size, visible in ((1, 2, 2), (3, 2, 2), (17, 2, 2), (17, 3, 2), (2, 3, 0.7), (17, 3, 0.7)):
            texts = pose_rows(count, keypoints, size, visibilities=(0, visible), seed=seed)
            try:
                assert choose(texts) == (4 + keypoints * size,)
            except UserError as error:
                assert "a.txt: line 1: " in str(error) and "kpt_shape" in str(error)


def test_keypoints_with_visibilities_may_be_followed_by_a_confidence():
    texts = [f"{text} 0.87" for text in pose_rows(30, 17, 3)]
    assert choose(texts) == (56,)


def test_rows_that_fit_both_forms_are_refused():
    """As a box and keypoints, small polygons near (0.3, 0.3) are a large box around three keypoints."""
    rng = np.random.default_rng(0)
    angles = np.arange(5) * 2 * np.pi / 5
    points = 0.3 + 0.02 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    with pytest.raises(UserError, match="a.txt: line 1: .*kpt_shape"):
        choose(texts_of((points + rng.uniform(-0.02, 0.02, 2)).ravel() for _ in range(30)))


def test_rotated_boxes_are_polygons():
    """Their four corners near the middle of the image would also fit a box with two keypoints."""
    text = "0 0.4 0.5 0.5 0.4 0.6 0.5 0.5 0.6"
    assert choose([text] * 20) == ()
    assert to_box(text)[0] == pytest.approx([0.4, 0.4, 0.2, 0.2])


def test_different_numbers_of_points_are_polygons():
    assert choose([*polygon_rows(5, 5), *polygon_rows(5, 6), *polygon_rows(5, 7)]) == ()


def test_a_row_of_another_length_is_named_among_keypoints():
    texts = [*pose_rows(30, 3, 2), "0 .5 .5 .2 .2 .5 .5"]
    counts = choose(texts)
    assert counts == (10,)
    with pytest.raises(UserError, match="a.txt: line 1: .* 7 .* 11"):
        to_box(texts[-1], counts)


# --- boxes ---


@pytest.mark.parametrize(
    "text, counts, box_xywh, kinds",
    [
        ("0 0.5 0.5 0.5 0.25", (), [0.25, 0.375, 0.5, 0.25], []),
        ("0 0.5 0.5 0.5 0.25 0.5 0.5", (6,), [0.25, 0.375, 0.5, 0.25], [KEYPOINTS]),
        ("0 0.5 0.5 0.5 0.25 9 9 2 0.4", (7, 8), [0.25, 0.375, 0.5, 0.25], [KEYPOINTS]),  # keypoints may be anywhere
        ("0 0.25 0.5 0.5 0.25 0.5 0.75", (), [0.25, 0.25, 0.25, 0.5], [POLYGONS]),
        ("0 1 1 0.5 0.25", (), [0.75, 0.875, 0.5, 0.25], []),  # extends beyond its image, clipped in pixels later
        ("0 1.005 0.5 0.5 0.25", (), [0.755, 0.375, 0.5, 0.25], []),  # a rounding error
        ("0 0.5 0.5 1.5 1.25", (), [0, 0, 1, 1], [CLIPPED_FRACTIONS]),
        ("0 1.25 0.5 1 0.25", (), [0.75, 0.375, 0.25, 0.25], [CLIPPED_FRACTIONS]),
        ("0 1.2 0.1 1.3 0.2 1.4 0.1", (), None, [POLYGONS, OUTSIDE_BOXES]),
        ("0 1.25 0.5 1 0", (), None, [CLIPPED_FRACTIONS, EMPTY_BOXES]),
        ("0 -0.25 0.5 1 0.25", (), [0, 0.375, 0.25, 0.25], [CLIPPED_FRACTIONS]),
        ("0 -0.5 0.5 0.5 1.5 0.25 0.5", (), [0, 0.5, 0.5, 0.5], [POLYGONS, CLIPPED_FRACTIONS]),
        ("0 1.5 0.5 0.5 0.25", (), None, [OUTSIDE_BOXES]),
        ("0 0.5 0.5 0.5 0", (), None, [EMPTY_BOXES]),
    ],
)
def test_boxes_are_fractions_of_the_image(text, counts, box_xywh, kinds):
    found, problems = to_box(text, counts)
    assert found == (box_xywh and pytest.approx(box_xywh))
    assert problems == {kind: ["a.txt, line 1"] for kind in kinds}
