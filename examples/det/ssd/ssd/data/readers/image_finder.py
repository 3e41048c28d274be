"""Find the image files that annotations name, also if the annotations were written on another machine."""

from __future__ import annotations

import collections
import os
import re
import unicodedata
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from ..image_formats import IMAGE_SUFFIXES
from .annotations import is_file
from .data_folders import DataFolders

MAX_NAME = 4096  # characters of a path; no longer one exists on Linux


def find_images(
    names: Sequence[str], folders: Sequence[Path], data_folders: DataFolders | None = None
) -> list[Path | None]:
    """Find an image file for each name of a list.

    A file at the exact path has priority. Otherwise the name may differ from the file in these ways:
      - It starts with folders that do not exist here: `/home/anna/set/images/a.jpg`, `D:\\set\\a.jpg`, `../a.jpg`,
        `https://host/a.jpg`, or CVAT's `data/obj_train_data/a.jpg`. The longest end of the path that exists is taken.
      - It has `\\` for `/`, or percent-encoded characters (`my%20photo.jpg`).
      - Its letters are composed in another way (Unicode NFC or NFD), or its suffix has another case (`a.JPG`).

    names: paths or URLs, absolute or relative to one of the folders
    folders: folders to search, in order of preference
    data_folders: folders that the files must lie in; a file elsewhere is used only if none of them has a similar file.
        None allows files anywhere.
    Returns a path for each name; None if no file fits, if several files fit equally well, or if a file that fits
    inexactly is also the file of another name.
    Raises UserError if a file lies outside data_folders.
    """
    listings = _Listings()
    stated = [listings.find_exact(name, folders) for name in names]
    # A copy of a dataset may still name the original images, so those are not preferred.
    exact = [path if path and (data_folders is None or data_folders.contain(path)) else None for path in stated]
    found = [path or listings.find_similar(name, folders) for name, path in zip(names, exact)]
    if data_folders is not None:
        for path in (path or elsewhere for path, elsewhere in zip(found, stated)):
            if path:
                data_folders.require(path)
    uses = collections.Counter(found)
    # `cam1/1.jpg` and `cam2/1.jpg` are two images. If both fit the file `1.jpg`, it is unknown which one it is.
    return [path if certain is not None or uses[path] == 1 else None for certain, path in zip(exact, found)]


def image_name(text: str) -> str:
    """Return the name of an image without folder and suffix, with composed letters (Unicode NFC).

    text: file name, path, or name that already lacks the suffix; dots that do not start a known suffix stay
    """
    path = PurePosixPath(unicodedata.normalize("NFC", text.replace("\\", "/")))
    return path.stem if path.suffix.lower() in (*IMAGE_SUFFIXES, ".xml") else path.name


class _Listings:
    """Names of the files and folders in each folder, read once: this is faster than a test of each path."""

    def __init__(self) -> None:
        self.entries: dict[Path, dict[str, bool]] = {}  # {folder: {name: is it a file}}
        self.similar: dict[Path, dict[str, list[str]]] = {}

    def find_exact(self, name: str, folders: Sequence[Path]) -> Path | None:
        """Return the file at folder/name for the first folder that has it; None if there is no such file."""
        for folder in folders:
            path = folder / name
            if self._entries_of(path.parent).get(path.name):
                return path
        return None

    def find_similar(self, name: str, folders: Sequence[Path]) -> Path | None:
        """Return the file with the longest end of a path, with similar names; None if no file or several files fit."""
        for parts in _spellings(name):
            for start in range(len(parts)):
                for folder in folders:
                    found = self._walk(folder, parts[start:])
                    if found:
                        return found[0] if len(found) == 1 else None
        return None

    def _walk(self, folder: Path, parts: Sequence[str]) -> list[Path]:
        """Return the files below a folder whose path has similar parts."""
        paths = [folder]
        for part in parts:
            paths = [path / entry for path in paths for entry in self._similar_in(path, part)]
            if not paths:
                break  # a name may have thousands of parts
        return [path for path in paths if path.is_file()]

    def _similar_in(self, folder: Path, part: str) -> list[str]:
        if part in self._entries_of(folder):
            return [part]
        if folder not in self.similar:
            names: dict[str, list[str]] = {}
            for name in sorted(self._entries_of(folder)):
                names.setdefault(_normalize(name), []).append(name)
            self.similar[folder] = names
        return self.similar[folder].get(_normalize(part), [])

    def _entries_of(self, folder: Path) -> dict[str, bool]:
        if folder not in self.entries:
            try:
                with os.scandir(folder) as entries:
                    self.entries[folder] = {entry.name: is_file(entry) for entry in entries}
            except (OSError, ValueError):  # no such folder, or a name that no file can have
                self.entries[folder] = {}
        return self.entries[folder]


def _normalize(name: str) -> str:
    """Return a file name with composed letters (Unicode NFC) and a lower-case suffix."""
    path = PurePosixPath(unicodedata.normalize("NFC", name))
    return f"{path.stem}{path.suffix.lower()}"


def _spellings(name: str) -> Iterator[list[str]]:
    """Yield the parts of a path for each way to read it, without drive, host, `.` and `..`."""
    if len(name) > MAX_NAME:
        return
    without_host = re.sub(r"^[a-z][a-z0-9+.-]+://[^/]*", "", name, flags=re.IGNORECASE)
    texts = [name, name.replace("\\", "/")]
    if without_host != name:
        texts = [without_host, re.sub(r"[?#].*", "", without_host)]
    texts += [urllib.parse.unquote(text) for text in texts]
    for text in dict.fromkeys(texts):
        parts = [
            part for part in text.split("/") if part not in ("", ".", "..") and not re.fullmatch("[A-Za-z]:", part)
        ]
        if parts:
            yield parts
