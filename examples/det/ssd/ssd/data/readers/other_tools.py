"""Recognize files of other annotation tools, to tell users how to export COCO annotations from the tool."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...runtime.read_json import parse_json

YAML_NAMES = ("data.yaml", "data.yml")
MAX_OPENED = 5  # files that are opened to recognize a folder
MAX_BYTES = 2**25  # a larger file is not opened; files of labelme contain the image

CVAT_XML = (
    "this is an XML file of CVAT, not COCO annotations. In CVAT, choose Actions > Export dataset, and the format "
    "COCO 1.0."
)
VOC_XML = "this is an XML file of Pascal VOC, not COCO annotations. Use `create_data.py voc`."


def _is_object(*keys: str) -> Callable[[object], bool]:
    """Return a test for an object that has all of these keys."""
    return lambda content: isinstance(content, dict) and content.keys() >= set(keys)


def _is_list_of(*keys: str) -> Callable[[object], bool]:
    """Return a test for a list whose first entry is an object that has all of these keys."""
    return lambda content: isinstance(content, list) and len(content) > 0 and _is_object(*keys)(content[0])


def _is_via_regions(content: object) -> bool:
    values = list(content.values())[:1] if isinstance(content, dict) else []
    return all(map(_is_object("filename", "regions"), values)) and len(values) > 0


# (test of the parsed JSON, name of the file, how to get annotations that create_data.py reads), first match wins.
_KNOWN_FILES: tuple[tuple[Callable[[object], bool], str, str], ...] = (
    (
        _is_object("shapes", "imagePath"),
        "a file of labelme",
        "labelme has one file per image. Convert their folder with the package labelme2coco.",
    ),
    (
        lambda content: _is_object("_via_settings")(content) or _is_via_regions(content),
        "a file of the VGG Image Annotator",
        "In the tool, choose Annotation > Export Annotations (COCO format).",
    ),
    (
        _is_object("project", "attribute", "metadata"),
        "a project of the VGG Image Annotator 3",
        "Export the annotations in COCO's format in the tool.",
    ),
    (
        lambda content: (
            _is_list_of("data", "annotations")(content) or _is_list_of("annotation_id", "lead_time")(content)
        ),
        "an export of Label Studio in its own format",
        "In the project, choose Export, and the format COCO.",
    ),
    (
        lambda content: (
            _is_list_of("annotations", "image")(content) or _is_list_of("annotations", "imagefilename")(content)
        ),
        "a file of Create ML",
        "Export COCO from the tool that wrote the file, because Create ML itself cannot.",
    ),
    (
        _is_object("items", "categories", "info"),
        "a dataset of Datumaro",
        "Convert it with `datum convert --input-format datumaro --input-path FOLDER --output-format coco`.",
    ),
    (
        _is_object("samples"),
        "a dataset of FiftyOne",
        "Export it with dataset.export(dataset_type=fiftyone.types.COCODetectionDataset).",
    ),
    (_is_object("asset", "regions"), "a file of VoTT", "Export Pascal VOC in VoTT, and use `create_data.py voc`."),
    (_is_object("assets", "tags"), "a project of VoTT", "Export Pascal VOC in VoTT, and use `create_data.py voc`."),
    (_is_object("objects", "size"), "a file of Supervisely", "Export the project in COCO's format in Supervisely."),
    (
        _is_object("type", "features"),
        "a GeoJSON file",
        "Export the annotations in COCO's format in the tool that wrote the file.",
    ),
    (
        _is_list_of("image_id", "bbox", "score"),
        "a list of detections",
        "Use the annotation file that belongs to the images.",
    ),
    (
        _is_list_of("image_id", "bbox"),
        "only the list of annotations",
        "Write an object with the lists images, annotations and categories.",
    ),
    (
        _is_list_of("labels", "name"),
        "a file in Scalabel's format, such as BDD100K's",
        "Convert it with `python -m scalabel.label.to_coco`.",
    ),
)


def recognize_json(content: object) -> str | None:
    """Return two sentences on the tool that wrote a JSON file and on the export of COCO; None for an unknown tool.

    content: parsed JSON file
    """
    for test, name, advice in _KNOWN_FILES:
        if test(content):
            return f"this is {name}, not COCO annotations. {advice}"
    return None


def recognize_text(text: str) -> str | None:
    """Return two sentences on the tool that wrote a file that is not JSON; None for an unknown tool."""
    start = text[:1000]
    if "<annotations" in start:
        return CVAT_XML
    if "<annotation" in start:
        return VOC_XML
    return None


def recognize_folder(folder: Path) -> str | None:
    """Return sentences on the tool that wrote the annotations in a folder; None if unknown or if COCO files are there.

    Only the first MAX_OPENED files are opened.
    """
    names = ("*.xml", "*.json", "annotations/*.json", "*/*.json")
    paths = [
        path for path in dict.fromkeys(path for name in names for path in sorted(folder.glob(name))) if path.is_file()
    ]
    found = None
    for path in paths[:MAX_OPENED]:
        if path.stat().st_size > MAX_BYTES:  # probably a COCO file
            return None
        try:
            text = path.read_text(encoding="utf-8-sig")
            content = parse_json(text) if path.suffix == ".json" else None
        except (OSError, ValueError):
            continue
        if _is_object("images", "annotations")(content):
            return None
        known = recognize_json(content) if path.suffix == ".json" else recognize_text(text)
        if known and found is None:
            found = f"{path.name} {known.removeprefix('this ')}"
    if any((folder / name).is_file() for name in YAML_NAMES):
        return "data.yaml is a file of a YOLO dataset. Use `create_data.py yolo`."
    if any(True for name in ("Annotations", "*/Annotations") for _ in folder.glob(f"{name}/*.xml")):
        return "the folder Annotations has XML files of Pascal VOC. Use `create_data.py voc`."
    return found
