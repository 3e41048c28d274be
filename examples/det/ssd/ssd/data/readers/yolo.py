"""Read folders of images with YOLO label files as COCO annotations.

yolo_label_rows.py describes the rows of label files, and yolo_label_files.py their places.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ...errors import UserError
from ...runtime.progress import Progress
from ..image_formats import IMAGE_SUFFIXES
from ..images import ImageProbe, probe_images
from .annotations import UNUSABLE_IMAGES, UncheckedSplit, check_box_count, find_path_ignoring_case, read_text_lines
from .data_folders import DataFolders
from .image_finder import find_images
from .yolo_label_files import WITHOUT_IMAGE, LabelFiles
from .yolo_label_rows import LabelRow, choose_keypoint_counts, parse_row, row_to_box
from .yolo_names import find_class_names_file, read_settings

OUTSIDE_DATA_PATH = "images outside --data_path"  # a kind of problem


class YoloFolder:
    """A folder of images with YOLO labels.

    The split NAME is defined by the key NAME of data.yaml, by one of the folders images/NAME, NAME/images and NAME, or
    by a file NAME.txt with one image path per line.
    """

    train_splits: tuple[str, ...] = ("train",)
    val_splits: tuple[str, ...] = ("val", "valid")

    def __init__(self, path: Path, names_path: Path | None = None, *, follow_links: bool = False):
        """Open a folder.

        names_path: data.yaml or a file with one class name per line; None searches the folder
        follow_links: True reads files outside the folder too, to which data.yaml, lists or links lead
        """
        if not path.is_dir():
            raise UserError(f"{path}: the folder of images and labels does not exist. Check --data_path.")
        self.path = path
        self.data_folders = DataFolders([path], follow_links=follow_links)
        self.names_path = names_path or self.data_folders.require(find_class_names_file(path))
        self.settings = read_settings(self.names_path)
        self.class_names: list[str] = self.settings["names"]

    def has_split(self, split: str) -> bool:
        return bool(self._find_sources(split))

    def read(self, requested: dict[str, list[str] | None]) -> dict[str, UncheckedSplit]:
        """Read splits, and merge the splits that are listed under the same key, for example "train" or "val".

        requested: {key: names of the splits to merge}; None instead of names selects all images in the folder
        Returns {key: merged split}. Classes have the order of the names file. Image ids are unique across all splits.
        Raises UserError if a split is missing, or a label file is invalid.
        """
        image_paths = {key: self._find_images(names) for key, names in requested.items()}
        problems: dict[str, dict[str, list[str]]] = {key: {} for key in image_paths}
        label_files = LabelFiles(self.path)
        rows: dict[str, list[list[LabelRow]]] = {}
        with Progress(sum(map(len, image_paths.values())), "reading labels", "files") as progress:
            for key, paths in image_paths.items():
                rows[key] = []
                for path in paths:
                    rows[key].append(self._read_label_file(label_files.find(path, problems[key])))
                    progress.update()
        every_row = [row for of_split in rows.values() for of_image in of_split for row in of_image]
        keypoint_counts = choose_keypoint_counts(every_row, self.settings, self.names_path)
        without_image = label_files.find_without_image()
        if without_image:
            problems[next(iter(problems))][WITHOUT_IMAGE] = without_image
        splits, first_id = {}, 1
        for key, paths in image_paths.items():
            splits[key] = self._to_coco(paths, rows[key], keypoint_counts, first_id=first_id, problems=problems[key])
            first_id += len(paths)
        return splits

    def _to_coco(
        self,
        image_paths: list[Path],
        rows: list[list[LabelRow]],
        keypoint_counts: tuple[int, ...],
        *,
        first_id: int,
        problems: dict[str, list[str]],
    ) -> UncheckedSplit:
        """Convert the labels of images to COCO annotations.

        rows: rows of the label file of each image
        keypoint_counts: result of choose_keypoint_counts
        first_id: image id of the first image
        problems: {kind of problem: texts} found so far, to which more are added
        """
        images: list[dict] = []
        annotations: list[dict] = []
        probes: list[ImageProbe] = []
        for image_id, (path, probe) in enumerate(zip(image_paths, probe_images(image_paths)), start=first_id):
            relative = os.path.relpath(path, self.path)
            if not self._is_inside(path):
                relative = os.path.relpath(os.path.realpath(path), os.path.realpath(self.path))
                if probe.size is not None:
                    problems.setdefault(OUTSIDE_DATA_PATH, []).append(str(path))
            images.append({"id": image_id, "file_name": Path(relative).as_posix()})
            probes.append(probe)
            if probe.size is None:
                problems.setdefault(UNUSABLE_IMAGES, []).append(probe.error)
                continue
            height, width = probe.size
            images[-1].update(height=height, width=width)
            for row in rows[image_id - first_id]:
                box_xywh = row_to_box(row, keypoint_counts, problems)
                if box_xywh is None:
                    continue
                x, y, w, h = (box_xywh * [width, height, width, height]).tolist()
                annotation = {"id": len(annotations) + 1, "image_id": image_id, "category_id": row.label + 1}
                annotations.append({**annotation, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0})
        categories = [{"id": number, "name": name} for number, name in enumerate(self.class_names, start=1)]
        coco_dict = {"images": images, "annotations": annotations, "categories": categories}
        return UncheckedSplit(
            coco_dict,
            self.path,
            self.path,
            problems=problems,
            probes=probes,
            data_folders=self.data_folders,
            boxes_were_fractions=True,
        )

    def _find_images(self, splits: list[str] | None) -> list[Path]:
        """Return the image paths of the given splits without duplicates. None selects all images in the folder."""
        if splits is None:
            folder = find_path_ignoring_case(self.path, "images")
            source = folder if folder and folder.is_dir() else self.path
            paths = _list_images(source)
            if not paths:
                raise _no_images(source)
            return list(map(self.data_folders.require, paths))
        found: dict[Path, None] = {}
        for split in splits:
            sources = self._find_sources(split)
            if not sources:
                raise UserError(
                    f"{self.path}: split {split!r}: none of images/{split}, {split}/images, {split} and {split}.txt "
                    "exists, nor a path in data.yaml. Correct --train_split and --val_split, or use --val_fraction."
                )
            for source in sources:
                self.data_folders.require(source)
                paths = self._read_image_list(source) if source.is_file() else _list_images(source)
                if not paths:
                    raise _no_images(source)
                found.update(dict.fromkeys(paths))
        return list(map(self.data_folders.require, found))

    def _read_label_file(self, path: Path | None) -> list[LabelRow]:
        """Read the rows of a label file. Raises UserError if the file is not text, or a row is invalid."""
        if path is None:
            return []
        lines = read_text_lines(self.data_folders.require(path))
        check_box_count(len(lines), str(path))
        return [
            parse_row(
                line.split(), path=path, line=number, num_classes=len(self.class_names), names_path=self.names_path
            )
            for number, line in enumerate(lines, start=1)
            if line.strip()
        ]

    def _find_sources(self, split: str) -> list[Path]:
        """Return the image folders and image lists that define a split; an empty list if the split does not exist.

        Order of preference: paths from data.yaml inside the folder, a usual path inside the folder, other paths from
        data.yaml, a usual path beside data.yaml. A copied data.yaml may still refer to another dataset.
        """
        value = self.settings.get(split)
        entries = [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str) and text]
        usual = [f"images/{split}", f"{split}/images", f"{split}.txt", split]
        inside = [next(filter(self._is_inside, self._candidates(entry)), None) for entry in entries]
        if not any(inside):
            found = next(filter(None, (find_path_ignoring_case(self.path, name) for name in usual)), None)
            if found is not None:
                return [found]
        stated = [path or next(self._candidates(entry), None) for entry, path in zip(entries, inside)]
        sources = [path for path in stated if path is not None]
        if sources and len(sources) < len(stated):
            raise UserError(
                f"{self.names_path}: {split}: {entries[stated.index(None)]!r} is not an existing folder or list of "
                "images. Correct the path."
            )
        beside_names = (find_path_ignoring_case(self.names_path.parent, name) for name in usual)
        return sources or list(filter(None, beside_names))[:1]

    def _candidates(self, entry: str) -> Iterator[Path]:
        """Yield the existing paths that an entry of data.yaml may refer to.

        The key `path` is often a folder of another machine, and the prefix `../` that Roboflow writes is often wrong.
        """
        for text in (entry, entry.replace("\\", "/")):
            without_dots = re.sub(r"^(\.{1,2}/+)+", "", text)
            for relative in (os.path.join(str(self.settings.get("path") or "."), text), text, without_dots):
                for folder in (self.names_path.parent, self.path):
                    if os.path.exists(folder / relative):  # False also for names that no file can have
                        yield folder / relative

    def _is_inside(self, path: Path) -> bool:
        return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(self.path))

    def _read_image_list(self, list_path: Path) -> list[Path]:
        """Read a list of image paths, each relative to the list or the dataset folder. Missing files are included."""
        names = list(filter(None, map(str.strip, read_text_lines(list_path))))
        paths = find_images(names, [list_path.parent, self.path], self.data_folders)
        return [path or self.path / name.replace("\\", "/").lstrip("/") for name, path in zip(names, paths)]


def _list_images(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )


def _no_images(source: Path) -> UserError:
    """Create the error for a folder or a list of images that contains no image."""
    others = sorted({path.suffix for path in source.rglob("*") if path.is_file() and not path.name.startswith(".")})
    found = f", but files with the suffixes {', '.join(others[:5])}" if others else ""
    return UserError(f"{source}: contains no images{found}. Add images, for example as JPEG or PNG files.")
