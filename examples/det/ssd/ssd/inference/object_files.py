"""Write the detected objects of an image or frame: a YOLO label file, and an image of each object."""

from __future__ import annotations

import collections
import re
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from ..boxes.multiclass_nms import Detections
from ..data.image_formats import JPEG_SUFFIXES
from ..errors import UserError, os_reason
from .output_folder import OutputFolder

LABELS, CROPS = "labels", "crops"  # folders in the output folder
_MAX_FOLDER_NAME = 100  # bytes; file systems allow 255


class ObjectFiles:
    """Write label files and crops to an output folder, in the subfolders labels and crops.

    output: output folder; files are written for the subfolders that the folder was opened with
    classes: class names by label, background first
    num_label_files: number of label files written so far
    num_crops: number of crops written so far
    """

    def __init__(self, output: OutputFolder, classes: Sequence[str]):
        self.output = output
        self.num_label_files = self.num_crops = 0
        self._class_folders = class_folders(classes)
        self._lock = threading.Lock()

    def write(self, pixels: np.ndarray, detections: Detections, *, stem: str, suffix: str) -> list[str]:
        """Write the files of an image or frame, without publishing them. Several threads may call this method.

        pixels: (H, W, 3) uint8 RGB
        detections: detections with boxes in pixels
        stem: path of the image or frame without a suffix; unique in the run
        suffix: suffix of crops, .jpg or .png
        Returns the names of the files relative to the output folder.
        Raises UserError if a file cannot be written.
        """
        folders = self.output.subfolders
        contents: dict[str, bytes] = {}
        if LABELS in folders:
            contents[f"{folders[LABELS]}/{stem}.txt"] = label_text(detections, size=pixels.shape[:2]).encode()
        num_label_files = len(contents)
        if CROPS in folders:
            for number, (box, label) in enumerate(zip(detections.boxes_yxyx.tolist(), detections.labels), start=1):
                name = f"{folders[CROPS]}/{self._class_folders[label]}/{stem}-{number}{suffix}"
                contents[name] = encode_image(_crop(pixels, box), suffix)
        for name, content in contents.items():
            try:
                self.output.unfinished(name).write_bytes(content)
            except OSError as error:
                raise UserError(
                    f"{self.output.path / name}: the file cannot be written ({os_reason(error)}). "
                    "Free some disk space, or set --output to another folder."
                ) from None
        with self._lock:
            self.num_label_files += num_label_files
            self.num_crops += len(contents) - num_label_files
        return list(contents)


def label_text(detections: Detections, size: tuple[int, ...]) -> str:
    """Return the content of a YOLO label file: class index from 0, center x, center y, width, height, and score.

    size: height and width of the image in pixels
    """
    height, width = size
    y0, x0, y1, x1 = detections.boxes_yxyx.astype(float).T / [[height], [width], [height], [width]]
    columns = ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, detections.scores)
    return "".join(
        f"{label - 1} {' '.join(f'{value:.6f}' for value in row)}\n" for label, *row in zip(detections.labels, *columns)
    )


def _crop(pixels: np.ndarray, box_yxyx: Sequence[float]) -> np.ndarray:
    """Return the pixels that a box touches, at least one.

    pixels: (H, W, 3)
    box_yxyx: corners in pixels
    """
    height, width = pixels.shape[:2]
    y0, x0 = min(max(int(box_yxyx[0]), 0), height - 1), min(max(int(box_yxyx[1]), 0), width - 1)
    y1, x1 = max(int(np.ceil(box_yxyx[2])), y0 + 1), max(int(np.ceil(box_yxyx[3])), x0 + 1)
    return pixels[y0:y1, x0:x1]


def encode_image(pixels: np.ndarray, suffix: str) -> bytes:
    """Return the content of an image file: JPEG of quality 95 for the suffixes of JPEG, PNG otherwise.

    pixels: (H, W, 3) uint8 RGB
    """
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    if suffix.lower() in JPEG_SUFFIXES:
        _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])
    else:
        _, encoded = cv2.imencode(".png", bgr)
    return np.asarray(encoded).tobytes()


def class_folders(classes: Sequence[str]) -> list[str]:
    """Return a folder name for each class, which is safe and unique whatever the classes are called.

    Letters, digits, spaces and -.()+ stay, all other characters become "_". A name that is then empty, or equal to an
    earlier one without regard to case, gets the label appended.
    """
    folders: list[str] = []
    for label, name in enumerate(classes):
        safe = re.sub(r"[^\w\-.()+ ]", "_", name).encode()[:_MAX_FOLDER_NAME].decode(errors="ignore").strip(" .")
        taken = {folder.casefold() for folder in folders}
        while not safe or safe.casefold() in taken:
            safe = f"{safe}-{label}" if safe else f"class {label}"
        folders.append(safe)
    return folders


def unique_stems(names: Iterable[str]) -> dict[str, str]:
    """Return {name: path without its suffix}. Images of a folder that differ only in the suffix keep their suffix.

    names: unique paths of the images
    """
    stem_of = {name: Path(name).with_suffix("").as_posix() for name in names}
    counts = collections.Counter(stem_of.values())
    taken = {stem for stem, count in counts.items() if count == 1}
    for name, stem in stem_of.items():
        if counts[stem] > 1:
            stem = name
            while stem in taken:
                stem += "_"
            taken.add(stem)
            stem_of[name] = stem
    return stem_of
