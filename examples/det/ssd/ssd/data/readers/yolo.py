"""Images with YOLO text labels to COCO-form annotations.

A label file has a line `class x y width height` for each object: the class counted from 0, the box by its centre and
size in shares of the image. A line may hold a polygon instead, `class x y x y x y …`, which gives the box around it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml

from ...errors import UserError
from ...runtime.progress import Progress
from ..images import IMAGE_SUFFIXES, probe_images
from .annotations import BROKEN, Annotations, find_path, read_lines

OUTSIDE = "images from outside of --data_path"
TURNED = "images turned by EXIF, whose boxes are taken to be of the pixels as stored; if not, save them upright"
MAX_SHARE = 1.01  # what rounding may add to 1; more are pixels, not shares


class YoloFolder:
    """A folder of images with YOLO labels. names_path: data.yaml with `names`, or a name a line; searched if None.

    A split NAME is a folder images/NAME or NAME/images or NAME, a list NAME.txt of image files, or what data.yaml says.
    Labels lie beside their image, or in a folder `labels` where the image's path has `images`.
    """

    train_splits, val_splits = ("train",), ("val", "valid")

    def __init__(self, path: Path, names_path: Path | None = None):
        if not path.is_dir():
            raise UserError(f"{path}: got no such folder, expected images and labels; check --data_path")
        self.path = path
        self.names_path = names_path or find_names(path)
        self.settings = read_names(self.names_path)
        self.names: list[str] = self.settings["names"]

    def has(self, split: str) -> bool:
        return bool(self._places(split))

    def read(self, splits: dict[str, list[str] | None]) -> dict[str, Annotations]:
        """splits: {what: names of splits, None for all there is}. Classes are those of the names file, in its order.
        Raises UserError."""
        found = {what: self._find(names) for what, names in splits.items()}
        done, first_id = {}, 1
        with Progress(sum(map(len, found.values())), "reading labels", "files") as progress:
            for what, paths in found.items():
                done[what] = self._read_split(paths, first_id, progress)
                first_id += len(paths)
        return done

    def _read_split(self, paths: list[Path], first_id: int, progress: Progress) -> Annotations:
        """Images of these files, numbered from first_id."""
        images, annotations, problems = [], [], {}
        for image_id, (path, file) in enumerate(zip(paths, probe_images(paths)), start=first_id):
            progress.update()
            inside = self._is_inside(path)
            base = (path, self.path) if inside else map(os.path.realpath, (path, self.path))
            images.append({"id": image_id, "file_name": Path(os.path.relpath(*base)).as_posix()})
            for kind, is_so in ((OUTSIDE, not inside), (TURNED, file.turned)):
                if is_so:
                    problems.setdefault(kind, []).append(str(path))
            if file.size is None:
                problems.setdefault(BROKEN, []).append(file.wrong)
                continue
            height, width = file.size
            images[-1].update(height=height, width=width)
            for label, box in self._read_labels(path, problems):
                x, y, w, h = (box * [width, height, width, height]).tolist()
                entry = {"id": len(annotations) + 1, "image_id": image_id, "category_id": label + 1}
                annotations.append({**entry, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0})
        categories = [{"id": number, "name": name} for number, name in enumerate(self.names, start=1)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        return Annotations(content, self.path, self.path, problems)

    def _find(self, splits: list[str] | None) -> list[Path]:
        """Image files of a split, each once."""
        if splits is None:
            folder = find_path(self.path, "images")
            return _images_in(folder if folder and folder.is_dir() else self.path)
        found: dict[Path, None] = {}
        for split in splits:
            places = self._places(split)
            if not places:
                raise UserError(
                    f"{self.path}: got no images/{split}, {split}/images or {split}.txt, expected the images of split "
                    f"{split!r}; name others by --train_split and --val_split, or give --val_fraction 0.2"
                )
            for place in places:
                found.update(dict.fromkeys(self._listed(place) if place.is_file() else _images_in(place)))
        return list(found)

    def _places(self, split: str) -> list[Path]:
        """The folders and lists of a split, none if it has none: what data.yaml says as far as it lies in the data,
        else a usual place there, else one elsewhere. Data move, and what data.yaml says may be another set by now."""
        stated = self.settings.get(split)
        stated = stated if isinstance(stated, list) else [stated]
        entries = [entry for entry in stated if isinstance(entry, str) and entry]
        usual = [f"images/{split}", f"{split}/images", f"{split}.txt", split]
        inside = [next(filter(self._is_inside, self._stated(entry)), None) for entry in entries]
        if not any(inside):
            place = next(filter(None, (find_path(self.path, name) for name in usual)), None)
            if place is not None:
                return [place]
        places = [place or next(self._stated(entry), None) for place, entry in zip(inside, entries)]
        if any(places) and not all(places):
            raise UserError(
                f"{self.names_path}: got {entries[places.index(None)]!r} for {split}, expected folders of images or "
                "lists of files that exist; mend the file"
            )
        elsewhere = filter(None, (find_path(self.names_path.parent, name) for name in usual))
        return places if any(places) else list(elsewhere)[:1]

    def _stated(self, entry: str) -> Iterator[Path]:
        """Where a folder or list of data.yaml may be: `path` is often of another machine, Roboflow's `../` of none."""
        for text in (entry, entry.replace("\\", "/")):
            short = re.sub(r"^(\.{1,2}/+)+", "", text)
            for place in (os.path.join(str(self.settings.get("path") or "."), text), text, short):
                for folder in (self.names_path.parent, self.path):
                    if (folder / place).exists():
                        yield folder / place

    def _is_inside(self, path: Path) -> bool:
        return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(self.path))

    def _listed(self, list_path: Path) -> list[Path]:
        """Files that a list names, relative to it or to the data, also with the `\\` of Windows; whether they exist is
        seen when they are read."""
        found = []
        for line in filter(None, map(str.strip, read_lines(list_path))):
            words = (line, line.replace("\\", "/"))
            tried = [folder / word for word in words for folder in (list_path.parent, self.path)]
            found.append(next((path for path in tried if path.is_file()), tried[-1]))
        return found

    def _read_labels(self, image_path: Path, problems: dict[str, list[str]]) -> list[tuple[int, np.ndarray]]:
        """(class counted from 0, box_xywh in shares of the image) of each object."""
        path = next((path for path in _label_paths(image_path, self.path) if path.is_file()), None)
        if path is None:
            problems.setdefault("images without a label file, taken for empty", []).append(str(image_path))
            return []
        objects = []
        for number, line in enumerate(read_lines(path), start=1):
            if not line.strip():
                continue
            label, box = self._read_line(line.split(), f"{path}: line {number}")
            if min(box[2:]) <= 0:
                problems.setdefault("boxes without extent, left out", []).append(f"{path}, line {number}")
            else:
                objects.append((label, box))
        return objects

    def _read_line(self, words: list[str], where: str) -> tuple[int, np.ndarray]:
        try:
            values = np.array(words, dtype=np.float64)
        except ValueError:
            values = np.array([])
        is_box, is_polygon = len(values) == 5, len(values) >= 7 and len(values) % 2 == 1
        if not (is_box or is_polygon) or not np.isfinite(values).all():
            raise UserError(
                f"{where}: got {' '.join(words)[:80]!r}, expected `class x y width height` in numbers; mend the file"
            )
        if values[0] not in range(len(self.names)):
            raise UserError(
                f"{where}: got class {words[0]}, expected 0 to {len(self.names) - 1}, the classes of "
                f"{self.names_path}; mend one of them"
            )
        shares = values[1:]
        if shares.max() > MAX_SHARE or shares.min() < 1 - MAX_SHARE:
            raise UserError(
                f"{where}: got {' '.join(words)[:80]!r}, expected shares of the image from 0 to 1; divide pixels by "
                "its width and height"
            )
        if is_box:
            return int(values[0]), np.concatenate([shares[:2] - shares[2:] / 2, shares[2:]])
        points = shares.reshape(-1, 2)
        return int(values[0]), np.concatenate([points.min(axis=0), np.ptp(points, axis=0)])


