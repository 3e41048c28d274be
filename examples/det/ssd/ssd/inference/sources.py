"""Inputs of predict.py: find image and video files, or open a camera, and name their results."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import glob
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from ..data.image_formats import IMAGE_SUFFIXES, JPEG_SUFFIXES
from ..errors import UserError
from .addresses import Downloads, is_address, stream_name, without_secrets
from .output_folder import IMAGES_LIST_NAME
from .video_source import VIDEO_SUFFIXES, Video, check_video, open_camera, open_stream


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


@dataclasses.dataclass(frozen=True)
class InputVideo:
    """An input video, with the path of its results.

    path: path of the video file
    name: path relative to the common folder of all inputs, with `/` as the separator
    output_stem: unique path of the results relative to --output, without the suffixes .mp4 and .json
    """

    path: Path
    name: str
    output_stem: str


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Images and videos, sorted by path and without duplicates; or a camera or a stream.

    camera: camera or stream
    downloads: temporary folder with those files that were downloaded
    """

    images: list[InputImage] = dataclasses.field(default_factory=list)
    videos: list[InputVideo] = dataclasses.field(default_factory=list)
    camera: Video | None = None
    downloads: Downloads | None = None

    def __len__(self) -> int:
        return len(self.images) + len(self.videos) + (self.camera is not None)

    @property
    def output_names(self) -> set[str]:
        """Paths of all results, relative to --output."""
        stems = [video.output_stem for video in self.videos] + ([self.camera.name] if self.camera else [])
        names = {f"{stem}{suffix}" for stem in stems for suffix in (".mp4", ".json")}
        return names | {image.output_name for image in self.images} | ({IMAGES_LIST_NAME} if self.images else set())


def find_inputs(arguments: Sequence[str], output: Path) -> Inputs:
    """Find the image and video files, or open the camera or the stream, for the values of --input.

    Folders are searched recursively for files with the suffix of an image or a video. Hidden files are skipped. Images
    and videos at addresses are downloaded. A value is interpreted as a pattern, an address or a camera number only if
    no file has that name.

    arguments: values of --input: files, folders, glob patterns and addresses of files; or one camera number or stream
    output: folder of the results, which is not searched
    Raises UserError if nothing is found, if the only input is a video that OpenCV cannot open, or if a result would
    overwrite an input.
    """
    if len(arguments) == 1 and arguments[0].isdecimal() and len(arguments[0]) < 4 and not os.path.exists(arguments[0]):
        return Inputs(camera=open_camera(int(arguments[0])))
    addresses = [argument for argument in arguments if is_address(argument)]
    local = [argument for argument in arguments if argument not in addresses]
    downloads = Downloads() if addresses else None
    for address in addresses:
        assert downloads is not None
        if downloads.fetch(address) is None:
            shown = without_secrets(address)
            if len(arguments) > 1:
                raise UserError(
                    f"--input: {shown} is a stream, which cannot be combined with other inputs. "
                    "Run predict.py once for each stream."
                )
            return Inputs(camera=open_stream(address, name=stream_name(address), shown=shown))
    by_name = _find_local_files(local, output) if local else {}
    if downloads:
        paths = downloads.paths.values()
        for name, path in _name_files(paths, [path.parent for path in paths]).items():
            while name in by_name:
                name = f"downloads/{name}"
            by_name[name] = path
    videos = {name: path for name, path in by_name.items() if _is_video(path)}
    inputs = Inputs(
        images=_assign_image_names({name: path for name, path in by_name.items() if name not in videos}),
        videos=_assign_video_names(videos),
        downloads=downloads,
    )
    if len(inputs) == 1 and videos:
        check_video(inputs.videos[0].path)
    _refuse_overwriting({output / name for name in inputs.output_names}, inputs=by_name.values())
    return inputs


def _find_local_files(arguments: Sequence[str], output: Path) -> dict[str, Path]:
    """Return {path relative to the common folder of all arguments: path} of the images and videos, sorted by path."""
    # Skip the folder of previous results. The shell adds this folder to --input when it expands photos/*.
    without_output = [argument for argument in arguments if not _is_same_path(argument, output)]
    roots: list[Path] = []
    paths: list[Path] = []
    for argument in without_output or arguments:
        root, found = _expand_argument(argument, output)
        roots.append(root)
        paths += found
    return _name_files(paths, roots)


