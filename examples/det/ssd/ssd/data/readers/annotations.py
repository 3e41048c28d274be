"""Annotations of any form, on their way to COCO's: what each reader gives, and what readers need to know of files."""

from __future__ import annotations

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Iterable, Iterator

from PIL import Image

from ...errors import UserError
from ..images import read_header_size, read_size

_ORIENTATION = 0x0112  # the EXIF tag; 1 is upright
_HEAD = 1 << 16  # bytes of a JPEG that nearly always hold its size
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_EXIF = (b"eXIf", b"exif", b"tiff:Orientation")  # of a PNG without any of these Pillow decodes all to find none
_THREADS = min(8, os.cpu_count() or 1)


@dataclasses.dataclass(frozen=True)
class Annotations:
    """content: a split in COCO's form, unchecked; path: where it was read from; image_dir: what file names are relative
    to; problems: {kind: where, one text each} of what was left out or guessed; is_file: whether path holds `content`"""

    content: dict
    path: Path
    image_dir: Path
    problems: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    is_file: bool = False


@dataclasses.dataclass(frozen=True)
class ImageProbe:
    """size: (height, width) of the stored pixels, None if there are none; wrong: why, as `PATH: got …`, else empty;
    turned: whether viewers show the image otherwise than its pixels are stored"""

    size: tuple[int, int] | None
    turned: bool = False
    wrong: str = ""


def read_lines(path: Path) -> list[str]:
    """Lines of a text file. Raises UserError."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"{path}: got {error.strerror.lower()}, expected a text file; check it") from None
    except ValueError as error:
        raise UserError(f"{path}: got {error}, expected text in UTF-8; save it as such") from None


def find_path(folder: Path, relative: str) -> Path | None:
    """folder/relative, whatever the case of its letters; None if it is not there."""
    if (folder / relative).exists():
        return folder / relative
    for part in Path(relative).parts:
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        folder = next((path for path in found if path.name.lower() == part.lower()), None)
        if folder is None:
            return None
    return folder


def probe_images(paths: Iterable[Path]) -> Iterator[ImageProbe]:
    """probe_image each, in order, by several threads."""
    with ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(probe_image, paths)


def probe_image(path: Path) -> ImageProbe:
    """What is to be known of an image file without its pixels, of which no more than that is read if it is a JPEG."""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
            size = read_header_size(head)
            if size is None or head.startswith(_PNG):
                head += file.read()
                size = size or read_size(head)
            if head.startswith(_PNG) and not any(mark in head for mark in _PNG_EXIF):
                return ImageProbe(size)
            return ImageProbe(size, _is_turned(file))
    except OSError as error:
        return ImageProbe(None, wrong=f"{path}: got {error.strerror.lower()}")
    except ValueError as error:
        return ImageProbe(None, wrong=f"{path}: got {error}")


def _is_turned(file: BinaryIO) -> bool:
    file.seek(0)
    try:
        with Image.open(file) as image:
            return image.getexif().get(_ORIENTATION, 1) not in (0, 1)
    except Exception:  # what Pillow raises on damaged files has no common base
        return False
