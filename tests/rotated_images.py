"""Draw images of colored rectangles, store them rotated or mirrored with EXIF data, and write datasets of them."""

import json

import numpy as np
from PIL import Image

from own_data import xml_image, xml_object
from ssd.data.mindrecord import convert
from ssd.data.readers.splits import open_dataset_folder, read_splits

SIZE = (64, 96)  # height and width of the upright images
COLORS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (40, 40, 230), "yellow": (230, 220, 20)}
# Name: x, y, width, height in the upright image. Red lies outside the image as stored if its sides are swapped.
BOXES_XYWH = {"red": (70, 4, 20, 12), "green": (6, 8, 14, 22), "blue": (36, 40, 26, 10), "yellow": (8, 46, 10, 14)}
# Pillow's method that stores an upright image with this EXIF orientation.
STORE = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,  # counterclockwise, because a viewer rotates clockwise
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def draw(names=tuple(COLORS)):
    """Return an upright image with the rectangles of these names on gray: (64, 96, 3) uint8."""
    pixels = np.full((*SIZE, 3), 128, np.uint8)
    for name in names:
        x, y, width, height = BOXES_XYWH[name]
        pixels[y : y + height, x : x + width] = COLORS[name]
    return pixels


def store(path, orientation, upright=None, **options):
    """Write an image file that EXIF data turn to `upright`, by default draw(). Returns the stored pixels."""
    image, exif = Image.fromarray(draw() if upright is None else upright), Image.Exif()
    if STORE[orientation] is not None:
        image = image.transpose(STORE[orientation])
        exif[0x0112] = orientation
    jpeg = {"quality": 95, "subsampling": 0} if path.suffix == ".jpg" else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, exif=exif, **jpeg, **options)
    return np.asarray(image)


def find_boxes(pixels):
    """Return {name: (x, y, width, height)} of the rectangles in exact pixels, found by their colors."""
    boxes = {}
    for name, color in COLORS.items():
        rows, columns = np.nonzero((pixels == color).all(axis=2))
        if len(rows):
            x, y = int(columns.min()), int(rows.min())
            boxes[name] = (x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y)
    return boxes


def write_dataset(folder, annotation_format, orientations, frame, *, stated=None, names=tuple(COLORS)):
    """Write a dataset whose training and validation split have an image for each orientation.

    frame: "upright" or "stored", the pixels that boxes refer to
    stated: "upright", "stored" or "nothing", the stated image size; None states that of `frame`. YOLO states none.
    names: rectangles that are drawn and annotated
    """
    categories = [{"id": number, "name": name} for number, name in enumerate(COLORS, start=1)]
    for split in ("train", "val"):
        images, annotations = [], []
        for orientation in orientations:
            name = f"{split}{orientation}"
            image_dir = {"coco": split, "voc": "JPEGImages", "yolo": f"images/{split}"}[annotation_format]
            upright = draw(names)
            stored = store(folder / image_dir / f"{name}.jpg", orientation, upright)
            frames = {"upright": upright, "stored": stored, "nothing": None}
            boxes, sized = find_boxes(frames[frame]), frames[stated or frame]
            height, width = frames[frame].shape[:2]
            size = {} if sized is None else {"height": sized.shape[0], "width": sized.shape[1]}
            image_id = len(images) + 1 + 100 * (split == "val")
            images.append({"id": image_id, "file_name": f"{name}.jpg", **size})
            for category in categories:
                if category["name"] in boxes:
                    x, y, w, h = boxes[category["name"]]
                    annotation = {"id": len(annotations) + 1, "image_id": image_id, "category_id": category["id"]}
                    annotations.append({**annotation, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0})
            if annotation_format == "voc":
                rows = [xml_object(key, (x + 1, y + 1, x + w, y + h)) for key, (x, y, w, h) in boxes.items()]
                text = xml_image(f"{name}.jpg", size.get("height", 0), size.get("width", 0), objects=rows)
                _write(folder / "Annotations" / f"{name}.xml", text)
            elif annotation_format == "yolo":
                rows = [
                    f"{list(COLORS).index(key)} {(x + w / 2) / width} {(y + h / 2) / height} {w / width} {h / height}\n"
                    for key, (x, y, w, h) in boxes.items()
                ]
                _write(folder / "labels" / split / f"{name}.txt", "".join(rows))
        if annotation_format == "coco":
            content = {"images": images, "annotations": annotations, "categories": categories}
            _write(folder / "annotations" / f"instances_{split}.json", json.dumps(content))
        elif annotation_format == "voc":
            _write(folder / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{split}{o}\n" for o in orientations))
    if annotation_format == "yolo":
        _write(folder / "data.yaml", json.dumps({"names": list(COLORS)}))
    return folder


def write_shards(folder, orientations, is_old):
    """Write shards of a COCO dataset, of this version or as an earlier version wrote them. Returns their folder."""
    splits = read_splits(open_dataset_folder("coco", write_dataset(folder / "photos", "coco", orientations, "upright")))
    convert(*splits, folder / "shards", overwrite=False, num_workers=1)
    if is_old:
        path = folder / "shards" / "dataset.json"
        content = json.loads(path.read_text())
        del content["upright"]
        path.write_text(json.dumps({**content, "format": 1}))
    return folder / "shards"


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
