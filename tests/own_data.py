"""Write small datasets in COCO, Pascal VOC and YOLO format for tests."""

import json
import shutil
from pathlib import Path
from xml.sax.saxutils import escape


def load_coco(coco: Path, split: str) -> tuple[dict, dict, dict]:
    """Return of a split of a COCO folder the JSON object, {image id: annotations} and {category id: name}."""
    content = json.loads((coco / "annotations" / f"instances_{split}.json").read_text())
    by_image = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    return content, by_image, {category["id"]: category["name"] for category in content["categories"]}


def write_coco(path, first_id, number, folder, **more):
    """Write a COCO file and an empty file for each of its images.

    first_id, number: the image ids are first_id, …, first_id + number - 1
    folder: folder of the images
    more: keys of the COCO file to replace
    Each image has one box, as wide as the image id in pixels, of category 3 (猫) if the id is even, else 9 (dog).
    """
    ids = list(range(first_id, first_id + number))
    folder.mkdir(parents=True, exist_ok=True)
    for image_id in ids:
        (folder / f"{path.stem}{image_id}.jpg").touch()
    content = {
        "images": [{"id": i, "file_name": f"{path.stem}{i}.jpg", "height": 50, "width": 40} for i in ids],
        "annotations": [
            {"id": i, "image_id": i, "category_id": (3, 9)[i % 2], "bbox": [0, 0, i, 1], "area": i, "iscrowd": 0}
            for i in ids
        ],
        "categories": [{"id": 3, "name": "猫"}, {"id": 9, "name": "dog"}],
        **more,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def xml_object(name: str, corners, more: str = "") -> str:
    """Return a VOC <object>. corners: xmin, ymin, xmax, ymax in pixels counted from 1; more: additional elements"""
    tags = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), corners))
    return f"<object><name>{escape(name)}</name>{more}<bndbox>{tags}</bndbox></object>"


def xml_image(file_name: str, height: int, width: int, objects: list[str]) -> str:
    """Return the content of a VOC annotation file. objects: results of xml_object"""
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{escape(file_name)}</filename>{size}{''.join(objects)}</annotation>"


def make_voc(coco: Path, folder: Path, years=("VOC2007",)) -> Path:
    """Write a COCO folder as a Pascal VOC folder with splits train and val, and distribute the images over years."""
    for split, name in (("train2017", "train"), ("val2017", "val")):
        content, by_image, names = load_coco(coco, split)
        for index, year in enumerate(years):
            root = folder / year
            for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
                (root / part).mkdir(parents=True, exist_ok=True)
            members = content["images"][index :: len(years)]
            for image in members:
                objects = []
                for annotation in by_image[image["id"]]:
                    x, y, w, h = annotation["bbox"]
                    objects.append(xml_object(names[annotation["category_id"]], (x + 1, y + 1, x + w, y + h)))
                shutil.copy(coco / split / image["file_name"], root / "JPEGImages")
                text = xml_image(image["file_name"], image["height"], image["width"], objects=objects)
                (root / "Annotations" / f"{Path(image['file_name']).stem}.xml").write_text(text, encoding="utf-8")
            stems = [Path(image["file_name"]).stem for image in members]
            (root / "ImageSets" / "Main" / f"{name}.txt").write_text("".join(f"{stem}\n" for stem in stems))
    return folder


def make_yolo(coco: Path, folder: Path) -> Path:
    """Write a COCO folder as images/{train,val}, labels/{train,val} and data.yaml.

    Images without boxes get no label file.
    """
    for split, name in (("train2017", "train"), ("val2017", "val")):
        content, by_image, names = load_coco(coco, split)
        index = {category_id: number for number, category_id in enumerate(names)}
        for part in ("images", "labels"):
            (folder / part / name).mkdir(parents=True, exist_ok=True)
        for image in content["images"]:
            shutil.copy(coco / split / image["file_name"], folder / "images" / name)
            lines = []
            for annotation in by_image[image["id"]]:
                x, y, w, h = annotation["bbox"]
                fractions = [(x + w / 2) / image["width"], (y + h / 2) / image["height"]]
                fractions += [w / image["width"], h / image["height"]]
                box = " ".join(f"{fraction:.9f}" for fraction in fractions)
                lines.append(f"{index[annotation['category_id']]} {box}\n")
            if lines:
                path = folder / "labels" / name / f"{Path(image['file_name']).stem}.txt"
                path.write_text("".join(lines))
    class_names = "".join(f"  {number}: {name}\n" for number, name in enumerate(names.values()))
    (folder / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames:\n{class_names}")
    return folder
