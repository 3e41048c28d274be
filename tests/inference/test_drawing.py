"""Positions, colours and captions of drawn boxes; nothing is drawn outside of the image."""

import numpy as np
import pytest

from ssd.inference import caption_text, drawing
from ssd.inference.drawing import (
    GROUND_TRUTH_COLOR,
    DrawingStyle,
    class_color,
    draw_boxes,
    draw_detections,
    draw_ground_truth,
)

CLASSES = ("background", "cat", "dog", "bird")
GREY = (128, 128, 128)


def blank(height, width):
    return np.full((height, width, 3), GREY, np.uint8)


def changed_region(before, after):
    """Return (y0, x0, y1, x1) of the smallest rectangle with all changed pixels, None if there are none."""
    rows, columns = np.nonzero((before != after).any(axis=2))
    return (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1) if len(rows) else None


def mask_of(image, color):
    """Return an (H, W) bool mask of the pixels of a colour."""
    return (image == color).all(axis=2)


def draw_one(image, box, score=0.5, label=1, classes=CLASSES):
    return draw_detections(
        image,
        boxes_yxyx=np.array([box], np.float32),
        scores=np.array([score], np.float32),
        labels=np.array([label], np.int32),
        classes=classes,
    )


@pytest.fixture
def captions(monkeypatch):
    """List of (rectangle x0, y0, x1, y1; text) of each caption that is drawn."""
    drawn_captions = []
    draw_caption = drawing._draw_caption

    def record(draw, *, place, text, **style):
        drawn_captions.append((place, text))
        draw_caption(draw, place=place, text=text, **style)

    monkeypatch.setattr(drawing, "_draw_caption", record)
    return drawn_captions


# --- boxes ---


def test_a_line_is_centered_on_the_edge_of_its_box_between_shadows():
    image = blank(300, 300)
    drawn = draw_boxes(image, np.array([[50, 60, 150, 200]]), captions=[()], colors=[(255, 0, 0)])
    expected = image.copy()
    expected[48:152, 58:202] = 86  # the outer shadow: 128 - 128 // 3
    expected[49:151, 59:201] = (255, 0, 0)
    expected[51:149, 61:199] = 86  # the inner shadow
    expected[52:148, 62:198] = GREY
    np.testing.assert_array_equal(drawn, expected)


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


def luminance(pixel):
    """Return the relative luminance of an sRGB pixel, as WCAG 2 defines it."""
    value = pixel / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


# --- colours ---


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


# --- captions ---


def test_a_caption_has_class_name_and_score(captions):
    draw_one(blank(300, 300), (50, 50, 150, 150), score=0.876, label=2)
    ((place, text),) = captions
    assert text == "dog 0.88"
    assert place[0] == 49 and place[3] == 49  # on top of the line


def test_caption_text_contrasts_with_its_background():
    for label in range(1, 81):
        drawn = draw_one(blank(300, 300), (50, 50, 150, 290), label=label, classes=["MMMM"] * 81)
        values = [luminance(pixel) + 0.05 for pixel in np.unique(drawn[36:49, 50:100].reshape(-1, 3), axis=0)]
        assert max(values) / min(values) > 4, label


SIZES = [(20, 20), (64, 48), (15, 1000), (24, 40000), (100, 1200), (1200, 100), (480, 640), (1500, 2000)]


@pytest.mark.parametrize("height, width", SIZES)
@pytest.mark.parametrize("name", ["cat", "a name longer than every image is wide " * 8])
def test_captions_stay_inside_the_image_and_readable(height, width, name, captions):
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(-0.2, 1.2, (40, 2, 2)), axis=1) * (height, width)
    image = draw_detections(
        blank(height, width),
        boxes_yxyx=corners.reshape(40, 4),
        scores=rng.random(40),
        labels=np.ones(40, int),
        classes=["background", name],
    )
    assert image.shape == (height, width, 3)
    for (x0, y0, x1, y1), text in captions:
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
        assert y1 - y0 >= 11 and (text.startswith(name[:2]) or text.startswith(name[:1] + "…"))
    assert captions or (height, width) == (20, 20)  # too small for any character


def test_captions_at_every_border_are_complete(captions):
    for box in ((0, 0, 20, 20), (0, 280, 20, 300), (280, 0, 300, 20), (280, 280, 300, 300), (0, 0, 300, 300)):
        captions.clear()
        draw_one(blank(300, 300), box)
        (((x0, y0, x1, y1), text),) = captions
        assert text == "cat 0.50" and 0 <= x0 < x1 <= 300 and 0 <= y0 < y1 <= 300
        assert min(abs(y - box_y) for y in (y0, y1) for box_y in (box[0], box[2])) <= 1  # touches its box


