"""Read Pascal VOC folders of one or several years as COCO annotations.

The folder of a year contains Annotations/NAME.xml, JPEGImages/NAME.jpg and ImageSets/Main/SPLIT.txt with one NAME per
line. Box corners in the XML files are pixel coordinates counted from 1, and a box includes the pixels of both corners
(VOC2012 development kit, section 2). A box around a whole image of 500x375 pixels is therefore 1, 1, 500, 375.
"""

from __future__ import annotations

import dataclasses
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from ...errors import UserError
from ...runtime.progress import Progress
from ..images import IMAGE_SUFFIXES
from .annotations import EMPTY_BOXES, UncheckedSplit, find_path_ignoring_case, read_text_lines
from .stated_sizes import probe_annotated_images

CORNERS = ("xmin", "ymin", "xmax", "ymax")
FLAGS = ("difficult", "truncated", "occluded")


class VocFolder:
    """A Pascal VOC folder: the folder of one year, a folder of several years, or the parent folder of VOCdevkit."""

    train_splits: tuple[str, ...] = ("train",)
    val_splits: tuple[str, ...] = ("val",)

    def __init__(self, path: Path):
        self.path = path
        folders = [path, *sorted(path.glob("*")), *sorted(path.glob("VOCdevkit/*"))]
        found = [(folder, _find_annotation_dir(folder)) for folder in folders]
        self.years = [_Year(folder, annotation_dir) for folder, annotation_dir in found if annotation_dir]
        if not self.years:
            raise UserError(
                f"{path}: neither this folder nor its subfolders contain an Annotations folder with XML files. Check "
                "--data_path."
            )

    def has_split(self, split: str) -> bool:
        return any(year.list_path(name).is_file() for year, name in self._find_lists(split))

    def read(self, requested: dict[str, list[str] | None]) -> dict[str, UncheckedSplit]:
        """Read splits, and merge the splits that are listed under the same key, for example "train" or "val".

        requested: {key: names of the splits to merge}. `train` refers to all years, `VOC2007/train` to VOC2007 only.
            None instead of names selects all annotated images.
        Returns {key: merged split}. The classes are all object names that occur in these splits, in alphabetical order.
        Image ids are unique across all splits. Raises UserError if a split is missing, or an XML file is invalid.
        """
        members = {key: self._find_members(names) for key, names in requested.items()}
        problems: dict[str, dict[str, list[str]]] = {key: {} for key in members}
        files: dict[str, list[_AnnotationFile]] = {key: [] for key in members}
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
            coco_dict = _to_coco(read, sizes=sizes, root=self.path, category_ids=category_ids, first_id=first_id)
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
                if year.list_path(name).is_file():
                    found.update(dict.fromkeys((year, member) for member in year.read_list(name)))
        return list(found)


@dataclasses.dataclass(frozen=True)
class _AnnotationFile:
    """Content of an XML annotation file.

    path: path of the XML file
    image_path: path of the image file, which may not exist
    stated_size: (height, width) in pixels according to the XML file; None for each missing value
    objects: one dictionary per object with its name, bbox (x, y, width, height in pixels) and flags
    """

    path: Path
    image_path: Path
    stated_size: tuple[float | None, float | None]
    objects: list[dict]


class _Year:
    """The folder of one Pascal VOC year.

    path: folder of the year
    annotation_dir: folder of the XML files
    """

    def __init__(self, path: Path, annotation_dir: Path):
        self.path = path
        self.annotation_dir = annotation_dir
        self.xml_paths = {file.stem: file for file in _list_xml_files(annotation_dir)}
        image_dir = _find_subfolder(path, "JPEGImages") or _find_subfolder(path, "images")
        if image_dir is None:
            raise UserError(f"{path / 'JPEGImages'}: the image folder does not exist. Check --data_path.")
        self.image_dir = image_dir
        files = [file for file in image_dir.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES]
        self.image_paths = {file.stem: file for file in sorted(files, reverse=True) if not file.name.startswith(".")}

    def list_path(self, split: str) -> Path:
        return self.path / "ImageSets" / "Main" / f"{split}.txt"

    def read_list(self, split: str) -> list[str]:
        """Read the image names from the list file of a split. Raises UserError if an image has no XML file."""
        path = self.list_path(split)
        names = [line.strip() for line in read_text_lines(path) if line.strip()]
        for name in names:
            if name not in self.xml_paths:
                raise UserError(
                    f"{path}: image {name!r} has no annotation file {self.annotation_dir / name}.xml. Add the file, or "
                    "remove the name from the list."
                )
        return names

    def read(self, name: str, problems: dict[str, list[str]]) -> _AnnotationFile:
        """Read the XML file of an image.

        name: name of the image without folder and suffix
        problems: {kind of problem: texts}; boxes whose width or height is not positive are left out and added here
        Raises UserError if the file is not valid XML, or an object is invalid.
        """
        path = self.xml_paths[name]
        try:
            root = ElementTree.parse(path).getroot()
        except (ElementTree.ParseError, ValueError, LookupError) as error:
            raise UserError(f"{path}: the file is not valid XML ({error}). Correct the file.") from None
        objects = []
        for number, element in enumerate(root.findall("object"), start=1):
            entry = _read_object(element, f"{path}: object {number}")
            if min(entry["bbox"][2:]) <= 0:
                problems.setdefault(EMPTY_BOXES, []).append(f"{path}, object {number}")
            else:
                objects.append(entry)
        size = root.find("size")
        stated_size = (_read_number(size, "height"), _read_number(size, "width"))
        return _AnnotationFile(path, self._find_image(name, root), stated_size=stated_size, objects=objects)

    def _find_image(self, name: str, root: ElementTree.Element) -> Path:
        """Return the path of the image that an XML file annotates. The image may not exist.

        An image with the name of the XML file has priority over the <filename> element, because tools that rename files
        do not update this element.
        """
        stated = self.image_dir / Path((root.findtext("filename") or "").strip().replace("\\", "/")).name
        if stated.stem == name and stated.is_file():
            return stated
        return self.image_paths.get(name, stated if stated.is_file() else self.image_dir / f"{name}.jpg")


