"""Inputs of predict.py: find image files, or open a video file or a camera."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import math
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from ..data.image_formats import IMAGE_SUFFIXES, JPEG_SUFFIXES
from ..errors import UserError

VIDEO_SUFFIXES = frozenset(".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv .flv .3gp .mts .m2ts .ts".split())
DEFAULT_FPS = 25.0  # frames per second of sources that report no frame rate, such as many cameras


@dataclasses.dataclass(frozen=True)
class InputImage:
    """An input image, with the path of its annotated copy.

    path: path of the image file
    name: path relative to the common folder of all inputs, with `/` as the separator
    output_name: unique path of the annotated copy, relative to --output; for JPEG and PNG files `name`, for other
        formats `name` with `.png` appended
    """

    path: Path
    name: str
    output_name: str


class Video:
    """Frames of a video file or a camera. The frames can be iterated only once.

    capture: cv2.VideoCapture, or an object with the same methods `read` and `get`
    name: file name of the video, or `camera<number>`
    is_camera: True for a camera, False for a video file
    fps: frames per second
    num_frames: number of frames that the video file reports; None if the number is unknown
    """

    def __init__(self, capture: cv2.VideoCapture, name: str, is_camera: bool):
        self.capture = capture
        self.name = name
        self.is_camera = is_camera
        fps, num_frames = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.fps = fps if math.isfinite(fps) and fps > 0 else DEFAULT_FPS
        self.num_frames = int(num_frames) if not is_camera and num_frames > 0 else None

    @property
    def output_name(self) -> str:
        """File name of the annotated video in the folder --output."""
        return f"{Path(self.name).stem}.mp4"

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield frames as (H, W, 3) uint8 RGB, rotated by OpenCV according to the metadata of the file."""
        while True:
            success, frame = self.capture.read()
            if not success:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def open_inputs(arguments: Sequence[str], output: Path) -> list[InputImage] | Video:
    """Find the image files, or open the video file or camera, for the values of --input.

    Folders are searched recursively for files with an image suffix. Hidden files are skipped. A value is interpreted as
    a pattern or a camera number only if no file has that name.

    arguments: values of --input: image files, folders and glob patterns; or one video file; or one camera number
    output: folder of the results, which is not searched for images
    Returns image files, sorted by path and without duplicates, or a video.
    Raises UserError if no image or video is found, or if a result would overwrite an input.
    """
    if len(arguments) == 1 and arguments[0].isdecimal() and len(arguments[0]) < 4 and not os.path.exists(arguments[0]):
        return _open_video(int(arguments[0]), name=f"camera{int(arguments[0])}")
    # Skip the folder of previous results. The shell adds this folder to --input when it expands photos/*.
    without_output = [argument for argument in arguments if not _is_same_path(argument, output)]
    roots: list[str] = []
    paths: list[Path] = []
    for argument in without_output or arguments:
        root, found = _expand_argument(argument, output)
        roots.append(os.path.abspath(root))
        paths += found
    videos = [path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES]
    if videos and len(paths) > 1:
        raise UserError(
            f"--input: {videos[0]} is a video, but --input has {len(paths)} files. A video must be the only input. "
            "Run predict.py separately for each video."
        )
    if videos:
        video = _open_video(str(videos[0]), name=videos[0].name)
        _refuse_overwriting({output / video.output_name}, inputs=videos)
        return video
    common_folder = os.path.commonpath(roots)
    by_absolute_path = {os.path.abspath(path): path for path in paths}
    images = _assign_output_names(
        {
            Path(os.path.relpath(absolute_path, common_folder)).as_posix(): by_absolute_path[absolute_path]
            for absolute_path in sorted(by_absolute_path)
        }
    )
    _refuse_overwriting({output / image.output_name for image in images}, inputs=paths)
    return images


