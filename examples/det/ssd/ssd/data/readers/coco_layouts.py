"""Find COCO annotation files and images in the folder layouts of COCO and of annotation tools."""

from __future__ import annotations

import glob
import itertools
import os
from pathlib import Path

from ...errors import UserError, count_noun
from ..dataset_info import DATASET_INFO_NAME, VAL_ANNOTATIONS, read_dataset_info
from .annotations import FOUND_ELSEWHERE, UncheckedSplit, is_plain_utf8, load_coco_json
from .coco import parse_coco
from .coco_exports import undo_export_quirks, used_category_ids
from .coco_fields import normalize_coco
from .data_folders import DataFolders
from .image_finder import find_images
from .other_tools import recognize_folder

# Possible paths of the annotation file and the image folder of split {0}, relative to the dataset folder. The first
# path of each list is COCO's published layout. Roboflow exports `{0}/_annotations.coco.json`, and FiftyOne
# `{0}/labels.json` with the images in `{0}/data`. A pattern counts only if exactly one file matches.
ANNOTATION_PATHS = (
    *("annotations/instances_{0}.json", "annotations/{0}.json", "{0}/_annotations.coco.json", "{0}/labels.json"),
    *("{0}.json", "annotations/*_{0}.json", "*_{0}.json"),
)
IMAGE_DIRS = ("{0}", "images/{0}", "images", "{0}/images", "{0}/data", "data", ".")
MAX_PROBED_IMAGES = 100  # images tried to find the image folder; the first images may be missing


class CocoFolder:
    """A folder of COCO annotation files and images.

    A split is given by its name, such as `train2017`, or by the path of an annotation file relative to the folder, such
    as `boxes/part1.json`.
    """

    train_splits: tuple[str, ...] = ("train2017", "train")
    val_splits: tuple[str, ...] = ("val2017", "val", "valid")

    def __init__(self, path: Path, image_dir: Path | None = None, *, follow_links: bool = False):
        """Open a folder.

        image_dir: folder of the images; None searches it
        follow_links: True reads files outside both folders too, to which annotations or links lead

        Raises UserError if image_dir does not exist.
        """
        self.path = path
        self.image_dir = image_dir
        if image_dir is not None and not image_dir.is_dir():
            raise UserError(f"--image_dir: the folder {image_dir} does not exist. Correct the path.")
        self.data_folders = DataFolders([path, image_dir] if image_dir else [path], follow_links=follow_links)

    def has_split(self, split: str) -> bool:
        return os.path.isfile(self._annotation_path(split))

    def read(self, requested: dict[str, list[str] | None]) -> dict[str, UncheckedSplit]:
        """Read splits, and merge the splits that are listed under the same key, for example "train" or "val".

        requested: {key: names of the splits to merge}; None instead of names selects the only annotation file
        Returns {key: merged split}. Raises UserError if a file is missing, or merged files have different categories.
        """
        names = {key: splits if splits is not None else [self._only_file()] for key, splits in requested.items()}
        contents = {name: self._load(name) for splits in names.values() for name in splits}
        used_ids = used_category_ids(contents.values())
        merged = {}
        for key, of_key in names.items():
            splits = [self._read_split(name, contents[name], used_ids) for name in of_key]
            merged[key] = splits[0] if len(splits) == 1 else _merge(splits, self.path)
        return merged

    def _annotation_path(self, split: str) -> Path:
        """Return the path of the annotation file of a split. If no file exists, return the path in COCO's layout."""
        if split.endswith(".json") or os.path.isfile(self.path / split):
            return self.path / split
        for pattern in ANNOTATION_PATHS:
            found = self._find_files(pattern.format(glob.escape(split)))
            if len(found) == 1:
                return found[0]
        return self.path / ANNOTATION_PATHS[0].format(split)

    def _only_file(self) -> str:
        """Return the path of the only annotation file, relative to the folder.

        Raises UserError if the folder contains no annotation file or several annotation files.
        """
        found = [*self._find_files("*.json"), *self._find_files("annotations/*.json")]
        written = self._written_files()
        found = sorted(path for path in found if path not in written)
        if len(found) != 1:
            listed = f" ({', '.join(path.name for path in found[:5])})" if found else ""
            other_tool = recognize_folder(self.path)
            if other_tool:
                raise UserError(f"{self.path}: {other_tool}")
            raise UserError(
                f"{self.path}: the folder contains {len(found)} annotation files{listed}, but exactly 1 is needed. "
                + ("Select an annotation file with --train_split." if found else "Check --data_path.")
            )
        return self.data_folders.require(found[0]).relative_to(self.path).as_posix()

    def _written_files(self) -> list[Path]:
        """Return the JSON files that a conversion in place has written."""
        try:
            info = read_dataset_info(self.path / DATASET_INFO_NAME)
        except UserError:  # not converted, or a file of the user
            return []
        names = [DATASET_INFO_NAME] + [info.annotations] * (Path(info.annotations).name == VAL_ANNOTATIONS)
        return [self.path / name for name in names]

    def _find_files(self, pattern: str) -> list[Path]:
        """Return the files whose path in the folder matches a pattern, without hidden files, which macOS creates."""
        # Path.glob raises errors for absolute patterns and long names.
        paths = [self.path / name for name in sorted(glob.glob(pattern, root_dir=self.path))]
        return list(filter(os.path.isfile, paths))

    def _load(self, split: str) -> dict:
        """Load the annotation file of a split, unchecked. Raises UserError if the file is missing or not JSON."""
        path = self._annotation_path(split)
        if not os.path.isfile(path):
            looked_for = ", ".join(pattern.format(split) for pattern in ANNOTATION_PATHS[1:])
            other_tool = recognize_folder(self.path)
            advice = (
                f"In {self.path}, {other_tool}"
                if other_tool
                else f"{looked_for} were searched too. {self._list_json_files()} Check --data_path, or select existing "
                "splits with --train_split and --val_split."
            )
            raise UserError(f"{path}: the annotation file of split {split!r} does not exist. {advice}")
        # A path that the user typed may lead anywhere.
        return load_coco_json(path if split.endswith(".json") else self.data_folders.require(path))

    def _read_split(self, split: str, content: dict, used_ids: set[int | None]) -> UncheckedSplit:
        """Normalize the annotations of a split, and find its images.

        content: annotation file of the split, unchecked
        used_ids: category ids of the annotations in all files that are read
        """
        path = self._annotation_path(split)
        usual, export_problems = undo_export_quirks(content, used_elsewhere=used_ids)
        coco_dict, problems = normalize_coco(usual, path)
        return UncheckedSplit(
            coco_dict,
            annotation_path=path,
            image_dir=self._find_image_dir(path, split, coco_dict),
            problems={**export_problems, **problems},
            is_coco_file=coco_dict is content and is_plain_utf8(path),
            data_folders=self.data_folders,
        )

    def _list_json_files(self) -> str:
        """Return a sentence that lists the JSON files of the folder, for error messages."""
        paths = [path for path in self.path.glob("**/*.json") if not path.name.startswith(".")]
        found = sorted(path.relative_to(self.path).as_posix() for path in paths)
        if not found:
            return "The folder contains no JSON file."
        return f"The folder contains {', '.join(found[:5])}{' and more' if len(found) > 5 else ''}."

    def _find_image_dir(self, path: Path, split: str, coco_dict: dict) -> Path:
        """Return the first folder of IMAGE_DIRS that contains an image of the split.

        Exact paths have priority over those that `find_images` finds besides.
        Raises UserError if no folder contains an image of the split.
        """
        if self.image_dir is not None:
            return self.image_dir
        name = path.stem.removeprefix("instances_") if split.endswith(".json") else split
        candidates = [self.path / folder.format(name) for folder in IMAGE_DIRS] + [path.parent]
        file_names = [image["file_name"] for image in coco_dict["images"]]
        probed = file_names[:MAX_PROBED_IMAGES]
        # os.path.isfile returns False for names that no file can have. Path.is_file raises OSError for long names.
        exact = (folder for name in probed for folder in candidates if os.path.isfile(folder / name))
        similar = (
            folder for names in (probed, file_names) for folder in candidates if any(find_images(names, [folder]))
        )
        found = next(itertools.chain(exact, similar), None)
        if found is None and file_names:
            searched = ", ".join(dict.fromkeys(str(folder) for folder in candidates if folder.is_dir()))
            raise UserError(
                f"{path}: none of {count_noun(len(file_names), 'image')} was found in {searched}. The first file "
                f"name is {file_names[0]!r}. Copy the images there, or set --image_dir."
            )
        return found or self.path


