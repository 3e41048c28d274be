"""Read Pascal VOC folders of one or several years, and XML files where other tools put them, as COCO annotations.

The folder of a year contains Annotations/NAME.xml, JPEGImages/NAME.jpg and ImageSets/Main/SPLIT.txt with one NAME per
line. Other tools write XML files beside the images, in one folder for all images or in a folder for each split.
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Collection
from pathlib import Path

from ...errors import UserError
from ...runtime.progress import Progress
from ..image_formats import IMAGE_SUFFIXES
from .annotations import Problems, UncheckedSplit, find_path_ignoring_case, list_files, read_text_lines
from .data_folders import DataFolders
from .image_finder import image_name
from .voc_sizes import probe_annotated_images
from .voc_xml import AnnotationFile, read_annotation_file, to_coco

IMAGE_DIRS = ("JPEGImages", "images", ".")
ANNOTATION_DIRS = ("Annotations", "annotations/xmls", "xmls", "xml", "labels", *IMAGE_DIRS)  # or beside the images
LISTS = ("ImageSets/Main/{}.txt", "ImageSets/{}.txt", "{}.txt")


class VocFolder:
    """A Pascal VOC folder: the folder of one year, a folder of several years, or the parent folder of VOCdevkit."""

    train_splits: tuple[str, ...] = ("train",)
    val_splits: tuple[str, ...] = ("val", "valid")

    def __init__(self, path: Path, *, follow_links: bool = False):
        """Open a folder. follow_links: True reads files outside the folder too, to which links lead"""
        self.path = path
        data_folders = DataFolders([path], follow_links=follow_links)
        self.years: list[_Year] = []
        used: set[Path] = set()  # the folder Annotations of a year is not a year itself
        for folder in filter(Path.is_dir, [path, *sorted(path.glob("*")), *sorted(path.glob("VOCdevkit/*"))]):
            annotation_dir = _find_annotation_dir(folder)
            if annotation_dir is not None and annotation_dir not in used:
                used.add(annotation_dir)
                self.years.append(_Year(folder, annotation_dir, data_folders))
        if not self.years:
            raise UserError(
                f"{path}: neither this folder nor its subfolders contain XML files, beside the images or in an "
                "Annotations folder. Check --data_path."
            )

    def has_split(self, split: str) -> bool:
        return any(year.has_split(name) for year, name in self._find_lists(split))

    def read(self, requested: dict[str, list[str] | None]) -> dict[str, UncheckedSplit]:
        """Read splits, and merge the splits that are listed under the same key, for example "train" or "val".

        requested: {key: names of the splits to merge}. `train` refers to all years, `VOC2007/train` to VOC2007 only.
            None instead of names selects all annotated images.
        Returns {key: merged split}. The classes are all object names that occur in these splits, in alphabetical order.
        Image ids are unique across all splits. Raises UserError if a split is missing, or an XML file is invalid.
        """
        members = {key: self._find_members(names) for key, names in requested.items()}
        problems: dict[str, Problems] = {key: {} for key in members}
        files: dict[str, list[AnnotationFile]] = {key: [] for key in members}
        with Progress(sum(map(len, members.values())), "reading annotations", "files") as progress:
            for key, pairs in members.items():
                for year, name in pairs:
                    files[key].append(year.read(name, problems[key]))
                    progress.update()
        names = sorted({entry["name"] for read in files.values() for file in read for entry in file.objects})
        category_ids = {name: number for number, name in enumerate(names, start=1)}
        categories = [{"id": number, "name": name} for name, number in category_ids.items()]
        splits = {}
        first_id = 1
        for key, read in files.items():
            sizes, probes = probe_annotated_images(
                [file.image_path for file in read],
                annotation_paths=[file.path for file in read],
                stated_sizes=[file.stated_size for file in read],
                problems=problems[key],
            )
            coco_dict = to_coco(read, sizes=sizes, root=self.path, category_ids=category_ids, first_id=first_id)
            first_id += len(read)
            coco_dict["categories"] = categories
            splits[key] = UncheckedSplit(coco_dict, self.path, self.path, problems=problems[key], probes=probes)
        return splits

    def _find_lists(self, split: str) -> list[tuple[_Year, str]]:
        """Parse a split name, and return pairs of a year and the split name without the year.

        split: SPLIT for all years, or YEAR/SPLIT for one year
        """
        wanted, _, name = split.rpartition("/")
        years = [year for year in self.years if wanted in ("", year.path.name, year.path.name.removeprefix("VOC"))]
        return [(year, name) for year in years]

    def _find_members(self, splits: list[str] | None) -> list[tuple[_Year, str]]:
        """Return the year and the name of each image in the given splits, without duplicates.

        splits: names of splits; None selects all annotated images, sorted by name within each year
        Raises UserError if a split does not exist.
        """
        if splits is None:
            return [(year, name) for year in self.years for name in sorted(year.xml_paths)]
        found: dict[tuple[_Year, str], None] = {}
        for split in splits:
            if not self.has_split(split):
                raise UserError(
                    f"{self.path}: the list ImageSets/Main/{split.rpartition('/')[2]}.txt of split {split!r} does not "
                    "exist. Select existing splits with --train_split and --val_split, or add --val_fraction 0.2."
                )
            for year, name in self._find_lists(split):
                if year.has_split(name):
                    found.update(dict.fromkeys((year, member) for member in year.members(name)))
        return list(found)


class _Year:
    """A folder of XML files and their images: a Pascal VOC year, or the folder of a split.

    path: the folder
    annotation_dir: folder of the XML files
    data_folders: folders that all files must lie in
    """

    def __init__(self, path: Path, annotation_dir: Path, data_folders: DataFolders):
        self.path = path
        self.data_folders = data_folders
        self.annotation_dir = annotation_dir
        self.xml_paths = {image_name(file.name): file for file in _find_files(annotation_dir, (".xml",))}
        folders = [_find_subfolder(path, name) for name in IMAGE_DIRS] + [annotation_dir]
        images = [(folder, _find_files(folder, IMAGE_SUFFIXES)) for folder in folders if folder is not None]
        found = next((pair for pair in images if pair[1]), None)
        if found is None:
            raise UserError(
                f"{annotation_dir}: the folder has XML files, but there are no images in {path / 'JPEGImages'}, "
                f"{path / 'images'} and {path}. Add the images, or move the folder away if it belongs to no image."
            )
        self.image_dir, files = found
        self.image_paths = {image_name(file.name): file for file in sorted(files, reverse=True)}

    def list_path(self, split: str) -> Path | None:
        """Return the file that lists the images of a split; None if there is no such file."""
        paths = (folder / name.format(split) for folder in (self.path, self.annotation_dir) for name in LISTS)
        return next(filter(os.path.isfile, paths), None)  # False also for names that no file can have

    def has_split(self, split: str) -> bool:
        return self.list_path(split) is not None or self.path.name == split

    def members(self, split: str) -> list[str]:
        """Return the names of the images of a split, which is a list, or else the whole folder with its name.

        Raises UserError if a listed image has no XML file.
        """
        path = self.list_path(split)
        if path is None:
            return sorted(self.xml_paths)
        names = [image_name(line.strip()) for line in read_text_lines(self.data_folders.require(path)) if line.strip()]
        for name in names:
            if name not in self.xml_paths:
                raise UserError(
                    f"{path}: image {name!r} has no annotation file {self.annotation_dir / name}.xml. Add the file, or "
                    "remove the name from the list."
                )
        return names

    def read(self, name: str, problems: Problems) -> AnnotationFile:
        """Read the XML file of an image. problems: {kind of problem: texts}, to which problems of boxes are added"""
        path = self.data_folders.require(self.xml_paths[name])
        return read_annotation_file(
            path, lambda stated: self.data_folders.require(self._find_image(name, stated)), problems
        )

    def _find_image(self, name: str, stated_name: str) -> Path:
        """Return the path of the image that an XML file annotates. The image may not exist.

        An image with the name of the XML file has priority over the <filename> element, because tools that rename files
        do not update this element. The element may differ from the file as `find_images` describes.
        """
        stated = self.image_dir / Path(stated_name.replace("\\", "/")).name
        if (stated.stem == name or name not in self.image_paths) and os.path.isfile(stated):  # no error for long names
            return stated
        names = (name, image_name(stated_name), image_name(urllib.parse.unquote(stated_name)))
        return next((self.image_paths[key] for key in names if key in self.image_paths), self.image_dir / f"{name}.jpg")


def _find_annotation_dir(folder: Path) -> Path | None:
    """Return the folder of the XML files of a year; None if there is none.

    COCO's folder `annotations` is excluded, because this folder contains JSON files.
    """
    found = (_find_subfolder(folder, name) for name in ANNOTATION_DIRS)
    return next((path for path in found if path is not None and _find_files(path, (".xml",))), None)


def _find_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Return the files in a folder with one of the suffixes, without hidden files."""
    return [folder / name for name in list_files(folder) if os.path.splitext(name)[1].lower() in suffixes]


def _find_subfolder(folder: Path, name: str) -> Path | None:
    """Return the subfolder `name`, ignoring upper and lower case; None if the subfolder does not exist."""
    found = find_path_ignoring_case(folder, name)
    return found if found and found.is_dir() else None
