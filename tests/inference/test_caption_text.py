"""Fonts of captions: which one is chosen for a name."""

from pathlib import Path
from types import SimpleNamespace

from ssd.inference import caption_text


def test_a_system_font_that_covers_the_name_is_found(monkeypatch):
    from matplotlib import font_manager

    symbols = str(Path(caption_text._default_font()).with_name("STIXGeneral.ttf"))  # another font that matplotlib ships
    last_resort = SimpleNamespace(name="Last Resort High-Efficiency", fname="/nowhere/last.ttf")
    fonts = [last_resort, SimpleNamespace(name="broken", fname="/nowhere"), SimpleNamespace(name="x", fname=symbols)]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", fonts)
    caption_text._find_font.cache_clear()
    character = next(c for c in _characters_of(symbols) if c not in _characters_of(caption_text._default_font()))
    assert caption_text._find_font(frozenset(character)) == symbols
    caption_text._find_font.cache_clear()


def _characters_of(path):
    from matplotlib import ft2font

    return {chr(code): None for code in sorted(ft2font.FT2Font(path).get_charmap())}
