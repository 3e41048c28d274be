"""Boxes and captions drawn on images: readable at any size, never outside of the image, in a colour for each class."""

from __future__ import annotations

import colorsys
import functools
from pathlib import Path
from typing import Sequence

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

TRUTH_COLOR = (255, 255, 255)
_GOLDEN = 0.6180339887  # steps of this part of a turn keep any number of hues apart
_FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def class_color(label: int) -> tuple[int, int, int]:
    """RGB of a class index, the same in every picture, table and chart."""
    lightness = (0.45, 0.62, 0.34)[label % 3]
    return tuple(round(255 * value) for value in colorsys.hls_to_rgb(label * _GOLDEN % 1, lightness, 0.85))


def draw_detections(
    image: np.ndarray, boxes_yxyx: np.ndarray, scores: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> np.ndarray:
    """Draw detections, the best on top -> a new image.

    image: (H, W, 3) uint8 RGB; boxes_yxyx: (D, 4) pixels; scores: (D,); labels: (D,); classes: names by label
    """
    order = np.argsort(scores, kind="stable")
    captions = [(classes[labels[i]], f"{scores[i]:.2f}") for i in order]
    return draw_boxes(image, boxes_yxyx[order], captions, [class_color(int(labels[i])) for i in order])


def draw_truth(
    image: np.ndarray, boxes_yxyx: np.ndarray, labels: np.ndarray, classes: Sequence[str] | None = None
) -> np.ndarray:
    """Draw annotated objects in white, named below their box if `classes` are given -> a new image."""
    captions = [(classes[label],) if classes else () for label in labels]
    return draw_boxes(image, boxes_yxyx, captions, [TRUTH_COLOR] * len(captions), below=True)


def draw_boxes(
    image: np.ndarray,
    boxes_yxyx: np.ndarray,
    captions: Sequence[Sequence[str]],
    colors: Sequence[tuple[int, int, int]],
    below: bool = False,
) -> np.ndarray:
    """Draw boxes with captions in the given order -> a new image.

    captions: the words of each, the first of which matters most: where there is no room the others are left out, then
    letters; below: captions go under their boxes
    """
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    long_side = max(picture.size)
    width = max(1, round(long_side / 400))
    for box, words, color in zip(np.asarray(boxes_yxyx).tolist(), captions, colors):
        x0, y0, x1, y1 = _inside(box, picture.size)
        # A dark line around a coloured one is seen on bright and on dark images.
        draw.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=(0, 0, 0))
        draw.rectangle((x0, y0, x1, y1), outline=color, width=width)
        _draw_caption(draw, words, (x0, y0, x1, y1), color, picture.size, below)
    return np.asarray(picture)


def _inside(box_yxyx: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Corner pixels x0, y0, x1, y1 of a box, within an image of `size` (width, height)."""
    y0, x0, y1, x1 = box_yxyx
    width, height = size
    x0, y0 = (min(max(round(value), 0), side - 1) for value, side in ((x0, width), (y0, height)))
    x1, y1 = (min(max(round(value) - 1, low), side - 1) for value, low, side in ((x1, x0, width), (y1, y0, height)))
    return x0, y0, x1, y1


def _draw_caption(draw: ImageDraw.ImageDraw, words, corners, color, size, below: bool) -> None:
    width, height = size
    x0, y0, x1, y1 = corners
    pixels = min(max(11, round(max(size) / 50)), max(height - 2, 1))
    font, text = _fit(words, pixels, width)
    if not text:
        return
    text_width, text_height = _text_size(font, text)
    x = min(x0, width - text_width)
    outside, within = (y1 + 1, y1 - text_height) if below else (y0 - text_height, y0)
    y = outside if 0 <= outside <= height - text_height else within
    y = min(max(y, 0), height - text_height)
    draw.rectangle((x, y, x + text_width - 1, y + text_height - 1), fill=color)
    brightness = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]  # luma of ITU-R BT.601
    draw.text((x + 2, y + 1), text, font=font, fill=(0, 0, 0) if brightness > 140 else (255, 255, 255))


def _fit(words: Sequence[str], pixels: int, width: int) -> tuple[ImageFont.FreeTypeFont, str]:
    """The font, and as much of the words as has room in `width` pixels: all, the first, or some of its letters."""
    font = _font(pixels, "".join(words))
    texts = [" ".join(words[:count]) for count in range(len(words), 0, -1)]
    first = words[0] if words else ""
    texts += [first[:count] + "…" for count in range(len(first) - 1, 0, -1)]
    for text in texts:
        if _text_size(font, text)[0] <= width:
            return font, text
    return font, ""


def _text_size(font: ImageFont.FreeTypeFont, text: str) -> tuple[int, int]:
    """(width, height) in pixels of a caption with its margins."""
    ascent, descent = font.getmetrics()
    return round(font.getlength(text)) + 4, ascent + descent + 2


def _font(pixels: int, text: str) -> ImageFont.FreeTypeFont:
    return _load_font(_font_with(frozenset(text) - frozenset(" ")), pixels)


@functools.lru_cache(maxsize=256)
def _font_with(letters: frozenset[str]) -> str:
    """The first font that has all letters: ours, else one of the system, for class names in Chinese for example."""
    from matplotlib import font_manager, ft2font

    def has_all(path: str) -> bool:
        try:
            return {ord(letter) for letter in letters} <= set(ft2font.FT2Font(path).get_charmap())
        except (OSError, RuntimeError):
            return False

    if has_all(str(_FONT)):
        return str(_FONT)
    return next(filter(has_all, sorted({font.fname for font in font_manager.fontManager.ttflist})), str(_FONT))


@functools.lru_cache(maxsize=64)
def _load_font(path: str, pixels: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, pixels)
