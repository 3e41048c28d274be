"""Annotations of any form, on their way to COCO's: what each reader gives, and what readers need to know of images."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ..errors import UserError
from .images import read_size

_ORIENTATION = 0x0112  # the EXIF tag; 1 is upright


@dataclasses.dataclass(frozen=True)
class Annotations:
    """content: a split in COCO's form, unchecked; path: where it was read from; image_dir: what file names are relative
    to; problems: {kind: where, one text each} of what was left out or guessed; is_file: whether path holds `content`"""

    content: dict
    path: Path
    image_dir: Path
    problems: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    is_file: bool = False


def read_lines(path: Path) -> list[str]:
    """Lines of a text file. Raises UserError."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"{path}: got {error.strerror.lower()}, expected a text file; check it") from None
    except ValueError as error:
        raise UserError(f"{path}: got {error}, expected text in UTF-8; save it as such") from None


def size_of_file(path: Path) -> tuple[int, int]:
    """(height, width) of an image file's stored pixels. Raises UserError."""
    try:
        return read_size(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: got {error.strerror.lower()}, expected an image; mend or remove it") from None
    except ValueError as error:
        raise UserError(f"{path}: got {error}, expected an image; mend or remove it") from None


def is_turned(path: Path) -> bool:
    """Whether viewers show an image otherwise than its pixels are stored."""
    try:
        with Image.open(path) as image:
            return image.getexif().get(_ORIENTATION, 1) not in (0, 1)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        return False