def _expand_argument(argument: str, output: Path) -> tuple[Path, list[Path]]:
    """Find the files that a value of --input refers to: a file, all images of a folder, or the matches of a pattern.

    output: folder of the results, which is not searched for images
    Returns (folder that contains the files, paths of the files).
    Raises UserError if no file is found.
    """
    path = Path(argument)
    if path.is_dir():
        images = list(_search_folder(path, output))
        if not images:
            raise UserError(
                f"--input: folder {argument} contains no images. Choose a folder with .jpg, .png or similar files."
            )
        return path, images
    if os.path.lexists(path):
        return path.parent, [path]
    if not glob.has_magic(argument):
        raise UserError(
            f"--input: {argument} does not exist. Set --input to images, folders, patterns, a video or a camera number."
        )
    first_magic = next(i for i, part in enumerate(path.parts) if glob.has_magic(part))
    root = Path(*path.parts[:first_magic])
    return root, _expand_pattern(argument, root=root, output=output)


def _expand_pattern(pattern: str, root: Path, output: Path) -> list[Path]:
    """Find the images that a glob pattern matches, including images in matching folders.

    root: folder before the first wildcard of the pattern
    output: folder of the results, which is skipped unless `root` is inside this folder
    Returns the paths of images. If no image matches, returns the paths of matching videos.
    Raises UserError if the pattern matches no image and no video.
    """
    images: list[Path] = []
    videos: list[Path] = []
    for path in map(Path, glob.glob(pattern, recursive=True)):
        if _is_within(path, output) and not _is_within(root, output):
            continue
        if path.is_dir():
            if "**" not in pattern:  # with **, the pattern itself matches the files in the folder
                images += _search_folder(path, output)
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            images.append(path)
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            videos.append(path)
    if not images and not videos:
        raise UserError(f"--input: {pattern} does not match any image or video. Check the pattern.")
    return images or videos


def _search_folder(folder: Path, output: Path) -> Iterator[Path]:
    """Yield the image files in a folder and its subfolders, except hidden files and files in the folder `output`."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and not _is_same_path(os.path.join(parent, name), output)
        ]
        for name in names:
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                yield Path(parent) / name


def _is_same_path(first: str | Path, second: str | Path) -> bool:
    return os.path.realpath(first) == os.path.realpath(second)


def _is_within(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _assign_output_names(paths: dict[str, Path]) -> list[InputImage]:
    """Create an InputImage with a unique output name for each image file.

    paths: {name: path of the image file}
    Returns the images in the order of `paths`. For formats other than JPEG and PNG, `.png` is appended repeatedly until
    the output name is unique.
    """
    taken = {name for name in paths if Path(name).suffix.lower() in JPEG_SUFFIXES | {".png"}}
    images = []
    for name, path in paths.items():
        output_name = name
        if name not in taken:
            while output_name == name or output_name in taken:
                output_name += ".png"
            taken.add(output_name)
        images.append(InputImage(path, name=name, output_name=output_name))
    return images


def _open_video(source: str | int, name: str) -> Video:
    """Open a video file by its path, or a camera by its number. Raises UserError if OpenCV cannot open the source."""
    is_camera = isinstance(source, int)
    with silence_native_stderr():
        capture = cv2.VideoCapture(source)
    if not capture.isOpened():
        raise UserError(
            f"--input: OpenCV cannot open camera {source}. "
            "Connect the camera, and close other programs that use the camera."
            if is_camera
            else f"--input: OpenCV cannot open {source} as a video. Choose another file, or convert the video to MP4."
        )
    return Video(capture, name=name, is_camera=is_camera)


@contextlib.contextmanager
def silence_native_stderr() -> Iterator[None]:
    """Discard all output to file descriptor 2 (stderr) inside a `with` block.

    OpenCV and FFmpeg bypass sys.stderr and write error messages directly to the file descriptor. Callers report the
    same errors as a UserError.
    """
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def _refuse_overwriting(outputs: Collection[Path], inputs: Iterable[Path]) -> None:
    """Check that no output path is the path of an input file. Raises UserError if an input would be overwritten."""
    input_of = {os.path.realpath(path): path for path in inputs}
    for path in sorted(outputs):
        overwritten = input_of.get(os.path.realpath(path))
        if overwritten is not None:
            raise UserError(
                f"--output: results in {path.parent} would overwrite the input {overwritten}. "
                "Set --output to another folder."
            )
