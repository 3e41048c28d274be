"""Draw boxes and captions on images, in one color per class. Captions are readable and inside the image."""

from __future__ import annotations

import colorsys
import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .caption_text import MARGIN, displayable_name, fit_text, text_size

Color = tuple[int, int, int]  # RGB, 0..255
Rectangle = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels; x1 and y1 are outside

GROUND_TRUTH_COLOR: Color = (255, 255, 255)
_GOLDEN_RATIO = 0.6180339887  # multiples of this ratio, modulo 1, are well-separated hues
# Neighboring classes differ in luminance too, for readers who confuse hues. No color is nearly black or nearly white.
_LUMINANCES = (0.38, 0.19, 0.28)


@dataclasses.dataclass(frozen=True)
class DrawingStyle:
    """Appearance of drawn detections.

    line_width: width of the lines around boxes in pixels; None chooses the width by the size of the image
    has_captions: False to draw boxes without class names, ids and scores
    """

    line_width: int | None = None
    has_captions: bool = True


DEFAULT_STYLE = DrawingStyle()


@functools.lru_cache(maxsize=1024)
def class_color(label: int) -> Color:
    """Return the RGB color of a class index, which is the same in all pictures, tables and charts."""
    hue, target = label * _GOLDEN_RATIO % 1, _LUMINANCES[label % 3]
    low, high = 0.0, 1.0
    for _ in range(20):  # bisection: the luminance of a hue increases with its lightness
        lightness = (low + high) / 2
        too_dark = _luminance(colorsys.hls_to_rgb(hue, lightness, 1)) < target
        low, high = (lightness, high) if too_dark else (low, lightness)
    red, green, blue = colorsys.hls_to_rgb(hue, low, 1)
    return round(255 * red), round(255 * green), round(255 * blue)


def _luminance(rgb: tuple[float, float, float]) -> float:
    """Return the relative luminance of an sRGB color as WCAG 2 defines it.

    rgb: red, green and blue, each 0..1
    Returns a value in 0..1, 0 for black and 1 for white.
    """
    red, green, blue = (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in rgb)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def draw_detections(
    image: np.ndarray,
    boxes_yxyx: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    track_ids: np.ndarray | None = None,
    style: DrawingStyle = DEFAULT_STYLE,
) -> np.ndarray:
    """Draw detections with class names, track ids and scores. Detections with higher scores are drawn on top.

    image: (H, W, 3) uint8 RGB, not modified
    boxes_yxyx: (D, 4) corners in pixels, y first
    scores: (D,) float, 0..1
    labels: (D,) int, 1..K-1
    classes: class names by label; `class <label>` replaces a name that no installed font can display
    track_ids: (D,) int, 0 for a detection without an id; None without tracking
    Returns a new (H, W, 3) uint8 RGB image.
    """
    order = np.argsort(scores, kind="stable")
    captions: list[tuple[str, ...]] = [()] * len(order)
    if style.has_captions:
        ids = [f"#{track_ids[i]}" if track_ids is not None and track_ids[i] else "" for i in order]
        names = [displayable_name(classes[labels[i]], labels[i]) for i in order]
        parts = zip(names, ids, (f"{scores[i]:.2f}" for i in order))
        captions = [tuple(filter(None, caption)) for caption in parts]
    colors = [class_color(int(labels[i])) for i in order]
    return draw_boxes(image, boxes_yxyx[order], captions=captions, colors=colors, line_width=style.line_width)


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
    captions = [(displayable_name(classes[label], label),) if classes else () for label in labels]
    colors = [GROUND_TRUTH_COLOR] * len(captions)
    return draw_boxes(image, boxes_yxyx, captions=captions, colors=colors, captions_below=True)


