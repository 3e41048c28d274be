"""Draw boxes and captions on images, in one color per class. Captions are readable and inside the image."""

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

Color = tuple[int, int, int]  # RGB, 0..255
Rectangle = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels

GROUND_TRUTH_COLOR: Color = (255, 255, 255)
_GOLDEN_RATIO = 0.6180339887  # multiples of this ratio, modulo 1, are well-separated hues
_MIN_FONT_SIZE = 8  # pixels; smaller text is not readable
_MARGIN = 2  # pixels to the left and right of the text in a caption


def class_color(label: int) -> Color:
    """Return the RGB color of a class index, which is the same in all pictures, tables and charts."""
    lightness = (0.45, 0.62, 0.34)[label % 3]
    red, green, blue = colorsys.hls_to_rgb(label * _GOLDEN_RATIO % 1, lightness, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_detections(
    image: np.ndarray, boxes_yxyx: np.ndarray, scores: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> np.ndarray:
    """Draw detections with class names and scores. Detections with higher scores are drawn on top.

    image: (H, W, 3) uint8 RGB, not modified
    boxes_yxyx: (D, 4) corners in pixels, y first
    scores: (D,) float, 0..1
    labels: (D,) int, 1..K-1
    classes: class names by label; `class <label>` replaces a name that no installed font can display
    Returns a new (H, W, 3) uint8 RGB image.
    """
    order = np.argsort(scores, kind="stable")
    captions = [(_displayable_name(classes[labels[i]], labels[i]), f"{scores[i]:.2f}") for i in order]
    colors = [class_color(int(labels[i])) for i in order]
    return draw_boxes(image, boxes_yxyx[order], captions=captions, colors=colors)


def draw_ground_truth(
    image: np.ndarray, boxes_yxyx: np.ndarray, labels: np.ndarray, classes: Sequence[str] | None = None
) -> np.ndarray:
    """Draw ground-truth boxes in white, with class names below the boxes if `classes` is given.

    image: (H, W, 3) uint8 RGB, not modified
    boxes_yxyx: (M, 4) corners in pixels, y first
    labels: (M,) int, 1..K-1
    classes: class names by label; None to draw boxes without names
    Returns a new (H, W, 3) uint8 RGB image.
    """
    captions = [(_displayable_name(classes[label], label),) if classes else () for label in labels]
    colors = [GROUND_TRUTH_COLOR] * len(captions)
    return draw_boxes(image, boxes_yxyx, captions=captions, colors=colors, captions_below=True)


def draw_boxes(
    image: np.ndarray,
    boxes_yxyx: np.ndarray,
    captions: Sequence[Sequence[str]],
    colors: Sequence[Color],
    captions_below: bool = False,
) -> np.ndarray:
    """Draw boxes in the given order, then their captions on top of all boxes.

    image: (H, W, 3) uint8 RGB, not modified
    boxes_yxyx: (N, 4) corners in pixels, y first; boxes are clipped to the image
    captions: for each box, the strings to join by spaces, or () for no caption. The first string is shortened if the
        caption is too wide.
    colors: N colors, RGB, 0..255
    captions_below: True to draw captions below boxes if possible, False to draw captions above boxes if possible
    Returns a new (H, W, 3) uint8 RGB image.
    """
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    mean_side = math.sqrt(picture.width * picture.height)
    line_width, outline_width = max(1, round(mean_side / 300)), round(mean_side / 1200 + 0.4)
    rectangles = [_to_pixels(box, picture.size) for box in np.asarray(boxes_yxyx).tolist()]
    for (x0, y0, x1, y1), color in zip(rectangles, colors):
        # A dark outline keeps the colored line visible on bright images.
        if outline_width:
            outer = (x0 - outline_width, y0 - outline_width, x1 + outline_width, y1 + outline_width)
            draw.rectangle(outer, outline=(0, 0, 0), width=outline_width)
        draw.rectangle((x0, y0, x1, y1), outline=color, width=line_width)
    _draw_captions(
        draw,
        image_size=picture.size,
        rectangles=rectangles,
        captions=captions,
        colors=colors,
        captions_below=captions_below,
    )
    return np.array(picture)


def _draw_captions(
    draw: ImageDraw.ImageDraw,
    image_size: tuple[int, int],
    rectangles: Sequence[Rectangle],
    captions: Sequence[Sequence[str]],
    colors: Sequence[Color],
    captions_below: bool,
) -> None:
    """Choose places for captions, starting with the last caption, and draw them.

    The captions cover at most half of the image. A caption is omitted if more than half of the caption would be hidden.

    image_size: (width, height) in pixels
    rectangles: box of each caption
    """
    image_width, image_height = image_size
    font_size = min(max(11, round(math.sqrt(image_width * image_height) / 42)), int(0.85 * (image_height - 4)))
    max_width = min(image_width, max(image_width // 3, 10 * font_size))
    placed: list[tuple[Rectangle, ImageFont.FreeTypeFont, str, Color]] = []
    area_left = image_width * image_height / 2
    for rectangle, parts, color in reversed(list(zip(rectangles, captions, colors))):
        fitted = _fit_text(parts, font_size=font_size, max_width=max_width)
        if fitted is None:
            continue
        font, text = fitted
        width, height = _text_size(font, text)
        if height > image_height or width * height > area_left:
            continue
        place, hidden_pixels = _place_caption(
            rectangle,
            text_size=(width, height),
            image_size=image_size,
            below=captions_below,
            others=[other for other, *_ in placed],
        )
        if hidden_pixels <= width * height / 2:
            placed.append((place, font, text, color))
            area_left -= width * height
    for place, font, text, color in reversed(placed):
        _draw_caption(draw, place=place, font=font, text=text, color=color)


def _to_pixels(box_yxyx: Sequence[float], image_size: tuple[int, int]) -> Rectangle:
    """Convert a box to the integer coordinates of its first and last column and row, clipped to the image.

    box_yxyx: corners in pixels, y first
    image_size: (width, height) in pixels
    """
    y0, x0, y1, x1 = box_yxyx
    width, height = image_size
    left, top = (min(max(round(value), 0), side - 1) for value, side in ((x0, width), (y0, height)))
    right, bottom = (
        min(max(round(value) - 1, low), side - 1) for value, low, side in ((x1, left, width), (y1, top, height))
    )
    return left, top, right, bottom


def _place_caption(
    box: Rectangle,
    text_size: tuple[int, int],
    image_size: tuple[int, int],
    below: bool,
    others: Sequence[Rectangle],
) -> tuple[Rectangle, int]:
    """Choose the place of a caption: near its box, inside the image, and with the least overlap with other captions.

    text_size: (width, height) of the caption in pixels
    image_size: (width, height) in pixels
    below: True to prefer places below the box, False to prefer places above the box
    others: rectangles of the captions that already have a place
    Returns (rectangle of the caption, number of its pixels that overlap other captions).
    """
    x0, y0, x1, y1 = box
    text_width, text_height = text_size
    image_width, image_height = image_size
    max_x, max_y = image_width - text_width, image_height - text_height
    outside_top, inside_top, inside_bottom, outside_bottom = y0 - text_height, y0, y1 + 1 - text_height, y1 + 1
    if below:
        rows = (outside_bottom, inside_bottom, outside_top, inside_top)
    else:
        rows = (outside_top, inside_top, outside_bottom, inside_bottom)
    candidates = [(x, y) for y in rows for x in (x0, x1 + 1 - text_width)]
    inside = [(x, y) for x, y in candidates if 0 <= x <= max_x and 0 <= y <= max_y]
    # If no candidate is inside the image, as for boxes at the border, move all candidates inside.
    inside = inside or [(min(max(x, 0), max_x), min(max(y, 0), max_y)) for x, y in candidates]
    rectangles = [(x, y, x + text_width, y + text_height) for x, y in inside]
    hidden_pixels = [sum(_intersection_area(rectangle, other) for other in others) for rectangle in rectangles]
    return rectangles[hidden_pixels.index(min(hidden_pixels))], min(hidden_pixels)


def _intersection_area(first: Rectangle, second: Rectangle) -> int:
    """Return the number of pixels in the intersection of two rectangles."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0) * max(height, 0)


def _draw_caption(
    draw: ImageDraw.ImageDraw, place: Rectangle, font: ImageFont.FreeTypeFont, text: str, color: Color
) -> None:
    """Fill a rectangle with `color`, and draw black or white text on top, whichever has more contrast."""
    x0, y0, x1, y1 = place
    draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill=color)
    luma = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]  # ITU-R BT.601
    draw.text((x0 + _MARGIN, y0 + 1), text, font=font, fill=(0, 0, 0) if luma > 140 else (255, 255, 255))


def _fit_text(parts: Sequence[str], font_size: int, max_width: int) -> tuple[ImageFont.FreeTypeFont, str] | None:
    """Shorten a caption that is wider than max_width.

    First, the class name is cut to no less than 6 characters. If the caption is still too wide, all other parts are
    removed, and the class name may be cut to 1 character.

    parts: parts of the caption, class name first
    font_size: size of the font in pixels
    max_width: maximum width of the caption in pixels
    Returns (font, text), or None if there is no text or not enough space.
    """
    if not parts or font_size < _MIN_FONT_SIZE:
        return None
    font = _load_font(_find_font(_visible_characters("".join(parts))) or _default_font(), font_size)
    name, *rest = parts
    for shown_rest, min_length in ((rest, 6), ([], 1)):
        length = _max_name_length(font, name=name, rest=shown_rest, max_width=max_width)
        if length >= min(min_length, len(name)):
            text = _join_caption(name, length, shown_rest)
            return (font, text) if text else None
    return None


def _max_name_length(font: ImageFont.FreeTypeFont, name: str, rest: Sequence[str], max_width: int) -> int:
    """Return the maximum number of characters of `name` that fit into `max_width` pixels together with `rest`.

    Returns -1 if an ellipsis and `rest` are too wide even without any characters of `name`.
    """

    def width_at(length: int) -> int:
        return _text_size(font, _join_caption(name, length, rest))[0]

    if width_at(len(name)) <= max_width:
        return len(name)
    return bisect.bisect_right(range(len(name)), max_width, key=width_at) - 1


def _join_caption(name: str, length: int, rest: Sequence[str]) -> str:
    """Join a name and the rest of a caption. If `length` is shorter than the name, cut the name with an ellipsis."""
    return " ".join([name if length == len(name) else f"{name[:length]}…", *rest])


def _text_size(font: ImageFont.FreeTypeFont, text: str) -> tuple[int, int]:
    """Return the (width, height) of a caption in pixels, including margins."""
    ascent, descent = font.getmetrics()
    return math.ceil(font.getlength(text)) + 2 * _MARGIN, ascent + descent + 2


def _displayable_name(name: str, label: int) -> str:
    """Return a class name without line breaks, or `class <label>` if no font has all characters of the name."""
    name = " ".join(name.split())
    return name if name and _find_font(_visible_characters(name)) else f"class {label}"


def _visible_characters(text: str) -> frozenset[str]:
    return frozenset(text) - frozenset(" ")


@functools.lru_cache(maxsize=1024)
def _find_font(characters: frozenset[str]) -> str | None:
    """Return the path of a font with all characters, DejaVu Sans if possible, or None if no font has all characters."""
    if all("!" <= character <= "~" for character in characters):  # ASCII; avoids importing font_manager for 1 s
        return _default_font()
    from matplotlib import font_manager, ft2font

    def has_all(path: str) -> bool:
        try:
            return {ord(character) for character in characters} <= set(ft2font.FT2Font(path).get_charmap())
        except (OSError, RuntimeError):
            return False

    if has_all(_default_font()):
        return _default_font()
    # Skip fonts of last resort, which display a placeholder for every character.
    paths = {font.fname for font in font_manager.fontManager.ttflist if "last resort" not in font.name.lower()}
    return next(filter(has_all, sorted(paths)), None)


@functools.lru_cache(maxsize=1)
def _default_font() -> str:
    """Return the path of DejaVu Sans, which matplotlib ships."""
    package = importlib.util.find_spec("matplotlib")  # finds the folder without importing matplotlib, which is slow
    assert package is not None and package.origin is not None
    return str(Path(package.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf")


@functools.lru_cache(maxsize=64)
def _load_font(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)
