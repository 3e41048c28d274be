"""Boxes and captions drawn on images: readable at any size, never outside of the image, in a colour for each class."""

from __future__ import annotations

import bisect
import colorsys
import functools
import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TRUTH_COLOR = (255, 255, 255)
_GOLDEN = 0.6180339887  # steps of this part of a turn keep any number of hues apart
_SMALLEST_TEXT = 8  # pixels; what is smaller cannot be read
_MARGIN = 2  # pixels left and right of a caption's text


def class_color(label: int) -> tuple[int, int, int]:
    """RGB of a class index, the same in every picture, table and chart."""
    lightness = (0.45, 0.62, 0.34)[label % 3]
    return tuple(round(255 * value) for value in colorsys.hls_to_rgb(label * _GOLDEN % 1, lightness, 0.85))


def draw_detections(
    image: np.ndarray, boxes_yxyx: np.ndarray, scores: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> np.ndarray:
    """Draw detections, the best on top -> a new image.

    image: (H, W, 3) uint8 RGB; boxes_yxyx: (D, 4) pixels; scores: (D,); labels: (D,); classes: names by label, of
    which those that no font of this machine can write are shown as `class 3`
    """
    order = np.argsort(scores, kind="stable")
    captions = [(_legible(classes[labels[i]], labels[i]), f"{scores[i]:.2f}") for i in order]
    return draw_boxes(image, boxes_yxyx[order], captions, [class_color(int(labels[i])) for i in order])


def draw_truth(
    image: np.ndarray, boxes_yxyx: np.ndarray, labels: np.ndarray, classes: Sequence[str] | None = None
) -> np.ndarray:
    """Draw annotated objects in white, named below their box if `classes` are given -> a new image."""
    captions = [(_legible(classes[label], label),) if classes else () for label in labels]
    return draw_boxes(image, boxes_yxyx, captions, [TRUTH_COLOR] * len(captions), below=True)


def draw_boxes(
    image: np.ndarray,
    boxes_yxyx: np.ndarray,
    captions: Sequence[Sequence[str]],
    colors: Sequence[tuple[int, int, int]],
    below: bool = False,
) -> np.ndarray:
    """Draw boxes with captions in the given order, the captions above all boxes -> a new image.

    captions: the words of each, the first a name that is cut short where there is no room; below: captions go under
    their boxes if they can
    """
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    size = picture.size
    mean_side = math.sqrt(size[0] * size[1])
    width, edge = max(1, round(mean_side / 300)), round(mean_side / 1200 + 0.4)
    corners = [_inside(box, size) for box in np.asarray(boxes_yxyx).tolist()]
    for (x0, y0, x1, y1), color in zip(corners, colors):
        # A dark line around a coloured one is seen on bright and on dark images.
        if edge:
            draw.rectangle((x0 - edge, y0 - edge, x1 + edge, y1 + edge), outline=(0, 0, 0), width=edge)
        draw.rectangle((x0, y0, x1, y1), outline=color, width=width)
    _draw_captions(draw, size, corners, captions, colors, below)
    return np.array(picture)


def _draw_captions(draw: ImageDraw.ImageDraw, size: tuple[int, int], corners, captions, colors, below: bool) -> None:
    """Write what can be read: the last first, as long as they leave half of the picture and one another free."""
    pixels = min(max(11, round(math.sqrt(size[0] * size[1]) / 42)), int(0.85 * (size[1] - 4)))
    room = min(size[0], max(size[0] // 3, 10 * pixels))
    placed, free = [], size[0] * size[1] / 2
    for box, words, color in reversed(list(zip(corners, captions, colors))):
        font, text = _fit(words, pixels, room)
        wide, high = _text_size(font, text) if text else (0, 0)
        if not text or high > size[1] or wide * high > free:
            continue
        place, hidden = _place(box, (wide, high), size, below, [other for other, *_ in placed])
        if hidden <= wide * high / 2:
            placed.append((place, font, text, color))
            free -= wide * high
    for place, font, text, color in reversed(placed):
        _write(draw, place, font, text, color)


def _inside(box_yxyx: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Corner pixels x0, y0, x1, y1 of a box, within an image of `size` (width, height)."""
    y0, x0, y1, x1 = box_yxyx
    width, height = size
    x0, y0 = (min(max(round(value), 0), side - 1) for value, side in ((x0, width), (y0, height)))
    x1, y1 = (min(max(round(value) - 1, low), side - 1) for value, low, side in ((x1, x0, width), (y1, y0, height)))
    return x0, y0, x1, y1


def _place(corners, text_size, size, below: bool, others) -> tuple[tuple[int, int, int, int], int]:
    """The rectangle x0, y0, x1, y1 of a caption: at its box, in the image, and where the fewest of its pixels, which
    are given too, lie on `others`."""
    (x0, y0, x1, y1), (wide, high), (width, height) = corners, text_size, size
    above, top, bottom, under = y0 - high, y0, y1 + 1 - high, y1 + 1
    rows = (under, bottom, above, top) if below else (above, top, under, bottom)
    places = [(x, y) for y in rows for x in (x0, x1 + 1 - wide)]
    inside = [(x, y) for x, y in places if 0 <= x <= width - wide and 0 <= y <= height - high]
    # Of a box at the border, or one larger than the image but narrower than its name, the place is moved inwards.
    inside = inside or [(min(max(x, 0), width - wide), min(max(y, 0), height - high)) for x, y in places]
    rectangles = [(x, y, x + wide, y + high) for x, y in inside]
    hidden = [sum(_overlap(rectangle, other) for other in others) for rectangle in rectangles]
    return rectangles[hidden.index(min(hidden))], min(hidden)


def _overlap(first, second) -> int:
    """Pixels that two rectangles share."""
    wide = min(first[2], second[2]) - max(first[0], second[0])
    high = min(first[3], second[3]) - max(first[1], second[1])
    return max(wide, 0) * max(high, 0)


def _write(draw: ImageDraw.ImageDraw, place, font, text: str, color) -> None:
    x0, y0, x1, y1 = place
    draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill=color)
    brightness = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]  # luma of ITU-R BT.601
    draw.text((x0 + _MARGIN, y0 + 1), text, font=font, fill=(0, 0, 0) if brightness > 140 else (255, 255, 255))


def _fit(words: Sequence[str], pixels: int, width: int) -> tuple[ImageFont.FreeTypeFont | None, str]:
    """The font, and what of the words has room: all, the first of them cut short, it alone, or some of its letters."""
    if not words or pixels < _SMALLEST_TEXT:
        return None, ""
    font = _load_font(_font_with(_letters("".join(words))) or _our_font(), pixels)
    name, *rest = words
    for shown, fewest in ((rest, 6), ([], 1)):

        def wide(letters: int) -> int:
            return _text_size(font, _shorten(name, letters, shown))[0]

        whole = wide(len(name)) <= width
        letters = len(name) if whole else bisect.bisect_right(range(len(name)), width, key=wide) - 1
        if letters >= min(fewest, len(name)):
            return font, _shorten(name, letters, shown)
    return font, ""


def _shorten(name: str, letters: int, rest: Sequence[str]) -> str:
    return " ".join([name if letters == len(name) else f"{name[:letters]}…", *rest])


def _text_size(font: ImageFont.FreeTypeFont, text: str) -> tuple[int, int]:
    """(width, height) in pixels of a caption with its margins."""
    ascent, descent = font.getmetrics()
    return math.ceil(font.getlength(text)) + 2 * _MARGIN, ascent + descent + 2


def _legible(name: str, label: int) -> str:
    """A class name in one line; its number, if its letters are in no font."""
    name = " ".join(name.split())
    return name if name and _font_with(_letters(name)) else f"class {label}"


def _letters(text: str) -> frozenset[str]:
    return frozenset(text) - frozenset(" ")


@functools.lru_cache(maxsize=1024)
def _font_with(letters: frozenset[str]) -> str | None:
    """The first font that has all letters: ours, else one of the system, for class names in Chinese for example."""
    if all("!" <= letter <= "~" for letter in letters):  # nothing to look for, and a second saved
        return _our_font()
    from matplotlib import font_manager, ft2font

    def has_all(path: str) -> bool:
        try:
            return {ord(letter) for letter in letters} <= set(ft2font.FT2Font(path).get_charmap())
        except (OSError, RuntimeError):
            return False

    if has_all(_our_font()):
        return _our_font()
    # The font of last resort has a sign for every letter, which only tells what kind of letter is missing.
    paths = {font.fname for font in font_manager.fontManager.ttflist if "last resort" not in font.name.lower()}
    return next(filter(has_all, sorted(paths)), None)


@functools.lru_cache(maxsize=1)
def _our_font() -> str:
    """DejaVu Sans, which comes with matplotlib."""
    (package,) = importlib.util.find_spec("matplotlib").submodule_search_locations
    return str(Path(package) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf")


@functools.lru_cache(maxsize=64)
def _load_font(path: str, pixels: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, pixels)
