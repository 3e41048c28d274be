"""Find the YOLO label file of an image, and label files that belong to no image."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from ...errors import UserError
from ..image_formats import IMAGE_SUFFIXES
from .annotations import find_path_ignoring_case, list_files, read_text_lines

# Kinds of problems in the dataset report
WITHOUT_LABEL_FILE = "images without a label file, read as images without boxes"
WITHOUT_IMAGE = "label files without an image, which are not used"
SHARED_LABELS = "images that share a label file with another image of the same name"
SECOND_LABELS = "label files that are not used, because another label file of the image has priority"


class LabelFiles:
    """The label files of a YOLO folder: labels/…/a.txt for images/…/a.jpg, or a.txt beside the image.

    The suffix .txt may have upper-case letters, and the letters of the name may be composed in another way.

    root: dataset folder
    """

    def __init__(self, root: Path):
        self.root = root
        self._folders: dict[Path, list[Path]] = {}  # {folder of images: folders of their labels, in order}
        self._files: dict[Path, dict[str, list[Path]]] = {}  # {folder of labels: {name without suffix: label files}}
        self._stems: dict[Path, set[str]] = {}  # {folder of labels: names of its images without suffix}
        self._image_of: dict[Path, Path] = {}  # {label file: first image that uses it}

    def find(self, image_path: Path, problems: dict[str, list[str]]) -> Path | None:
        """Return the label file of an image, or None if there is none.

        problems: {kind of problem: texts}, to which images without a label file, with several, or with a shared one are
            added
        """
        if image_path.parent not in self._folders:
            self._add_image_folder(image_path.parent)
        folders = self._folders[image_path.parent]
        files = [path for folder in folders for path in self._files[folder].get(_stem(image_path.name), [])]
        if not files:
            problems.setdefault(WITHOUT_LABEL_FILE, []).append(str(image_path))
            return None
        first = self._image_of.setdefault(files[0], image_path)
        if first != image_path:
            problems.setdefault(SHARED_LABELS, []).append(f"{image_path} and {first.name}")
        for path in filter(_contains_labels, files[1:]):
            problems.setdefault(SECOND_LABELS, []).append(f"{path}, because of {files[0]}")
        return files[0]

    def find_without_image(self) -> list[str]:
        """Return the paths of label files in the folders used so far that have no image in the folder of images.

        Text files that contain no labels, such as classes.txt, are left out.
        """
        found = []
        for folder, files in self._files.items():
            rest = [path for stem, paths in files.items() if stem not in self._stems[folder] for path in paths]
            found += [str(path) for path in rest if _contains_labels(path)]
        return found

    def _add_image_folder(self, image_folder: Path) -> None:
        self._folders[image_folder] = _label_folders(image_folder, self.root)
        stems = {_stem(name) for name in list_files(image_folder) if Path(name).suffix.lower() in IMAGE_SUFFIXES}
        for folder in self._folders[image_folder]:
            self._stems.setdefault(folder, set()).update(stems)
            if folder not in self._files:
                names = [name for name in list_files(folder) if Path(name).suffix.lower() == ".txt"]
                self._files[folder] = {}
                for name in sorted(
                    names, key=lambda name: (Path(name).stem, Path(name).suffix.swapcase())
                ):  # .txt first
                    self._files[folder].setdefault(_stem(name), []).append(folder / name)


def _stem(name: str) -> str:
    """Return a file name without suffix, with composed letters (Unicode NFC): macOS may decompose them in copies."""
    return unicodedata.normalize("NFC", Path(name).stem)


def _label_folders(image_folder: Path, root: Path) -> list[Path]:
    """Return the possible folders of labels of root/…/images/…: root/…/labels/…, then the folder of images itself."""
    is_below = image_folder.is_relative_to(root)
    parts = image_folder.relative_to(root).parts if is_below else image_folder.parts
    names = [part.lower() for part in parts]
    if "images" not in names:
        return [image_folder]
    last = len(names) - 1 - names[::-1].index("images")
    parent = (root if is_below else Path()).joinpath(*parts[:last])
    labels = find_path_ignoring_case(parent, "labels") or parent / "labels"
    return [labels.joinpath(*parts[last + 1 :]), image_folder]


def _contains_labels(path: Path) -> bool:
    """Return True if a text file is empty, or its first row consists of at least five numbers."""
    try:
        fields = next((line.split() for line in read_text_lines(path) if line.strip()), [])
        return not fields or (len(fields) >= 5 and all(float(field) is not None for field in fields))
    except (UserError, ValueError):
        return False
