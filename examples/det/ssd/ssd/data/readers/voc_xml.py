"""Read the XML files of Pascal VOC and of annotation tools, and convert them to COCO annotations.

Box corners are pixel coordinates counted from 1, and a box includes the pixels of both corners (VOC2012 development
kit, section 2). A box around a whole image of 500x375 pixels is therefore 1, 1, 500, 375.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from defusedxml import DefusedXmlException, ElementTree

from ...errors import UserError, os_reason
from .annotations import EMPTY_BOXES, Problems, check_box_count
from .voc_objects import FLAGS, read_number, read_object

MAX_BYTES = 2**25  # 50,000 boxes take 15 MB; parsed elements take a hundred times the memory of short tags


@dataclasses.dataclass(frozen=True)
class AnnotationFile:
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


def read_annotation_file(path: Path, find_image: Callable[[str], Path], problems: Problems) -> AnnotationFile:
    """Read an XML file.

    path: path of the XML file
    find_image: function that returns the path of the image for the text of the element <filename>
    problems: {kind of problem: texts}; boxes of zero size are left out and added here
    Raises UserError if the file cannot be read, is too large or not valid XML, or an object is invalid.
    """
    encoded = _read_bytes(path)
    try:
        root = ElementTree.fromstring(encoded)
    except DefusedXmlException:  # ten lines of entities can stand for gigabytes
        raise UserError(f"{path}: the file declares entities, which can be harmful. Remove its <!DOCTYPE>.") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{path}: the file is not valid XML ({error}). Correct the file.") from None
    objects = []
    elements = root.findall("object")
    check_box_count(len(elements), str(path))
    for number, element in enumerate(elements, start=1):
        entry = read_object(element, f"{path}: object {number}", problems)
        if 0 in entry["bbox"][2:]:
            problems.setdefault(EMPTY_BOXES, []).append(f"{path}, object {number}")
        else:
            objects.append(entry)
    size = root.find("size")
    stated_size = (read_number(size, "height"), read_number(size, "width"))
    image_path = find_image((root.findtext("filename") or "").strip())
    return AnnotationFile(path, image_path, stated_size=stated_size, objects=objects)


def _read_bytes(path: Path) -> bytes:
    """Return the bytes of an XML file. Raises UserError if it cannot be read or is too large."""
    try:
        with open(path, "rb") as file:
            encoded = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({os_reason(error)}). Check the permissions.") from None
    if len(encoded) > MAX_BYTES:
        raise UserError(f"{path}: the file has more than {MAX_BYTES:,} bytes. Use one file for each image.")
    return encoded


def to_coco(
    files: list[AnnotationFile],
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
