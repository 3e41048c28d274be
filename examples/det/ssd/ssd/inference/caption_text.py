"""Text of captions: choose a font that can display it, shorten it to a width, and measure it."""

from __future__ import annotations

import bisect
import functools
import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path

from PIL import ImageFont

MARGIN = 3  # pixels to the left and right of the text in a caption
_MIN_FONT_SIZE = 8  # pixels; smaller text is not readable


def fit_text(parts: Sequence[str], font_size: int, max_width: int) -> tuple[ImageFont.FreeTypeFont, str] | None:
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
        return text_size(font, _join_caption(name, length, rest))[0]

    if width_at(len(name)) <= max_width:
        return len(name)
    return bisect.bisect_right(range(len(name)), max_width, key=width_at) - 1


def _join_caption(name: str, length: int, rest: Sequence[str]) -> str:
    """Join a name and the rest of a caption. If `length` is shorter than the name, cut the name with an ellipsis."""
    return " ".join([name if length == len(name) else f"{name[:length]}…", *rest])


def text_size(font: ImageFont.FreeTypeFont, text: str) -> tuple[int, int]:
    """Return the (width, height) of a caption in pixels, including margins."""
    ascent, descent = font.getmetrics()
    return math.ceil(font.getlength(text)) + 2 * MARGIN, ascent + descent + 2


def displayable_name(name: str, label: int) -> str:
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
