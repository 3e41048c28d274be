"""Selection, drawing and summaries of example images."""

import re

import numpy as np
import pytest

from ssd.evaluation.report.error_analysis import classify_errors
from ssd.evaluation.report.gallery import (
    compute_image_scores,
    draw_image_matches,
    select_images,
    summarize_image,
)
from ssd.inference.drawing import class_color

CAT, DOG, BIRD = 1, 2, 3
CLASSES = ("background", "cat", "dog", "bird")
BOX, FAR = (10, 10, 40, 40), (60, 60, 30, 30)
OFF = (30, 10, 40, 40)  # IoU 1/3 with BOX
# Image 11 is perfect, 12 has a false positive, both objects of 13 are missed, 14 is empty.
OBJECTS = [(11, CAT, BOX), (11, DOG, FAR), (12, CAT, BOX), (13, BIRD, BOX), (13, BIRD, FAR)]
DETECTIONS = [
    (11, CAT, 0.9, BOX),
    (11, DOG, 0.8, FAR),
    (12, CAT, 0.7, BOX),
    (12, BIRD, 0.95, FAR),
    (13, BIRD, 0.2, BOX),
]


def test_scores_of_images(match_rows):
    scores = compute_image_scores(match_rows(OBJECTS, DETECTIONS), 0.3)
    assert scores.true_positives.tolist() == [2, 1, 0, 0]
    assert scores.false_positives.tolist() == [0, 1, 0, 0]
    assert scores.false_negatives.tolist() == [0, 0, 2, 0]  # the bird with score 0.2 is below the threshold
    assert scores.f1.tolist() == pytest.approx([1, 2 / 3, 0, 1])
    assert scores.max_false_positive_score.tolist() == pytest.approx([0, 0.95, 0, 0])


def test_images_of_each_group(match_rows):
    scores = compute_image_scores(match_rows(OBJECTS, DETECTIONS), 0.3)
    assert select_images(scores, np.arange(4), 1) == {"confident_errors": [1], "worst": [2], "best": [0]}
    # Of four images, two per group at most. Both images of F1 1 are best, the one with more objects first.
    assert select_images(scores, np.arange(4)) == {"confident_errors": [1], "worst": [2], "best": [0, 3]}
    assert select_images(scores, np.array([2, 3])) == {"confident_errors": [], "worst": [2], "best": [3]}
    assert select_images(scores, np.arange(0)) == {"confident_errors": [], "worst": [], "best": []}


@pytest.mark.parametrize("min_score", [0.0, 0.3, 1.0])
def test_no_image_is_in_two_groups(min_score, random_rows, match_rows):
    image_ids = range(11, 61)
    objects, detections = random_rows(3)
    rng = np.random.default_rng(0)
    objects = [(int(rng.choice(image_ids)), *row[1:]) for row in objects]
    detections = [(int(rng.choice(image_ids)), *row[1:]) for row in detections]
    scores = compute_image_scores(match_rows(objects, detections, image_ids=image_ids), min_score)
    groups = select_images(scores, np.arange(50))
    chosen = [image for group in groups.values() for image in group]
    assert len(chosen) == len(set(chosen)) <= 18
    assert len(groups["worst"]) == 6 and max(map(len, groups.values())) == 6
    assert all(scores.max_false_positive_score[image] > 0 for image in groups["confident_errors"])
    assert all(scores.f1[image] > 0 for image in groups["best"])


def summarize(match_rows, objects, detections, image_index=0, min_score=0.3):
    matches = match_rows(objects, detections)
    scores = compute_image_scores(matches, min_score)
    return summarize_image(
        matches, classify_errors(matches), scores=scores, image_index=image_index, min_score=min_score
    )


@pytest.mark.parametrize(
    "detection, expected",
    [
        ((BIRD, 0.93, FAR), ["bird 0.93", "background"]),
        ((CAT, 0.8, OFF), ["cat 0.80", "box", "IoU 0.33"]),
        ((DOG, 0.8, BOX), ["dog 0.80", "class", "cat", "IoU 1.00"]),
        ((DOG, 0.8, OFF), ["dog 0.80", "class", "box", "cat", "IoU 0.33"]),
    ],
)
def test_false_positives_are_explained(detection, expected, match_rows):
    summary, lines = summarize(match_rows, [(11, CAT, BOX)], [(11, *detection)])
    assert re.match(r"F1 0\.00: 0 of 1 .* 1 false", summary)
    error, missed = lines
    assert all(part in error for part in expected)
    assert missed.endswith(": 1 × cat")


