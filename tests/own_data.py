"""Drawn sets of the three forms for tests, all with the same images and boxes."""

import json
import shutil
from pathlib import Path
from xml.sax.saxutils import escape


def read(coco: Path, split: str) -> tuple[dict, dict, dict]:
    """Of a folder of COCO's form: its content, {image id: annotations}, {category id: name}."""
    content = json.loads((coco / "annotations" / f"instances_{split}.json").read_text())
    by_image = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    return content, by_image, {category["id"]: category["name"] for category in content["categories"]}


def write_coco(path, first_id, number, folder, **more):
    """A COCO file of images first_id … and their files, each with a box of class 3 or 9 as wide as its id."""
    ids = list(range(first_id, first_id + number))
    folder.mkdir(parents=True, exist_ok=True)
    for image_id in ids:
        (folder / f"{path.stem}{image_id}.jpg").touch()
    content = {
        "images": [{"id": i, "file_name": f"{path.stem}{i}.jpg", "height": 50, "width": 40} for i in ids],
        "annotations": [
            {"id": 1, "image_id": i, "category_id": (3, 9)[i % 2], "bbox": [0, 0, i, 1], "iscrowd": 0} for i in ids
        ],
        "categories": [{"id": 3, "name": "猫"}, {"id": 9, "name": "dog"}],
        **more,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def xml_object(name: str, corners, more: str = "") -> str:
    """corners: xmin, ymin, xmax, ymax, counted from 1"""
    tags = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), corners))
    return f"<object><name>{escape(name)}</name>{more}<bndbox>{tags}</bndbox></object>"


def xml_image(file_name: str, height: int, width: int, objects: list[str]) -> str:
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{escape(file_name)}</filename>{size}{''.join(objects)}</annotation>"


def make_voc(coco: Path, folder: Path, years=("VOC2007",)) -> Path:
    """Write the training images to ImageSets/Main/train.txt and the others to val.txt, dealt out over the years."""
    for split, name in (("train2017", "train"), ("val2017", "val")):
        content, by_image, names = read(coco, split)
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
                text = xml_image(image["file_name"], image["height"], image["width"], objects)
                (root / "Annotations" / f"{Path(image['file_name']).stem}.xml").write_text(text, encoding="utf-8")
            stems = [Path(image["file_name"]).stem for image in members]
            (root / "ImageSets" / "Main" / f"{name}.txt").write_text("".join(f"{stem}\n" for stem in stems))
    return folder


def make_yolo(coco: Path, folder: Path) -> Path:
    """Write images/{train,val}, labels/{train,val} and data.yaml; images without objects have no label file."""
    for split, name in (("train2017", "train"), ("val2017", "val")):
        content, by_image, names = read(coco, split)
        index = {category_id: number for number, category_id in enumerate(names)}
        for part in ("images", "labels"):
            (folder / part / name).mkdir(parents=True, exist_ok=True)
        for image in content["images"]:
            shutil.copy(coco / split / image["file_name"], folder / "images" / name)
            lines = []
            for annotation in by_image[image["id"]]:
                x, y, w, h = annotation["bbox"]
                shares = [(x + w / 2) / image["width"], (y + h / 2) / image["height"]]
                shares += [w / image["width"], h / image["height"]]
                lines.append(f"{index[annotation['category_id']]} {' '.join(f'{share:.9f}' for share in shares)}\n")
            if lines:
                path = folder / "labels" / name / f"{Path(image['file_name']).stem}.txt"
                path.write_text("".join(lines))
    table = "".join(f"  {number}: {name}\n" for number, name in enumerate(names.values()))
    (folder / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames:\n{table}")
    return folder
