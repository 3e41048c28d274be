"""Which images are shown, how they are drawn, and what is said of them."""

import numpy as np
import pytest

from ssd.evaluation.report.error_analysis import find_errors
from ssd.evaluation.report.gallery import choose_images, describe, draw_match, score_images
from ssd.inference.drawing import class_color

CAT, DOG, BIRD = 1, 2, 3
CLASSES = ("background", "cat", "dog", "bird")
BOX, FAR = (10, 10, 40, 40), (60, 60, 30, 30)
OFF = (30, 10, 40, 40)  # IoU 1/3 with BOX
# Image 11 is perfect, 12 has a confident mistake, 13 finds nothing, 14 is empty.
OBJECTS = [(11, CAT, BOX), (11, DOG, FAR), (12, CAT, BOX), (13, BIRD, BOX), (13, BIRD, FAR)]
DETECTIONS = [
    (11, CAT, 0.9, BOX),
    (11, DOG, 0.8, FAR),
    (12, CAT, 0.7, BOX),
    (12, BIRD, 0.95, FAR),
    (13, BIRD, 0.2, BOX),
]


def test_scores_of_images(match_rows):
    scores = score_images(match_rows(OBJECTS, DETECTIONS), 0.3)
    assert scores.found.tolist() == [2, 1, 0, 0]
    assert scores.false.tolist() == [0, 1, 0, 0]
    assert scores.missed.tolist() == [0, 0, 2, 0]  # the bird of score 0.2 is not seen
    assert scores.f1.tolist() == pytest.approx([1, 2 / 3, 0, 1])
    assert scores.worst_mistake.tolist() == pytest.approx([0, 0.95, 0, 0])


def test_groups_show_what_they_say(match_rows):
    scores = score_images(match_rows(OBJECTS, DETECTIONS), 0.3)
    assert choose_images(scores, np.arange(4), 1) == {"mistakes": [1], "worst": [2], "best": [0]}
    # Of four images, two a group at most; the empty one is as good as the perfect one, and tells less.
    assert choose_images(scores, np.arange(4)) == {"mistakes": [1], "worst": [2], "best": [0, 3]}
    assert choose_images(scores, np.array([2, 3])) == {"mistakes": [], "worst": [2], "best": [3]}
    assert choose_images(scores, np.arange(0)) == {"mistakes": [], "worst": [], "best": []}


@pytest.mark.parametrize("min_score", [0.0, 0.3, 1.0])
def test_no_image_comes_twice(min_score, random_rows, match_rows):
    images = range(11, 61)
    objects, detections = random_rows(3)
    rng = np.random.default_rng(0)
    objects = [(int(rng.choice(images)), *row[1:]) for row in objects]
    detections = [(int(rng.choice(images)), *row[1:]) for row in detections]
    scores = score_images(match_rows(objects, detections, image_ids=images), min_score)
    groups = choose_images(scores, np.arange(50))
    chosen = [image for group in groups.values() for image in group]
    assert len(chosen) == len(set(chosen)) <= 18
    assert len(groups["worst"]) == 6 and max(map(len, groups.values())) == 6
    assert all(scores.worst_mistake[image] > 0 for image in groups["mistakes"])
    assert all(scores.f1[image] > 0 for image in groups["best"])


def said(match_rows, objects, detections, image=0, min_score=0.3):
    matches = match_rows(objects, detections)
    return describe(matches, find_errors(matches), score_images(matches, min_score), image, min_score)


@pytest.mark.parametrize(
    "detection, words",
    [
        ((BIRD, 0.93, FAR), "bird 0.93 where nothing is annotated"),
        ((CAT, 0.8, OFF), "cat 0.80 out of place on an annotated cat (IoU 0.33)"),
        ((DOG, 0.8, BOX), "dog 0.80 on what is annotated as cat (IoU 1.00)"),
        ((DOG, 0.8, OFF), "dog 0.80 next to what is annotated as cat (IoU 0.33)"),
    ],
)
def test_mistakes_in_words(detection, words, match_rows):
    summary, lines = said(match_rows, [(11, CAT, BOX)], [(11, *detection)])
    assert summary == "F1 0.00: 0 of 1 objects found, 1 false"
    assert lines == [words, "not found: 1 × cat"]