def _name_files(paths: Iterable[Path], roots: Iterable[Path]) -> dict[str, Path]:
    """Return {path relative to the common folder of `roots`: path}, sorted by path and without duplicates."""
    common_folder = os.path.commonpath([os.path.abspath(root) for root in roots])
    by_absolute_path = {os.path.abspath(path): path for path in paths}
    return {
        Path(os.path.relpath(absolute_path, common_folder)).as_posix(): by_absolute_path[absolute_path]
        for absolute_path in sorted(by_absolute_path)
    }


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def _is_wanted(path: Path) -> bool:
    """Return True for a file in a folder if it is an image or a video by its suffix, and not a TypeScript file."""
    suffix = path.suffix.lower()
    if suffix in (".ts", ".mts"):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            return 0x47 in (head := file.read(5)) and (head[0] == 0x47 or head[4:] == b"\x47")  # MPEG sync byte
        return False
    return suffix in IMAGE_SUFFIXES or suffix in VIDEO_SUFFIXES


def _expand_argument(argument: str, output: Path) -> tuple[Path, list[Path]]:
    """Find the files that a value of --input refers to: a file, the files of a folder, or the matches of a pattern.

    output: folder of the results, which is not searched
    Returns (folder that contains the files, paths of the files).
    Raises UserError if no file is found.
    """
    path = Path(argument)
    if path.is_dir():
        found = list(_search_folder(path, output))
        if not found:
            raise UserError(
                f"--input: folder {argument} contains no images or videos. Choose a folder with .jpg, .mp4 or similar "
                "files."
            )
        return path, found
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
    """Find the images and videos that a glob pattern matches, including those in matching folders.

    root: folder before the first wildcard of the pattern
    output: folder of the results, which is skipped unless `root` is inside this folder
    Raises UserError if the pattern matches no image and no video.
    """
    found: list[Path] = []
    for path in map(Path, glob.glob(pattern, recursive=True)):
        if _is_within(path, output) and not _is_within(root, output):
            continue
        if path.is_dir():
            if "**" not in pattern:  # with **, the pattern itself matches the files in the folder
                found += _search_folder(path, output)
        elif _is_wanted(path):
            found.append(path)
    if not found:
        raise UserError(f"--input: {pattern} does not match any image or video. Check the pattern.")
    return found


def _search_folder(folder: Path, output: Path) -> Iterator[Path]:
    """Yield the images and videos in a folder and its subfolders, except hidden files and the folder `output`."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and not _is_same_path(os.path.join(parent, name), output)
        ]
        for name in names:
            if not name.startswith(".") and _is_wanted(Path(parent) / name):
                yield Path(parent) / name


def _is_same_path(first: str | Path, second: str | Path) -> bool:
    return os.path.realpath(first) == os.path.realpath(second)


def _is_within(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _assign_image_names(paths: dict[str, Path]) -> list[InputImage]:
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


def _assign_video_names(paths: dict[str, Path]) -> list[InputVideo]:
    """Create an InputVideo with a unique output stem for each video file.

    paths: {name: path of the video file}
    Returns the videos in the order of `paths`. The stem is the name without its suffix. If several videos of a folder
    differ only in the suffix, all but the .mp4 file keep the suffix in the stem.
    """
    counts = collections.Counter(_stem(name) for name in paths)
    keep_stem = {name for name in paths if counts[_stem(name)] == 1 or Path(name).suffix == ".mp4"}
    taken = {_stem(IMAGES_LIST_NAME)} | {_stem(name) for name in keep_stem}
    videos = []
    for name, path in paths.items():
        stem = _stem(name)
        if name not in keep_stem or f"{stem}.json" == IMAGES_LIST_NAME:
            stem = name
            while stem in taken:
                stem += ".mp4"
            taken.add(stem)
        videos.append(InputVideo(path, name=name, output_stem=stem))
    return videos


def _stem(name: str) -> str:
    return Path(name).with_suffix("").as_posix()


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
