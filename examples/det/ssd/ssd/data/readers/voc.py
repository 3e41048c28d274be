"""Pascal VOC folders, of one year or several, to COCO-form annotations.

A year has Annotations/NAME.xml, JPEGImages/NAME.jpg and ImageSets/Main/SPLIT.txt, a NAME a line. Corners in the XML
files are pixels counted from 1, both of them inside the box (VOC2012 development kit, section 2): a box over the whole
of a 500x375 image is 1, 1, 500, 375.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from ...errors import UserError
from ...runtime.progress import Progress
from ..images import IMAGE_SUFFIXES, probe_images
from .annotations import BROKEN, Annotations, find_path, read_lines

CORNERS = ("xmin", "ymin", "xmax", "ymax")
FLAGS = ("difficult", "truncated", "occluded")


class VocFolder:
    """A folder of Pascal VOC's form. path: a year's folder, one that holds years, or one that holds VOCdevkit."""

    train_splits, val_splits = ("train",), ("val",)

    def __init__(self, path: Path):
        self.path = path
        folders = [path, *sorted(path.glob("*")), *sorted(path.glob("VOCdevkit/*"))]
        self.years = [_Year(folder) for folder in folders if _annotation_dir(folder)]
        if not self.years:
            raise UserError(
                f"{path}: got no folder Annotations with XML files in it or in its folders, expected Pascal VOC's "
                "form; check --data_path"
            )

    def has(self, split: str) -> bool:
        return any(year.list_path(name).is_file() for year, name in self._lists(split))

    def read(self, splits: dict[str, list[str] | None]) -> dict[str, Annotations]:
        """splits: {what: names of splits, as `train` for that of all years or `VOC2007/train`, None for all there is}
        Classes are the names of all objects, in the order of the alphabet. Raises UserError."""
        found = {what: self._find(names) for what, names in splits.items()}
        read: dict[str, list[dict]] = {}
        problems: dict[str, dict[str, list[str]]] = {what: {} for what in found}
        with Progress(sum(map(len, found.values())), "reading annotations", "files") as progress:
            for what, members in found.items():
                read[what] = []
                for year, name in members:
                    read[what].append(year.read(name, problems[what]))
                    progress.update()
        objects = [entry for images in read.values() for image in images for entry in image["objects"]]
        names = sorted({entry["name"] for entry in objects})
        ids = {name: number for number, name in enumerate(names, start=1)}
        categories = [{"id": number, "name": name} for name, number in ids.items()]
        done = {}
        first_id = 1  # ids are not used again in another split, so that an id alone says which image it is
        for what, images in read.items():
            _add_sizes(images, self.path, what, problems[what])
            content = _to_coco(images, ids, first_id)
            first_id += len(images)
            done[what] = Annotations({**content, "categories": categories}, self.path, self.path, problems[what])
        return done

    def _lists(self, split: str) -> list[tuple[_Year, str]]:
        """Where a split of all years or, as YEAR/SPLIT, of one is listed."""
        folder, _, name = split.rpartition("/")
        wanted = [year for year in self.years if folder in ("", year.path.name, year.path.name.removeprefix("VOC"))]
        return [(year, name) for year in wanted]

    def _find(self, splits: list[str] | None) -> list[tuple[_Year, str]]:
        """The years and names of a split's images, each once, in the order of the lists."""
        if splits is None:
            return [(year, name) for year in self.years for name in sorted(year.annotations)]
        found: dict[tuple[_Year, str], None] = {}
        for split in splits:
            if not self.has(split):
                raise UserError(
                    f"{self.path}: got no ImageSets/Main/{split.rpartition('/')[2]}.txt for split {split!r}, expected "
                    "one; name others by --train_split and --val_split, or give --val_fraction 0.2"
                )
            for year, name in self._lists(split):
                if year.list_path(name).is_file():
                    found.update(dict.fromkeys((year, member) for member in year.members(name)))
        return list(found)


