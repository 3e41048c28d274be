"""Captions of drawn boxes: text, place, contrast and fonts."""

import numpy as np
import pytest

from drawn_boxes import CLASSES, GREY, blank, draw_one, luminance, mask_of
from ssd.inference import caption_text, drawing
from ssd.inference.drawing import (
    DrawingStyle,
    class_color,
    draw_detections,
    draw_ground_truth,
)

SIZES = [(20, 20), (64, 48), (15, 1000), (24, 40000), (100, 1200), (1200, 100), (480, 640), (1500, 2000)]


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


def test_a_caption_has_class_name_and_score(captions):
    draw_one(blank(300, 300), (50, 50, 150, 150), score=0.876, label=2)
    ((place, text),) = captions
    assert text == "dog 0.88"
    assert place[0] == 49 and place[3] == 49  # on top of the line


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


def test_caption_text_contrasts_with_its_background():
    for label in range(1, 81):
        drawn = draw_one(blank(300, 300), (50, 50, 150, 290), label=label, classes=["MMMM"] * 81)
        values = [luminance(pixel) + 0.05 for pixel in np.unique(drawn[36:49, 50:100].reshape(-1, 3), axis=0)]
        assert max(values) / min(values) > 4, label