def test_what_is_right_in_words(match_rows):
    perfect, mistaken, blind, empty = (said(match_rows, OBJECTS, DETECTIONS, image) for image in range(4))
    assert perfect == ("F1 1.00: 2 of 2 objects found, 0 false", ["found: 1 × cat, 1 × dog"])
    assert mistaken[1] == ["bird 0.95 where nothing is annotated", "found: 1 × cat"]
    assert blind == ("F1 0.00: 0 of 2 objects found, 0 false", ["not found: 2 × bird"])
    assert empty == ("Nothing is annotated here, and nothing is detected", [])


def test_a_duplicate_in_words_and_three_mistakes_at_most(match_rows):
    detections = [(11, CAT, score, BOX) for score in (0.9, 0.8, 0.7, 0.6, 0.5)]
    summary, lines = said(match_rows, [(11, CAT, BOX)], detections)
    assert summary == "F1 0.33: 1 of 1 objects found, 4 false"
    once_more = "once more on an object that is already found"
    assert lines == [f"cat 0.80 {once_more}", f"cat 0.70 {once_more}", f"cat 0.60 {once_more}", "found: 1 × cat"]


# --- pictures ---


def count(image, color):
    return int((image == color).all(axis=-1).sum())


@pytest.mark.parametrize(
    "size, drawn", [((96, 96), (480, 480)), ((30, 60), (240, 480)), ((600, 700), (600, 700)), ((800, 1600), (400, 800))]
)
def test_images_are_drawn_in_a_readable_size(size, drawn, match_rows):
    result = draw_match(match_rows([], []), 0, np.full((*size, 3), 128, np.uint8), 0.3)
    assert result.shape == (*drawn, 3) and result.dtype == np.uint8 and (result == 128).all()


def test_boxes_are_drawn_where_they_are(match_rows):
    image = np.zeros((96, 96, 3), np.uint8)
    matches = match_rows([(11, CAT, (50, 50, 40, 40))], [(11, DOG, 0.87, (10, 20, 20, 20))])
    result = draw_match(matches, 0, image, 0.3)
    assert image.max() == 0  # the given image is as it was
    scale = 480 / 96
    rows, columns = np.nonzero((result == class_color(DOG)).all(axis=-1))
    assert (columns.min(), rows.max()) == (10 * scale, 40 * scale - 1)
    rows, columns = np.nonzero((result == 255).all(axis=-1) & (np.arange(480) >= 45 * scale))
    assert (columns.min(), rows.min()) == (50 * scale, 50 * scale)


def test_detections_below_the_score_are_not_drawn(match_rows):
    matches = match_rows(OBJECTS, DETECTIONS)
    pixels = np.zeros((96, 96, 3), np.uint8)
    assert not count(draw_match(matches, 2, pixels, 0.3), class_color(BIRD))
    assert count(draw_match(matches, 2, pixels, 0.2), class_color(BIRD)) > 100


def test_right_detections_of_a_full_picture_have_no_caption(match_rows):
    color = class_color(CAT)
    objects = [(11, CAT, (8 * k, 5, 6, 6)) for k in range(11)]
    boxes = [(11, CAT, 0.9, box) for _, _, box in objects]
    pixels = np.zeros((96, 96, 3), np.uint8)
    few = count(draw_match(match_rows(objects, boxes[:10]), 0, pixels, 0.3)[:250], color)
    many = count(draw_match(match_rows(objects, boxes), 0, pixels, 0.3)[:250], color)
    assert many < few / 2  # captions are filled with the colour
    wrong = [(11, DOG, 0.5, (20, 60, 20, 20))]
    drawn = draw_match(match_rows(objects, boxes + wrong), 0, pixels, 0.3)
    assert count(drawn, class_color(DOG)) > 600  # the outline is 100 wide and high, its lines 1: 396 pixels
    assert count(drawn[:250], color) == many


def test_an_object_that_is_not_found_has_its_name(match_rows):
    pixels = np.zeros((96, 96, 3), np.uint8)
    found = draw_match(match_rows([(11, CAT, BOX)], [(11, CAT, 0.9, BOX)]), 0, pixels, 0.3)
    missed = draw_match(match_rows([(11, CAT, BOX)], []), 0, pixels, 0.3)
    below = slice(50 * 5 + 1, None)
    assert count(missed[below], (255, 255, 255)) > 100 and not found[below].any()
