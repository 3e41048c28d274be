"""Images with YOLO text labels to COCO-form annotations.

A label file has a line `class x y width height` for each object: the class counted from 0, the box by its centre and
size in shares of the image. A line may hold a polygon instead, `class x y x y x y …`, which gives the box around it.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import yaml

from ..errors import UserError
from ..progress import Progress
from .annotations import Annotations, is_turned, read_lines, size_of_file
from .photos import PHOTO_SUFFIXES

LISTS = ("classes.txt", "obj.names", "labels/classes.txt")
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
        self.names_path = names_path or _find_names(path)
        self.settings = _read_names(self.names_path)
        self.names: list[str] = self.settings["names"]

    def has(self, split: str) -> bool:
        return self._place(split) is not None

    def read(self, splits: dict[str, list[str] | None]) -> dict[str, Annotations]:
        """splits: {what: names of splits, None for all there is}. Classes are those of the names file, in its order.
        Raises UserError."""
        found = {what: self._find(names) for what, names in splits.items()}
        categories = [{"id": number, "name": name} for number, name in enumerate(self.names, start=1)]
        done, first_id = {}, 1
        with Progress(sum(map(len, found.values())), "reading labels", "files") as progress:
            for what, paths in found.items():
                images, annotations, problems = [], [], {}
                for image_id, path in enumerate(paths, start=first_id):
                    height, width = size_of_file(path)
                    if is_turned(path):
                        problems.setdefault(TURNED, []).append(str(path))
                    name = Path(os.path.relpath(path, self.path)).as_posix()
                    images.append({"id": image_id, "file_name": name, "height": height, "width": width})
                    for label, box in self._read_labels(path, problems):
                        box_xywh = (box * [width, height, width, height]).tolist()
                        annotations.append(
                            {
                                "id": len(annotations) + 1,
                                "image_id": image_id,
                                "category_id": label + 1,
                                "bbox": box_xywh,
                                "area": box_xywh[2] * box_xywh[3],
                                "iscrowd": 0,
                            }
                        )
                    progress.update()
                first_id += len(paths)
                content = {"images": images, "annotations": annotations, "categories": categories}
                done[what] = Annotations(content, self.path, self.path, problems)
        return done

    def _find(self, splits: list[str] | None) -> list[Path]:
        """Image files of a split, each once."""
        if splits is None:
            return _images_in(self.path / "images" if (self.path / "images").is_dir() else self.path)
        found: dict[Path, None] = {}
        for split in splits:
            place = self._place(split)
            if place is None:
                raise UserError(
                    f"{self.path}: got no images/{split}, {split}/images or {split}.txt, expected the images of split "
                    f"{split!r}; name others by --train_split and --val_split, or give --val_fraction 0.2"
                )
            paths = self._listed(place) if place.is_file() else _images_in(place)
            found.update(dict.fromkeys(paths))
        return list(found)

    def _place(self, split: str) -> Path | None:
        """The folder or the list of a split."""
        stated = self.settings.get(split)
        places = [f"images/{split}", f"{split}/images", f"{split}.txt", split]
        if isinstance(stated, str):
            # Such files move with their data: `path` is often of another machine, and Roboflow's `../` leads astray.
            places = [os.path.join(str(self.settings.get("path") or "."), stated), stated, stated.lstrip("./"), *places]
        folders = [self.names_path.parent, self.path]
        tried = [folder / place for place in places for folder in folders]
        return next((path for path in tried if path.is_file() or path.is_dir()), None)

    def _listed(self, list_path: Path) -> list[Path]:
        """Files that a list names, relative to it or to the data. Raises UserError for one that is not there."""
        found = []
        for line in filter(None, map(str.strip, read_lines(list_path))):
            tried = [folder / line for folder in (list_path.parent, self.path)]
            path = next((path for path in tried if path.is_file()), None)
            if path is None:
                raise UserError(f"{list_path}: got {line!r}, expected image files that exist; mend the list")
            found.append(path)
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


def _find_names(folder: Path) -> Path:
    tables = [*sorted(folder.glob("*.yaml")), *sorted(folder.glob("*.yml"))]
    lists = [folder / name for name in LISTS] + sorted(folder.glob("*.names"))
    for path in [*tables, *lists]:
        if path.is_file() and (path in lists or "names" in _load_yaml(path)):
            return path
    raise UserError(
        f"{folder}: got no data.yaml with `names` and no classes.txt, expected the class names, one a line; "
        "give --names FILE"
    )


def _read_names(path: Path) -> dict:
    """What data.yaml says, or of a list of names the same: `names` is a list of text. Raises UserError."""
    if path.suffix in (".yaml", ".yml"):
        settings = _load_yaml(path)
        names = settings.get("names")
        if isinstance(names, dict) and sorted(names, key=str) == sorted(range(len(names)), key=str):
            names = [names[index] for index in range(len(names))]
    elif path.is_file():
        settings = {}
        names = [line.strip() for line in read_lines(path) if line.strip()]
    else:
        raise UserError(f"{path}: got no such file, expected the class names; check --names")
    if not isinstance(names, list) or not names or len({str(name) for name in names}) < len(names):
        raise UserError(
            f"{path}: got names {names}, expected a list of class names, each once, numbered from 0; mend the file"
        )
    return {**settings, "names": [str(name) for name in names]}


def _load_yaml(path: Path) -> dict:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: got {str(error).splitlines()[0]}, expected YAML; mend the file") from None
    return values if isinstance(values, dict) else {}


def _label_paths(image_path: Path, root: Path) -> list[Path]:
    """Where the labels of an image may lie: for root/…/images/a.jpg, root/…/labels/a.txt, else beside it."""
    parts = list(image_path.parts[len(root.parts) :] if image_path.is_relative_to(root) else image_path.parts)
    head = root if image_path.is_relative_to(root) else Path()
    beside = image_path.with_suffix(".txt")
    if "images" not in parts[:-1]:
        return [beside]
    last = len(parts) - 2 - parts[-2::-1].index("images")
    parts[last] = "labels"
    return [head.joinpath(*parts).with_suffix(".txt"), beside]


def _images_in(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES and not path.name.startswith(".")
    )