def _label_paths(image_path: Path, root: Path) -> list[Path]:
    """Where the labels of an image may lie: for root/…/images/a.jpg, root/…/labels/a.txt, else beside it."""
    is_below = image_path.is_relative_to(root)
    parts = image_path.relative_to(root).parts if is_below else image_path.parts
    lowered = [part.lower() for part in parts[:-1]]
    beside = image_path.with_suffix(".txt")
    if "images" not in lowered:
        return [beside]
    last = len(lowered) - 1 - lowered[::-1].index("images")
    above = (root if is_below else Path()).joinpath(*parts[:last])
    labels = find_path(above, "labels") or above / "labels"
    return [labels.joinpath(*parts[last + 1 :]).with_suffix(".txt"), beside]


def _images_in(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )


TABLES = (".yaml", ".yml")
LISTS = ("classes.txt", "obj.names", "labels/classes.txt")


def find_names(folder: Path) -> Path:
    """data.yaml or another table with `names`, else a list of names. Raises UserError."""
    usual = [folder / "data.yaml", folder / "data.yml"]
    others = [path for suffix in TABLES for path in sorted(folder.glob(f"*{suffix}")) if path not in usual]
    unreadable = None
    for path in [*usual, *others]:
        if not path.is_file() or path.name.startswith("."):
            continue
        try:
            if "names" in _load_table(path):
                return path
        except UserError as error:  # another program's table may be none of YAML's
            if path in usual:
                raise
            unreadable = unreadable or error
    for path in [folder / name for name in LISTS] + sorted(folder.glob("*.names")):
        if path.is_file():
            return path
    raise unreadable or UserError(
        f"{folder}: got no data.yaml with `names` and no classes.txt, expected the class names, one a line; "
        "give --names FILE"
    )


