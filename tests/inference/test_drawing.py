"""Drawing: what is drawn where, in which colour, with which words, and nothing beyond it."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ssd.inference import drawing
from ssd.inference.drawing import TRUTH_COLOR, class_color, draw_boxes, draw_detections, draw_truth

CLASSES = ("background", "cat", "dog", "bird")
GREY = (128, 128, 128)


def blank(height, width):
    return np.full((height, width, 3), GREY, np.uint8)


def changed(before, after):
    """(y0, x0, y1, x1) that holds all changed pixels, None if there are none."""
    rows, columns = np.nonzero((before != after).any(axis=2))
    return (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1) if len(rows) else None


def has(image, color):
    return (image == color).all(axis=2)


def draw_one(image, box, score=0.5, label=1, classes=CLASSES):
    return draw_detections(
        image, np.array([box], np.float32), np.array([score], np.float32), np.array([label], np.int32), classes
    )


@pytest.fixture
def written(monkeypatch):
    """Every (x0, y0, x1, y1) and text of a caption that is drawn."""
    captions = []
    write = drawing._write

    def note(draw, place, font, text, color):
        captions.append((place, text))
        write(draw, place, font, text, color)

    monkeypatch.setattr(drawing, "_write", note)
    return captions


# --- boxes ---


def test_a_box_is_where_it_should_be():
    image = blank(300, 300)
    drawn = draw_boxes(image, np.array([[50, 60, 150, 200]]), [()], [(255, 0, 0)])
    expected = image.copy()
    expected[49:151, 59:201] = 0  # a dark line around
    expected[50:150, 60:200] = (255, 0, 0)
    expected[51:149, 61:199] = GREY
    np.testing.assert_array_equal(drawn, expected)


def test_the_image_is_not_changed():
    image = blank(100, 100)
    image.setflags(write=False)
    drawn = draw_one(image, (10, 10, 60, 60))
    assert (image == 128).all() and not np.shares_memory(image, drawn)
    drawn[:] = 0  # and what comes back is the caller's


def test_nothing_found_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32)
    np.testing.assert_array_equal(draw_detections(image, *none, CLASSES), image)
    np.testing.assert_array_equal(draw_truth(image, none[0], none[2]), image)


def test_views_with_steps_are_drawn_on():
    image = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    turned = image[:, ::-1, ::-1]
    np.testing.assert_array_equal(
        draw_one(turned, (20, 20, 60, 60)), draw_one(np.ascontiguousarray(turned), (20, 20, 60, 60))
    )


@pytest.mark.parametrize(
    "box", [(-50, -50, 30, 30), (80, 80, 900, 900), (-10, -10, 200, 200), (-90, -90, -50, -50), (40, 40, 40, 40)]
)
def test_boxes_partly_or_wholly_outside_are_drawn_at_the_border(box):
    drawn = draw_one(blank(100, 100), box, classes=CLASSES)
    assert has(drawn, class_color(1)).any()


def test_lines_grow_with_the_image():
    for side, width in ((100, 1), (600, 2), (3000, 10)):
        box = (side // 4, side // 4, side // 2, side // 2)
        drawn = draw_boxes(blank(side, side), np.array([box]), [()], [(255, 0, 0)])
        assert has(drawn, (255, 0, 0))[side // 4 + side // 8].sum() == 2 * width


# --- colours ---


def test_a_class_has_its_colour_in_every_picture():
    for label in (1, 2, 3):
        alone = draw_one(blank(200, 200), (50, 50, 150, 150), label=label)
        assert has(alone, class_color(label)).sum() > 400
        among = draw_detections(
            blank(200, 400),
            np.array([[50, 50, 150, 150], [50, 250, 150, 350]]),
            np.array([0.5, 0.9]),
            np.array([label, 1]),
            CLASSES,
        )
        assert has(among, class_color(label)).sum() > 400


def test_classes_near_one_another_look_different():
    colors = np.array([class_color(label) for label in range(1, 81)], int)
    assert len({tuple(color) for color in colors.tolist()}) == 80
    for first, second in zip(colors, colors[1:]):
        assert np.abs(first - second).max() > 60
    assert class_color(1) == class_color(np.int32(1)) == (76, 124, 240)  # stays, so that pictures of other days compare


def test_the_best_is_on_top():
    boxes = np.array([[50, 50, 150, 150], [50, 50, 150, 150]])
    for scores, top in (((0.9, 0.2), 1), ((0.2, 0.9), 2)):
        drawn = draw_detections(blank(200, 200), boxes, np.array(scores), np.array([1, 2]), CLASSES)
        assert has(drawn, class_color(top))[100, 50]


def test_truth_is_white_and_named_below():
    image = blank(300, 300)
    box = np.array([[50, 50, 150, 150]])
    assert changed(image, draw_truth(image, box, np.array([1]))) == (49, 49, 151, 151)
    named = draw_truth(image, box, np.array([1]), CLASSES)
    assert has(named, TRUTH_COLOR)[151:165, 55:70].mean() > 0.5
    assert not has(named, TRUTH_COLOR)[30:49].any()


# --- captions ---


def test_a_caption_names_class_and_score(written):
    draw_one(blank(300, 300), (50, 50, 150, 150), score=0.876, label=2)
    ((place, text),) = written
    assert text == "dog 0.88"
    assert place[0] == 50 and place[3] == 50  # stands on the box


@pytest.mark.parametrize("label", range(1, 20))
def test_a_caption_contrasts_with_its_colour(label):
    drawn = draw_one(blank(300, 300), (50, 50, 150, 290), label=label, classes=["MMMM"] * 20)
    caption = drawn[20:49, 50:110].reshape(-1, 3)
    luma = caption[(caption != GREY).any(axis=1)] @ [0.299, 0.587, 0.114]
    assert luma.max() - luma.min() > 80


SIZES = [(20, 20), (64, 48), (15, 1000), (24, 40000), (100, 1200), (1200, 100), (480, 640), (1500, 2000)]


@pytest.mark.parametrize("height, width", SIZES)
@pytest.mark.parametrize("name", ["cat", "a name longer than every image is wide " * 8])
def test_captions_stay_inside_and_can_be_read(height, width, name, written):
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(-0.2, 1.2, (40, 2, 2)), axis=1) * (height, width)
    image = draw_detections(
        blank(height, width), corners.reshape(40, 4), rng.random(40), np.ones(40, int), ["background", name]
    )
    assert image.shape == (height, width, 3)
    for (x0, y0, x1, y1), text in written:
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
        assert y1 - y0 >= 11 and (text.startswith(name[:2]) or text.startswith(name[:1] + "…"))
    assert written or (height, width) == (20, 20)  # where no letter has room


def test_a_caption_at_every_border_is_whole(written):
    for box in ((0, 0, 20, 20), (0, 280, 20, 300), (280, 0, 300, 20), (280, 280, 300, 300), (0, 0, 300, 300)):
        written.clear()
        draw_one(blank(300, 300), box)
        (((x0, y0, x1, y1), text),) = written
        assert text == "cat 0.50" and 0 <= x0 < x1 <= 300 and 0 <= y0 < y1 <= 300
        assert min(abs(y1 - box[0]), abs(y0 - box[0]), abs(y0 - box[2]), abs(y1 - box[2])) <= 1  # touches its box


def test_captions_keep_clear_of_one_another(written):
    boxes = np.array([[100, 100, 300, 300], [104, 104, 304, 304], [98, 96, 296, 298]])
    draw_detections(blank(480, 640), boxes, np.array([0.9, 0.8, 0.7]), np.array([1, 2, 3]), CLASSES)
    assert sorted(text for _, text in written) == ["bird 0.70", "cat 0.90", "dog 0.80"]
    places = [place for place, _ in written]
    for i, first in enumerate(places):
        for second in places[i + 1 :]:
            assert drawing._overlap(first, second) == 0


def test_of_captions_in_one_place_the_best_are_left(written):
    many = 200
    boxes = np.tile([[20, 20, 60, 60]], (many, 1))
    drawn = draw_detections(blank(100, 100), boxes, np.linspace(0.1, 0.9, many), np.ones(many, int), CLASSES)
    assert written[-1][1] == "cat 0.90" and 1 <= len(written) < 10
    assert (drawn == GREY).all(axis=2).mean() > 0.4  # one still sees the image


def test_lines_do_not_cross_captions(written):
    boxes = np.array([[100, 100, 200, 300], [60, 120, 180, 280]])
    drawn = draw_detections(blank(400, 400), boxes, np.array([0.5, 0.9]), np.array([1, 2]), CLASSES)
    (x0, y0, x1, y1), _ = next(caption for caption in written if caption[1].startswith("cat"))
    assert not has(drawn, class_color(2))[y0:y1, x0:x1].any()


def test_a_long_name_is_cut_and_keeps_its_score(written):
    draw_one(blank(480, 640), (200, 200, 400, 400), score=0.5, classes=["background", "antidisestablishment" * 5])
    ((place, text),) = written
    assert text.startswith("antidis") and text.endswith("… 0.50")
    assert place[2] - place[0] <= 640 / 3


def test_line_breaks_in_a_name_are_spaces(written):
    draw_one(blank(300, 300), (50, 50, 150, 150), classes=["background", " red\n\tcell "])
    assert written[0][1] == "red cell 0.50"


def test_names_in_other_letters(written):
    for name in ("Zürich", "кошка", "γάτα"):  # which our own font has
        draw_one(blank(300, 300), (50, 50, 150, 150), classes=["background", name])
    assert [text for _, text in written] == ["Zürich 0.50", "кошка 0.50", "γάτα 0.50"]


def test_a_name_that_no_font_can_write_becomes_the_class_s_number(written, monkeypatch):
    from matplotlib import font_manager

    monkeypatch.setattr(font_manager.fontManager, "ttflist", [])  # a machine without Chinese fonts
    drawing._font_with.cache_clear()
    draw_one(blank(300, 300), (50, 50, 150, 150), label=2, classes=["background", "cat", "猫"])
    draw_truth(blank(300, 300), np.array([[50, 50, 150, 150]]), np.array([2]), ["background", "cat", "猫"])
    drawing._font_with.cache_clear()
    assert [text for _, text in written] == ["class 2 0.50", "class 2"]


def test_a_font_that_has_the_letters_is_found(monkeypatch):
    from matplotlib import font_manager

    symbols = str(Path(drawing._our_font()).with_name("STIXGeneral.ttf"))  # another that comes with matplotlib
    last_resort = SimpleNamespace(name="Last Resort High-Efficiency", fname="/nowhere/last.ttf")
    fonts = [last_resort, SimpleNamespace(name="broken", fname="/nowhere"), SimpleNamespace(name="x", fname=symbols)]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", fonts)
    drawing._font_with.cache_clear()
    letter = next(letter for letter in _letters_of(symbols) if letter not in _letters_of(drawing._our_font()))
    assert drawing._font_with(frozenset(letter)) == symbols
    drawing._font_with.cache_clear()


def _letters_of(path):
    from matplotlib import ft2font

    return {chr(code): None for code in sorted(ft2font.FT2Font(path).get_charmap())}