class _Year:
    """One year's folder."""

    def __init__(self, path: Path):
        self.path = path
        self.annotation_dir = _annotation_dir(path)
        self.annotations = {file.stem: file for file in _xml_files(self.annotation_dir)}
        self.image_dir = _subfolder(path, "JPEGImages") or _subfolder(path, "images")
        if self.image_dir is None:
            raise UserError(f"{path / 'JPEGImages'}: got no such folder, expected the images; check --data_path")
        files = [file for file in self.image_dir.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES]
        self.images = {file.stem: file for file in sorted(files, reverse=True) if not file.name.startswith(".")}

    def list_path(self, split: str) -> Path:
        return self.path / "ImageSets" / "Main" / f"{split}.txt"

    def members(self, split: str) -> list[str]:
        """Names in the list of a split. Raises UserError for one without annotations."""
        path = self.list_path(split)
        names = [line.strip() for line in read_lines(path) if line.strip()]
        for name in names:
            if name not in self.annotations:
                raise UserError(
                    f"{path}: got {name!r}, which has no {self.annotation_dir / name}.xml, expected names of annotated "
                    "images alone; mend the list"
                )
        return names

    def read(self, name: str, problems: dict[str, list[str]]) -> dict:
        """What an XML file says: `path` of it and of its `image`, `stated` height and width, None where not given, and
        `objects` with `bbox` of COCO's form and `name`. Raises UserError."""
        path = self.annotations[name]
        try:
            tree = ElementTree.parse(path).getroot()
        except (ElementTree.ParseError, ValueError, LookupError) as error:
            raise UserError(f"{path}: got {error}, expected XML; mend the file") from None
        objects = []
        for number, element in enumerate(tree.findall("object"), start=1):
            entry = _read_object(element, f"{path}: object {number}")
            if min(entry["bbox"][2:]) <= 0:
                problems.setdefault("boxes without extent, left out", []).append(f"{path}, object {number}")
            else:
                objects.append(entry)
        stated = tuple(_number(tree.find("size"), side) for side in ("height", "width"))
        return {"path": path, "image": self._image_of(name, tree), "stated": stated, "objects": objects}

    def _image_of(self, name: str, tree: ElementTree.Element) -> Path:
        """The image of the same name, which tools that rename files keep in step, else the one the XML file names,
        which need not be there."""
        stated = self.image_dir / Path((tree.findtext("filename") or "").strip().replace("\\", "/")).name
        if stated.stem == name and stated.is_file():
            return stated
        return self.images.get(name, stated if stated.is_file() else self.image_dir / f"{name}.jpg")


def _add_sizes(images: list[dict], root: Path, what: str, problems: dict[str, list[str]]) -> None:
    """Give images their height and width, as far as they can be read, and file_name relative to root."""
    with Progress(len(images), f"looking at images: {what}", "images") as progress:
        for image, file in zip(images, probe_images([image["image"] for image in images])):
            image["file_name"] = image["image"].relative_to(root).as_posix()
            if file.size is None:
                problems.setdefault(BROKEN, []).append(file.wrong)
            else:
                image["height"], image["width"] = file.size
                if all(image["stated"]) and image["stated"] != file.size:
                    height, width = image["stated"]
                    problems.setdefault(BROKEN, []).append(
                        f"{image['path']}: got size {width:g}x{height:g} of {image['image'].name}, which has "
                        f"{file.size[1]}x{file.size[0]} stored pixels and may be rotated by EXIF"
                    )
            progress.update()


def _read_object(element: ElementTree.Element, where: str) -> dict:
    """An <object>; parts of it, which have names and boxes of their own, are passed over. Raises UserError."""
    name = (element.findtext("name") or "").strip()  # only its own: those of its parts lie deeper
    if not name:
        raise UserError(f"{where}: got no name, expected one; mend the file")
    corners = [_number(element.find("bndbox"), corner) for corner in CORNERS]
    if None in corners:
        raise UserError(f"{where}: got no finite number for each of {', '.join(CORNERS)}, expected four; mend the file")
    x0, y0, x1, y1 = corners
    flags = {flag: int((element.findtext(flag) or "0").strip().lower() in ("1", "true")) for flag in FLAGS}
    return {"name": name, "bbox": [x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1], **flags}


def _to_coco(images: list[dict], ids: dict[str, int], first_id: int) -> dict:
    """What VOC calls difficult becomes a crowd region: pycocotools has no other way to ask for no detection there and
    to call none wrong, and training leaves those out."""
    entries, annotations = [], []
    for image_id, image in enumerate(images, start=first_id):
        known = {key: image[key] for key in ("file_name", "height", "width") if key in image}
        entries.append({"id": image_id, **known})
        for entry in image["objects"]:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": ids[entry["name"]],
                    "bbox": entry["bbox"],
                    "area": entry["bbox"][2] * entry["bbox"][3],
                    "iscrowd": entry["difficult"],
                    **{flag: entry[flag] for flag in FLAGS},
                }
            )
    return {"images": entries, "annotations": annotations}


def _number(element: ElementTree.Element | None, key: str) -> float | None:
    try:
        value = float(element.findtext(key))
    except (AttributeError, TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _annotation_dir(folder: Path) -> Path | None:
    """A year's folder of XML files."""
    found = _subfolder(folder, "Annotations")  # as COCO calls its own
    return found if found and _xml_files(found) else None


def _xml_files(folder: Path) -> list[Path]:
    """Without what macOS leaves beside files, as `._a.xml`."""
    return [path for path in folder.iterdir() if path.suffix.lower() == ".xml" and not path.name.startswith(".")]


def _subfolder(folder: Path, name: str) -> Path | None:
    """folder/name, whatever the case of its letters."""
    found = find_path(folder, name)
    return found if found and found.is_dir() else None