def read_names(path: Path) -> dict:
    """What data.yaml says, or of a list of names the same: `names` is a list of text. Raises UserError."""
    if path.suffix.lower() in TABLES:
        settings = _load_table(path)
        names = settings.get("names")
        if isinstance(names, dict) and sorted(names, key=str) == sorted(range(len(names)), key=str):
            names = [names[index] for index in range(len(names))]
    elif path.is_file():
        settings, names = {}, _read_list(path)
    else:
        raise UserError(f"{path}: got no such file, expected the class names; check --names")
    if not isinstance(names, list) or not names or len({str(name) for name in names}) < len(names):
        raise UserError(
            f"{path}: got names {names}, expected a list of class names, each once, numbered from 0; mend the file"
        )
    for number, name in enumerate(names):
        if isinstance(name, bool) or not isinstance(name, (str, int, float)) or name == "":
            raise UserError(
                f"{path}: got {name!r} as the name of class {number}, expected text; put the name in quotes, because "
                "YAML takes yes, no, null and dates for something else"
            )
    return {**settings, "names": [str(name) for name in names]}


def _read_list(path: Path) -> list[str]:
    """A name a line. An empty line among them would shift the numbers of all that follow, so it is refused."""
    lines = [line.strip() for line in read_lines(path)]
    while lines and not lines[-1]:
        lines.pop()
    if "" in lines:
        raise UserError(
            f"{path}: line {lines.index('') + 1}: got an empty line, expected a class name, because classes are "
            "numbered by lines; remove the line or name the class"
        )
    return lines


def _load_table(path: Path) -> dict:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: got {str(error).splitlines()[0]}, expected YAML; mend the file") from None
    return values if isinstance(values, dict) else {}
