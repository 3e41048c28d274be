"""What predict.py is given: images, by name, folder or pattern, or one video or camera; all of it found before work."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import math
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from ..data.images import IMAGE_SUFFIXES, JPEG_SUFFIXES
from ..errors import UserError

VIDEO_SUFFIXES = frozenset(".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv .flv .3gp .mts .m2ts .ts".split())
DEFAULT_RATE = 25.0  # frames a second of a source that tells none, as many cameras do


@dataclasses.dataclass(frozen=True)
class InputImage:
    """An image file. name: its path below the folder that all given images have in common, with `/`; drawn_name: that
    of its drawn picture, which no other has: JPEGs and PNGs keep their name, others become NAME.png"""

    path: Path
    name: str
    drawn_name: str


class Video:
    """The frames of a video file or a camera, once.

    capture: cv2.VideoCapture or an object with its `read`, `get` and `release`; name: the file's, or cameraN;
    live: whether it comes from a camera, and goes on whether or not someone reads
    rate: frames a second; total: how many frames the file says it has, None if it does not
    """

    def __init__(self, capture, name: str, live: bool):
        self.capture, self.name, self.live = capture, name, live
        rate, total = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.rate = rate if math.isfinite(rate) and rate > 0 else DEFAULT_RATE
        self.total = int(total) if not live and total > 0 else None

    @property
    def drawn_name(self) -> str:
        return f"{Path(self.name).stem}.mp4"

    def __iter__(self) -> Iterator[np.ndarray]:
        """(H, W, 3) uint8 RGB each, turned upright where the file says so."""
        while True:
            is_read, frame = self.capture.read()
            if not is_read:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def open_source(inputs: Sequence[str], output: Path) -> list[InputImage] | Video:
    """What --input says: images sorted by path, each once, or a video that is open.

    inputs: image files, folders and patterns, or one video file, or one camera index; output: folder that results go
    to, in which no images are searched
    Folders are searched to their depths, by file name suffix and without hidden files. A word is a pattern or a camera
    only where no file has that name. Raises UserError if nothing is found, or if a result would replace an input.
    """
    if len(inputs) == 1 and inputs[0].isdecimal() and len(inputs[0]) < 4 and not os.path.exists(inputs[0]):
        return _open_video(int(inputs[0]), f"camera{int(inputs[0])}")
    roots, paths = [], []
    # The shell makes of photos/* the folder of earlier results in it, too.
    for word in [word for word in inputs if os.path.realpath(word) != os.path.realpath(output)] or inputs:
        root, found = _find(word, output)
        roots.append(os.path.abspath(root))
        paths += found
    videos = [path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES]
    if videos and len(paths) > 1:
        raise UserError(
            f"{videos[0]}: got a video among {len(paths)} files, expected images, or one video alone; "
            "run predict.py once for each video"
        )
    if videos:
        video = _open_video(str(videos[0]), videos[0].name)
        _refuse_overwriting({output / video.drawn_name}, videos)
        return video
    common = os.path.commonpath(roots)
    absolute = {os.path.abspath(path): path for path in paths}
    photos = _name({Path(os.path.relpath(path, common)).as_posix(): absolute[path] for path in sorted(absolute)})
    _refuse_overwriting({output / photo.drawn_name for photo in photos}, paths)
    return photos


def _find(word: str, output: Path) -> tuple[Path, list[Path]]:
    """The folder that a word of --input means, and the files it names in it."""
    path = Path(word)
    if path.is_dir():
        found = list(_search(path, output))
        if not found:
            raise UserError(
                f"--input: got {word}, a folder without images, expected one with files that end in .jpg, .png or alike"
            )
        return path, found
    if os.path.lexists(path):
        return path.parent, [path]
    if not glob.has_magic(word):
        raise UserError(
            f"--input: got {word}, which does not exist, expected an image, a folder, a pattern, a video or the number "
            "of a camera; check the path"
        )
    magic = next(i for i, part in enumerate(path.parts) if glob.has_magic(part))
    root = Path(*path.parts[:magic])
    return root, _match(word, root, output)


def _match(pattern: str, root: Path, output: Path) -> list[Path]:
    """Images that a pattern below `root` names, in folders that it names too; else videos. Not results in `output`."""
    images, videos = [], []
    for match in map(Path, glob.glob(pattern, recursive=True)):
        if _is_within(match, output) and not _is_within(root, output):
            continue
        if match.is_dir():
            images += [] if "**" in pattern else _search(match, output)  # which names what is in folders by itself
        elif match.suffix.lower() in IMAGE_SUFFIXES:
            images.append(match)
        elif match.suffix.lower() in VIDEO_SUFFIXES:
            videos.append(match)
    if not images and not videos:
        raise UserError(
            f"--input: got {pattern}, which matches no image, expected a pattern of existing files; check it"
        )
    return images or videos


def _is_within(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _search(folder: Path, output: Path) -> Iterator[Path]:
    """Images in a folder, to its depths; not those that earlier predictions left in `output`."""
    for place, folders, names in os.walk(folder):
        kept = [name for name in folders if not name.startswith(".")]
        folders[:] = [name for name in kept if os.path.realpath(os.path.join(place, name)) != os.path.realpath(output)]
        for name in names:
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                yield Path(place) / name


def _name(paths: dict[str, Path]) -> list[InputImage]:
    """Photos of {name: path}, in that order."""
    taken = {name for name in paths if Path(name).suffix.lower() in JPEG_SUFFIXES | {".png"}}
    photos = []
    for name, path in paths.items():
        drawn = name
        if name not in taken:
            while drawn == name or drawn in taken:
                drawn += ".png"
            taken.add(drawn)
        photos.append(InputImage(path, name, drawn))
    return photos


def _open_video(where: str | int, name: str) -> Video:
    with quiet():
        capture = cv2.VideoCapture(where)
    if not capture.isOpened():
        what = f"camera {where}" if isinstance(where, int) else where
        raise UserError(
            f"--input: got {what}, which OpenCV cannot open, expected "
            + ("a connected camera that nobody else uses" if isinstance(where, int) else "a video; check the file")
        )
    return Video(capture, name, live=isinstance(where, int))


@contextlib.contextmanager
def quiet():
    """Keep from the user what libraries write to stderr by themselves, where one line of ours says it."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _refuse_overwriting(outputs: set[Path], inputs: Sequence[Path]) -> None:
    own = {os.path.realpath(path): path for path in inputs}
    for path in sorted(outputs):
        if os.path.realpath(path) in own:
            raise UserError(
                f"--output: got {path.parent}, where the picture drawn of {own[os.path.realpath(path)]} would replace "
                "an input, expected another folder"
            )