def test_summaries(match_rows):
    perfect, with_error, all_missed, empty = (
        summarize(match_rows, OBJECTS, DETECTIONS, image_index=image_index) for image_index in range(4)
    )
    assert re.match(r"F1 1\.00: 2 of 2 .* 0 false", perfect[0])
    assert perfect[1] == ["detected: 1 × cat, 1 × dog"]
    assert with_error[1][0].startswith("bird 0.95: ") and with_error[1][1:] == ["detected: 1 × cat"]
    assert re.match(r"F1 0\.00: 0 of 2 .* 0 false", all_missed[0])
    assert all_missed[1] == ["missed: 2 × bird"]
    assert "F1" not in empty[0] and empty[1] == []


def test_three_false_positives_at_most_are_listed(match_rows):
    detections = [(11, CAT, score, BOX) for score in (0.9, 0.8, 0.7, 0.6, 0.5)]
    summary, lines = summarize(match_rows, [(11, CAT, BOX)], detections)
    assert re.match(r"F1 0\.33: 1 of 1 .* 4 false", summary)
    *duplicates, detected = lines
    assert [line.partition(":")[0] for line in duplicates] == ["cat 0.80", "cat 0.70", "cat 0.60"]
    assert all("duplicate" in line for line in duplicates)
    assert detected == "detected: 1 × cat"


# --- pictures ---


def count_pixels(image, color):
    return int((image == color).all(axis=-1).sum())


@pytest.mark.parametrize(
    "size, drawn", [((96, 96), (480, 480)), ((30, 60), (240, 480)), ((600, 700), (600, 700)), ((800, 1600), (400, 800))]
)
def test_size_of_drawn_images(size, drawn, match_rows):
    result = draw_image_matches(match_rows([], []), 0, np.full((*size, 3), 128, np.uint8), min_score=0.3)
    assert result.shape == (*drawn, 3) and result.dtype == np.uint8 and (result == 128).all()


def test_positions_of_drawn_boxes(match_rows):
    image = np.zeros((96, 96, 3), np.uint8)
    matches = match_rows([(11, CAT, (50, 50, 40, 40))], [(11, DOG, 0.87, (10, 20, 20, 20))])
    result = draw_image_matches(matches, 0, image, min_score=0.3)
    assert image.max() == 0  # the input is not changed
    scale = 480 / 96
    rows, columns = np.nonzero((result == class_color(DOG)).all(axis=-1))
    # The first and last pixels of a line are half its width outside the box.
    assert (columns.min(), rows.max()) == (10 * scale - 1, 40 * scale)
    rows, columns = np.nonzero((result == 255).all(axis=-1) & (np.arange(480) >= 45 * scale))
    assert (columns.min(), rows.min()) == (50 * scale - 1, 50 * scale - 1)


def test_detections_below_min_score_are_not_drawn(match_rows):
    matches = match_rows(OBJECTS, DETECTIONS)
    pixels = np.zeros((96, 96, 3), np.uint8)
    assert not count_pixels(draw_image_matches(matches, 2, pixels, min_score=0.3), class_color(BIRD))
    assert count_pixels(draw_image_matches(matches, 2, pixels, min_score=0.2), class_color(BIRD)) > 100


def test_true_positives_among_many_detections_have_no_caption(match_rows):
    color = class_color(CAT)
    objects = [(11, CAT, (8 * k, 5, 6, 6)) for k in range(11)]
    boxes = [(11, CAT, 0.9, box) for _, _, box in objects]
    pixels = np.zeros((96, 96, 3), np.uint8)
    few = count_pixels(draw_image_matches(match_rows(objects, boxes[:10]), 0, pixels, min_score=0.3)[:250], color)
    many = count_pixels(draw_image_matches(match_rows(objects, boxes), 0, pixels, min_score=0.3)[:250], color)
    assert many < few / 2  # captions are filled with the colour
    false_positive = [(11, DOG, 0.5, (20, 60, 20, 20))]
    drawn = draw_image_matches(match_rows(objects, boxes + false_positive), 0, pixels, min_score=0.3)
    assert count_pixels(drawn, class_color(DOG)) > 600  # the outline is 100 wide and high, its lines 1: 396 pixels
    assert count_pixels(drawn[:250], color) == many


def test_missed_objects_are_named(match_rows):
    pixels = np.zeros((96, 96, 3), np.uint8)
    detected = draw_image_matches(match_rows([(11, CAT, BOX)], [(11, CAT, 0.9, BOX)]), 0, pixels, min_score=0.3)
    missed = draw_image_matches(match_rows([(11, CAT, BOX)], []), 0, pixels, min_score=0.3)
    below = slice(50 * 5 + 1, None)
    assert count_pixels(missed[below], (255, 255, 255)) > 100 and not detected[below].any()