def _merge(splits: list[UncheckedSplit], folder: Path) -> UncheckedSplit:
    """Merge several COCO files into one split. All images get new ids if two images have the same id.

    folder: dataset folder; file names in the merged split are relative to this folder
    Raises UserError if a file is invalid, or the files have different categories.
    """
    images: list[dict] = []
    annotations: list[dict] = []
    problems: dict[str, list[str]] = {}
    # Parse each file before merging, so that errors name the path of the invalid file.
    parsed = [parse_coco(split) for split in splits]
    original_ids = [image.image_id for split in parsed for image in split.images]
    needs_new_ids = len(set(original_ids)) < len(original_ids)
    first_categories = dict(zip(parsed[0].category_ids, parsed[0].classes[1:]))
    for split, checked in zip(splits, parsed):
        categories = dict(zip(checked.category_ids, checked.classes[1:]))
        if categories != first_categories:
            raise UserError(
                f"{split.annotation_path}: the categories {categories} differ from the categories {first_categories} "
                f"in {splits[0].annotation_path.name}. Use the same ids and names in both files."
            )
        # Names in the merged split are the paths that were found. Missing images are found to be missing again.
        moved = {kind: texts for kind, texts in checked.problems.items() if kind == FOUND_ELSEWHERE}
        for kind, texts in (*split.problems.items(), *moved.items()):
            problems.setdefault(kind, []).extend(texts)
        new_ids = {}
        for image, image_path in zip(split.coco_dict["images"], (image.path for image in checked.images)):
            new_ids[image["id"]] = len(images) + 1 if needs_new_ids else image["id"]
            file_name = Path(os.path.relpath(image_path, folder)).as_posix()
            images.append({**image, "id": new_ids[image["id"]], "file_name": file_name})
        for annotation in split.coco_dict["annotations"]:
            image_id = new_ids[annotation["image_id"]]
            annotations.append({**annotation, "id": len(annotations) + 1, "image_id": image_id})
    coco_dict = {"images": images, "annotations": annotations, "categories": splits[0].coco_dict["categories"]}
    return UncheckedSplit(coco_dict, folder, image_dir=folder, problems=problems, data_folders=splits[0].data_folders)