def draw_boxes(
    image: np.ndarray,
    boxes_yxyx: np.ndarray,
    captions: Sequence[Sequence[str]],
    colors: Sequence[Color],
    captions_below: bool = False,
    line_width: int | None = None,
) -> np.ndarray:
    """Draw boxes in the given order, then their captions on top of all boxes.

    image: (H, W, 3) uint8 RGB, not modified
    boxes_yxyx: (N, 4) corners in pixels, y first; boxes are clipped to the image
    captions: for each box, the strings to join by spaces, or () for no caption. The first string is shortened if the
        caption is too wide.
    colors: N colors, RGB, 0..255
    captions_below: True to draw captions below boxes if possible, False to draw captions above boxes if possible
    line_width: width of the lines in pixels; None chooses the width by the size of the image
    Returns a new (H, W, 3) uint8 RGB image.
    """
    drawn = image.copy()
    height, width = image.shape[:2]
    line_width = line_width or max(2, round(math.sqrt(width * height) / 220))
    rectangles = [_outer_rectangle(box, (width, height), line_width) for box in np.asarray(boxes_yxyx).tolist()]
    for rectangle, color in zip(rectangles, colors):
        # A dark shadow on both sides keeps bright lines visible on bright images.
        for shadow in (_grow(rectangle, 1), _grow(rectangle, -line_width)):
            for pixels in _frame(drawn, shadow, width=1):
                pixels -= pixels // 3
        for pixels in _frame(drawn, rectangle, width=line_width):
            pixels[:] = color
    picture = Image.fromarray(drawn)
    _draw_captions(
        ImageDraw.Draw(picture),
        image_size=picture.size,
        rectangles=rectangles,
        captions=captions,
        colors=colors,
        captions_below=captions_below,
    )
    return np.array(picture)


def _outer_rectangle(box_yxyx: Sequence[float], image_size: tuple[int, int], line_width: int) -> Rectangle:
    """Return the outer edge of the line around a box. The line is centered on the box's edge, and inside the image.

    box_yxyx: corners in pixels, y first
    image_size: (width, height) in pixels
    line_width: in pixels
    """

    def outer_interval(low: float, high: float, side: int) -> tuple[int, int]:
        start = min(max(round(low) - line_width // 2, 0), side - 1)
        return start, max(min(round(high) + line_width // 2, side), start + 1)

    x0, x1 = outer_interval(box_yxyx[1], box_yxyx[3], side=image_size[0])
    y0, y1 = outer_interval(box_yxyx[0], box_yxyx[2], side=image_size[1])
    return x0, y0, x1, y1


def _grow(rectangle: Rectangle, pixels: int) -> Rectangle:
    """Move all sides of a rectangle outwards by a number of pixels."""
    x0, y0, x1, y1 = rectangle
    return x0 - pixels, y0 - pixels, x1 + pixels, y1 + pixels


def _frame(image: np.ndarray, rectangle: Rectangle, width: int) -> list[np.ndarray]:
    """Return disjoint views of the pixels that are at most `width` pixels inside the edge of a rectangle.

    image: (H, W, 3) uint8
    rectangle: may extend beyond the image
    """
    x0, y0, x1, y1 = rectangle
    if x0 >= x1 or y0 >= y1:
        return []
    inner_x0, inner_y0 = min(x0 + width, x1), min(y0 + width, y1)
    inner_x1, inner_y1 = max(x1 - width, inner_x0), max(y1 - width, inner_y0)
    parts = (
        (x0, y0, x1, inner_y0),
        (x0, inner_y1, x1, y1),
        (x0, inner_y0, inner_x0, inner_y1),
        (inner_x1, inner_y0, x1, inner_y1),
    )
    return [image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] for left, top, right, bottom in parts]


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
        fitted = fit_text(parts, font_size=font_size, max_width=max_width)
        if fitted is None:
            continue
        font, text = fitted
        width, height = text_size(font, text)
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
    outside_top, inside_top, inside_bottom, outside_bottom = y0 - text_height, y0, y1 - text_height, y1
    if below:
        rows = (outside_bottom, inside_bottom, outside_top, inside_top)
    else:
        rows = (outside_top, inside_top, outside_bottom, inside_bottom)
    candidates = [(x, y) for y in rows for x in (x0, x1 - text_width)]
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
    is_bright = _luminance((color[0] / 255, color[1] / 255, color[2] / 255)) > 0.2  # contrast of 4.2 or more (WCAG 2)
    draw.text((x0 + MARGIN, y0 + 1), text, font=font, fill=(0, 0, 0) if is_bright else (255, 255, 255))
