"""Folders with COCO annotation files, laid out as COCO publishes them or as annotation tools export them."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import UserError
from .annotations import Annotations, load_coco
from .coco import parse_coco

# Where the annotations of split S may be, and its images. COCO has the first of each, Roboflow the last but one.
ANNOTATIONS = ("annotations/instances_{0}.json", "annotations/{0}.json", "{0}/_annotations.coco.json", "{0}.json")
IMAGES = ("{0}", "images/{0}", "images", "{0}/images", ".")
LOOKED_FOR = 100  # images of a file, of which one tells the folder; the others may be missing


class CocoFolder:
    """A folder of annotation files in COCO's form and images.

    A split is a name as `train2017`, or the path of an annotation file below the folder as `boxes/part1.json`.
    """

    train_splits, val_splits = ("train2017", "train"), ("val2017", "val", "valid")

    def __init__(self, path: Path):
        self.path = path

    def has(self, split: str) -> bool:
        return self._file(split).is_file()

    def read(self, splits: dict[str, list[str] | None]) -> dict[str, Annotations]:
        """splits: {what: names of splits, None for the only annotation file there is}. Raises UserError."""
        done = {}
        for what, names in splits.items():
            parts = [self._read(name) for name in (names if names is not None else [self._only_file()])]
            done[what] = parts[0] if len(parts) == 1 else _merge(parts, self.path)
        return done

    def _file(self, split: str) -> Path:
        """The annotation file of a split, as COCO calls it if there is none."""
        if split.endswith(".json"):
            return self.path / split
        tried = [self.path / name.format(split) for name in ANNOTATIONS]
        return next((path for path in tried if path.is_file()), tried[0])

    def _only_file(self) -> str:
        found = sorted({*self.path.glob("*.json"), *self.path.glob("annotations/*.json")})
        if len(found) != 1:
            names = ", ".join(path.name for path in found[:5]) or "none"
            raise UserError(
                f"{self.path}: got {len(found)} annotation files ({names}), expected one; name it by --train_split"
            )
        return found[0].relative_to(self.path).as_posix()

    def _read(self, split: str) -> Annotations:
        path = self._file(split)
        if not path.is_file():
            raise UserError(
                f"{path}: got no such file, expected the annotations of split {split!r}; check --data_path, or name "
                "splits by --train_split and --val_split"
            )
        content = load_coco(path)
        return Annotations(content, path, self._image_dir(path, split, content), is_file=True)

    def _image_dir(self, path: Path, split: str, content) -> Path:
        """The first of the usual folders that has the first image there is, else the one where COCO has it."""
        name = path.stem.removeprefix("instances_") if split.endswith(".json") else split
        tried = [self.path / folder.format(name) for folder in IMAGES] + [path.parent]
        try:
            names = [image["file_name"] for image in content["images"][:LOOKED_FOR]]
            return next((folder for name in names for folder in tried if (folder / name).is_file()), tried[0])
        except (KeyError, TypeError):  # which parse_coco tells in words
            return tried[0]


def _merge(parts: list[Annotations], folder: Path) -> Annotations:
    """Several annotation files as one, their images numbered anew if two share an id. Raises UserError if categories
    differ."""
    images, annotations, first = [], [], None
    splits = [parse_coco(part.content, part.path, part.image_dir) for part in parts]  # each tells what is wrong itself
    stated = [image.image_id for split in splits for image in split.images]
    is_numbered_anew = len(set(stated)) < len(stated)
    for part, split in zip(parts, splits):
        categories = dict(zip(split.category_ids, split.classes[1:]))
        first = first or categories
        if categories != first:
            raise UserError(
                f"{part.path}: got categories {categories}, expected those of {parts[0].path.name}, {first}; "
                "make the lists equal"
            )
        ids = {}
        for image in part.content["images"]:
            ids[image["id"]] = len(images) + 1 if is_numbered_anew else image["id"]
            name = Path(os.path.relpath(part.image_dir / image["file_name"], folder)).as_posix()
            images.append({**image, "id": ids[image["id"]], "file_name": name})
        for entry in part.content["annotations"]:
            annotations.append({**entry, "id": len(annotations) + 1, "image_id": ids[entry["image_id"]]})
    content = {"images": images, "annotations": annotations, "categories": parts[0].content["categories"]}
    return Annotations(content, folder, folder)