def test_captions_do_not_overlap(captions):
    boxes = np.array([[100, 100, 300, 300], [104, 104, 304, 304], [98, 96, 296, 298]])
    scores, labels = np.array([0.9, 0.8, 0.7]), np.array([1, 2, 3])
    draw_detections(blank(480, 640), boxes, scores=scores, labels=labels, classes=CLASSES)
    assert sorted(text for _, text in captions) == ["bird 0.70", "cat 0.90", "dog 0.80"]
    places = [place for place, _ in captions]
    for i, first in enumerate(places):
        for second in places[i + 1 :]:
            assert drawing._intersection_area(first, second) == 0


def test_captions_with_the_highest_scores_win_a_crowded_place(captions):
    count = 200
    boxes = np.tile([[20, 20, 60, 60]], (count, 1))
    scores, labels = np.linspace(0.1, 0.9, count), np.ones(count, int)
    drawn = draw_detections(blank(100, 100), boxes, scores=scores, labels=labels, classes=CLASSES)
    assert captions[-1][1] == "cat 0.90" and 1 <= len(captions) < 10
    assert (drawn == GREY).all(axis=2).mean() > 0.4  # most of the image stays visible


def test_captions_are_drawn_over_lines(captions):
    boxes = np.array([[100, 100, 200, 300], [60, 120, 180, 280]])
    scores, labels = np.array([0.5, 0.9]), np.array([1, 2])
    drawn = draw_detections(blank(400, 400), boxes, scores=scores, labels=labels, classes=CLASSES)
    (x0, y0, x1, y1), _ = next(caption for caption in captions if caption[1].startswith("cat"))
    assert not mask_of(drawn, class_color(2))[y0:y1, x0:x1].any()


def test_a_long_name_is_shortened_and_its_score_stays(captions):
    draw_one(blank(480, 640), (200, 200, 400, 400), score=0.5, classes=["background", "antidisestablishment" * 5])
    ((place, text),) = captions
    assert text.startswith("antidis") and text.endswith("… 0.50")
    assert place[2] - place[0] <= 640 / 3


def test_line_breaks_in_a_name_become_spaces(captions):
    draw_one(blank(300, 300), (50, 50, 150, 150), classes=["background", " red\n\tcell "])
    assert captions[0][1] == "red cell 0.50"


def test_names_in_other_scripts_are_drawn(captions):
    for name in ("Zürich", "кошка", "γάτα"):  # the default font has their characters
        draw_one(blank(300, 300), (50, 50, 150, 150), classes=["background", name])
    assert [text for _, text in captions] == ["Zürich 0.50", "кошка 0.50", "γάτα 0.50"]


def test_a_name_without_a_font_is_replaced_by_its_class_index(captions, monkeypatch):
    from matplotlib import font_manager

    monkeypatch.setattr(font_manager.fontManager, "ttflist", [])  # a machine without Chinese fonts
    caption_text._find_font.cache_clear()
    draw_one(blank(300, 300), (50, 50, 150, 150), label=2, classes=["background", "cat", "猫"])
    draw_ground_truth(
        blank(300, 300), np.array([[50, 50, 150, 150]]), labels=np.array([2]), classes=["background", "cat", "猫"]
    )
    caption_text._find_font.cache_clear()
    assert [text for _, text in captions] == ["class 2 0.50", "class 2"]


# --- styles and track ids ---


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


def test_captions_can_be_left_out(captions):
    image = blank(120, 160)
    boxes, scores, labels = np.float32([[40, 20, 80, 60]]), np.float32([0.5]), np.int32([1])
    style = DrawingStyle(has_captions=False)
    drawn = draw_detections(image, boxes, scores, labels=labels, classes=CLASSES, style=style)
    assert captions == [] and (drawn != image).any()


def test_captions_have_track_ids(captions):
    draw_detections(
        blank(300, 400),
        boxes_yxyx=np.float32([[40, 20, 80, 60], [140, 120, 180, 160]]),
        scores=np.float32([0.5, 0.75]),
        labels=np.int32([1, 2]),
        classes=CLASSES,
        track_ids=np.array([12, 0]),
    )
    assert [text for _, text in captions] == ["cat #12 0.50", "dog 0.75"]
