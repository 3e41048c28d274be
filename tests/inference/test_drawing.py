"""Positions and colours of drawn boxes; nothing is drawn outside of the image."""

import numpy as np
import pytest

from drawn_boxes import CLASSES, GREY, blank, changed_region, draw_one, luminance, mask_of
from ssd.inference.drawing import (
    GROUND_TRUTH_COLOR,
    DrawingStyle,
    class_color,
    draw_boxes,
    draw_detections,
    draw_ground_truth,
)


def test_the_input_image_is_not_modified():
    image = blank(100, 100)
    image.setflags(write=False)
    drawn = draw_one(image, (10, 10, 60, 60))
    assert (image == 128).all() and not np.shares_memory(image, drawn)
    drawn[:] = 0  # the result is writable


def test_without_boxes_the_image_stays_the_same():
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    boxes, scores, labels = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32)
    drawn = draw_detections(image, boxes, scores=scores, labels=labels, classes=CLASSES)
    np.testing.assert_array_equal(drawn, image)
    np.testing.assert_array_equal(draw_ground_truth(image, boxes, labels), image)


def test_non_contiguous_images_are_supported():
    image = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    flipped = image[:, ::-1, ::-1]
    np.testing.assert_array_equal(
        draw_one(flipped, (20, 20, 60, 60)), draw_one(np.ascontiguousarray(flipped), (20, 20, 60, 60))
    )


@pytest.mark.parametrize(
    "box", [(-50, -50, 30, 30), (80, 80, 900, 900), (-10, -10, 200, 200), (-90, -90, -50, -50), (40, 40, 40, 40)]
)
def test_boxes_outside_the_image_are_clipped_to_its_border(box):
    drawn = draw_one(blank(100, 100), box, classes=CLASSES)
    assert mask_of(drawn, class_color(1)).any()


def test_a_class_has_the_same_colour_in_every_image():
    for label in (1, 2, 3):
        alone = draw_one(blank(200, 200), (50, 50, 150, 150), label=label)
        assert mask_of(alone, class_color(label)).sum() > 400
        two_boxes = draw_detections(
            blank(200, 400),
            boxes_yxyx=np.array([[50, 50, 150, 150], [50, 250, 150, 350]]),
            scores=np.array([0.5, 0.9]),
            labels=np.array([label, 1]),
            classes=CLASSES,
        )
        assert mask_of(two_boxes, class_color(label)).sum() > 400


def test_neighbouring_classes_have_different_colours():
    colors = np.array([class_color(label) for label in range(1, 81)], int)
    assert len({tuple(color) for color in colors.tolist()}) == 80
    for first, second in zip(colors, colors[1:]):
        assert np.abs(first - second).max() > 60
    assert class_color(1) == class_color(np.int32(1)) == (50, 110, 255)  # fixed, so that old images stay comparable


def test_the_highest_score_is_drawn_on_top():
    boxes = np.array([[50, 50, 150, 150], [50, 50, 150, 150]])
    for scores, top in (((0.9, 0.2), 1), ((0.2, 0.9), 2)):
        drawn = draw_detections(
            blank(200, 200), boxes, scores=np.array(scores), labels=np.array([1, 2]), classes=CLASSES
        )
        assert mask_of(drawn, class_color(top))[100, 50]


def test_ground_truth_is_white_with_names_below():
    image = blank(300, 300)
    box = np.array([[50, 50, 150, 150]])
    assert changed_region(image, draw_ground_truth(image, box, np.array([1]))) == (48, 48, 152, 152)
    named = draw_ground_truth(image, box, np.array([1]), classes=CLASSES)
    assert mask_of(named, GROUND_TRUTH_COLOR)[151:165, 55:70].mean() > 0.5
    assert not mask_of(named, GROUND_TRUTH_COLOR)[30:48].any()


def test_a_line_is_centered_on_the_edge_of_its_box_between_shadows():
    image = blank(300, 300)
    drawn = draw_boxes(image, np.array([[50, 60, 150, 200]]), captions=[()], colors=[(255, 0, 0)])
    expected = image.copy()
    expected[48:152, 58:202] = 86  # the outer shadow: 128 - 128 // 3
    expected[49:151, 59:201] = (255, 0, 0)
    expected[51:149, 61:199] = 86  # the inner shadow
    expected[52:148, 62:198] = GREY
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("box", [(10, 10, 10, 10), (10, 10, 11, 40), (0, 0, 3, 3), (97, 97, 100, 100)])
def test_the_smallest_boxes_have_a_line(box):
    drawn = draw_boxes(blank(100, 100), np.array([box]), captions=[()], colors=[(255, 0, 0)])
    assert mask_of(drawn, (255, 0, 0)).sum() >= 4


def test_a_box_that_covers_the_image_has_a_complete_line():
    drawn = draw_boxes(blank(60, 80), np.array([[0, 0, 60, 80]]), captions=[()], colors=[(255, 0, 0)])
    line = mask_of(drawn, (255, 0, 0))
    assert line[:2].all() and line[-2:].all() and line[:, :2].all() and line[:, -2:].all() and line.sum() == 544


def test_lines_have_2_pixels_and_more_in_large_images():
    for side, width in ((100, 2), (320, 2), (660, 3), (3000, 14)):
        box = (side // 4, side // 4, side // 2, side // 2)
        drawn = draw_boxes(blank(side, side), np.array([box]), captions=[()], colors=[(255, 0, 0)])
        assert mask_of(drawn, (255, 0, 0))[side // 4 + side // 8].sum() == 2 * width


@pytest.mark.parametrize("background", [0, 40, 128, 215, 255])
def test_lines_are_visible_on_dark_and_bright_images(background):
    """The line or its shadow has a contrast of 1.6 to the image, and the line is in the color of its class."""
    image = np.full((320, 320, 3), background, np.uint8)
    for label in range(1, 81):
        drawn = draw_boxes(image, np.array([[50, 60, 150, 200]]), captions=[()], colors=[class_color(label)])
        assert (drawn[49:51, 100] == class_color(label)).all()
        line, shadow, around = (luminance(drawn[row, 100]) + 0.05 for row in (49, 48, 10))
        assert max(line / around, around / line, around / shadow) > 1.6, label


@pytest.mark.parametrize("line_width", [1, 5])
def test_lines_have_the_requested_width(line_width):
    drawn = draw_detections(
        blank(100, 100),
        boxes_yxyx=np.float32([[40, 20, 80, 60]]),
        scores=np.float32([0.5]),
        labels=np.int32([1]),
        classes=CLASSES,
        style=DrawingStyle(line_width=line_width, has_captions=False),
    )
    row = mask_of(drawn, class_color(1))[60]
    assert row[:40].sum() == row[40:].sum() == line_width