def _read_object(element: ElementTree.Element, where: str) -> dict:
    """Parse an <object> element. <part> elements inside the object are ignored.

    where: position in the file, for error messages
    Returns a dictionary with `name`, `bbox` (x, y, width, height in pixels from 0) and each of FLAGS (0 or 1).
    Raises UserError if the name or a corner of the box is missing.
    """
    name = (element.findtext("name") or "").strip()  # findtext finds only direct children, not the names of parts
    if not name:
        raise UserError(f"{where}: the class name is missing. Add a <name> element.")
    box = element.find("bndbox")
    corners = [_read_number(box, corner) for corner in CORNERS]
    x0, y0, x1, y1 = corners
    if x0 is None or y0 is None or x1 is None or y1 is None:
        invalid = [tag for tag, value in zip(CORNERS, corners) if value is None]
        raise UserError(f"{where}: <bndbox> has no finite number for {', '.join(invalid)}. Correct the file.")
    flags = {flag: int((element.findtext(flag) or "0").strip().lower() in ("1", "true")) for flag in FLAGS}
    return {"name": name, "bbox": [x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1], **flags}


def _to_coco(
    files: list[_AnnotationFile],
    sizes: list[tuple[int, int] | None],
    root: Path,
    category_ids: dict[str, int],
    first_id: int,
) -> dict:
    """Convert XML annotations to a COCO JSON object without categories.

    Objects marked difficult become crowd regions (iscrowd = 1). Like the VOC evaluation, pycocotools then ignores
    detections of these objects. Training leaves these objects out.

    files: contents of the XML files
    sizes: (height, width) of each image in pixels, upright or as stored; None if unknown
    root: dataset folder; file names in the result are relative to this folder
    category_ids: {object name: COCO category id}
    first_id: image id of the first image
    """
    images: list[dict] = []
    annotations: list[dict] = []
    for image_id, (file, size) in enumerate(zip(files, sizes), start=first_id):
        image = {"id": image_id, "file_name": file.image_path.relative_to(root).as_posix()}
        images.append({**image, "height": size[0], "width": size[1]} if size else image)
        for entry in file.objects:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category_ids[entry["name"]],
                    "bbox": entry["bbox"],
                    "area": entry["bbox"][2] * entry["bbox"][3],
                    "iscrowd": entry["difficult"],
                    **{flag: entry[flag] for flag in FLAGS},
                }
            )
    return {"images": images, "annotations": annotations}


def _read_number(element: ElementTree.Element | None, tag: str) -> float | None:
    """Return the number in the child element `tag`; None if the child is missing or not a finite number."""
    text = None if element is None else element.findtext(tag)
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _find_annotation_dir(folder: Path) -> Path | None:
    """Return the Annotations folder of a year; None if this folder is missing or contains no XML files.

    COCO's folder `annotations` is excluded, because this folder contains JSON files.
    """
    found = _find_subfolder(folder, "Annotations")
    return found if found and _list_xml_files(found) else None


def _list_xml_files(folder: Path) -> list[Path]:
    """Return the paths of the XML files in a folder, without the hidden files `._NAME.xml` that macOS creates."""
    return [path for path in folder.iterdir() if path.suffix.lower() == ".xml" and not path.name.startswith(".")]


def _find_subfolder(folder: Path, name: str) -> Path | None:
    """Return the subfolder `name`, ignoring upper and lower case; None if the subfolder does not exist."""
    found = find_path_ignoring_case(folder, name)
    return found if found and found.is_dir() else None
