"""Create a detection dataset of drawn shapes in COCO format. The same seed creates the same files:

    python tools/make_shapes.py OUT [--train 800] [--val 200] [--size 320] [--seed 0] [--overwrite]

The command writes OUT/{train2017,val2017}/*.jpg and OUT/annotations/instances_{train2017,val2017}.json. Each of the six
classes has its own outline and range of hues. Shade, texture and background are random.

Pixel coordinates follow the COCO convention: x = 0 is the left edge of the first pixel. For example, a shape that
covers the pixel columns 3 to 7 has x = 3 and w = 5. The annotations of an image are in drawing order, and later shapes
cover earlier shapes. Every box encloses the whole shape, including hidden parts.
"""

from __future__ import annotations

if __name__ == "__main__":
    from ssd.startup import prepare_process

    prepare_process()  # before slow imports, so that Ctrl-C ends these cleanly

import argparse
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import cv2
import numpy as np

from shape_drawing import Shape, draw_scene
from ssd.errors import UserError, exit_cleanly, os_reason
from ssd.runtime.atomic_write import replace_folder
from ssd.runtime.folder_lock import lock_folder
from ssd.runtime.heartbeat import report_silence

# Category ids are not consecutive, so that code that confuses category ids with class indices fails immediately.
CATEGORY_IDS = {"circle": 2, "square": 5, "triangle": 7, "star": 11, "ring": 18, "cross": 34}
SPLITS = ("train2017", "val2017")
DESCRIPTION = "Drawn shapes for object detection"  # in annotation files, where --overwrite checks for this text

MIN_OBJECTS, MAX_OBJECTS = 3, 12
EMPTY_EVERY = 50  # the 50th, 100th, … image of a split has no objects (2 % of the images)
JPEG_QUALITY = 92
ARGUMENT_RANGES = {"train": (1, 10**6), "val": (0, 10**6), "size": (64, 4096), "seed": (0, 2**63 - 1)}


def draw_image(seed: int, split: str, index: int, size: int) -> tuple[np.ndarray, list[Shape]]:
    """Draw one image of a split.

    seed: random seed of the dataset
    split: name of the split, "train2017" or "val2017"
    index: index of the image in the split, from 0
    size: height and width of the image in pixels
    Returns the image (size, size, 3) uint8 BGR, and the shapes in drawing order. The image depends only on these
    arguments, not on the number of images.
    """
    # The seed comes last, because a large seed becomes two 32-bit words, which would shift later numbers.
    rng = np.random.default_rng([SPLITS.index(split), index, seed])
    is_empty = index % EMPTY_EVERY == EMPTY_EVERY - 1
    num_objects = 0 if is_empty else int(rng.integers(MIN_OBJECTS, MAX_OBJECTS + 1))
    return draw_scene(rng, size, num_objects)


def coco_annotation(shape: Shape, annotation_id: int, image_id: int) -> dict:
    """Return the COCO annotation of a shape, with coordinates in pixels, rounded to 0.01.

    shape: drawn shape
    annotation_id: id of the annotation, unique in the dataset
    image_id: id of the image that contains the shape
    """
    x, y, w, h = shape.box_xywh
    left, top, right, bottom = (round(value, 2) for value in (x, y, x + w, y + h))  # the rounded box stays in the image
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": CATEGORY_IDS[shape.name],
        "bbox": [left, top, round(right - left, 2), round(bottom - top, 2)],
        "area": round(shape.area, 2),
        "iscrowd": 0,
        "segmentation": [[round(float(value), 2) for value in shape.outline.ravel()]],
    }


def write_split(
    root: Path,
    split: str,
    num_images: int,
    size: int,
    seed: int,
    image_ids: Iterator[int],
    annotation_ids: Iterator[int],
) -> int:
    """Write the images and the annotation file of one split, and return the number of objects.

    root: folder of the dataset
    split: name of the split, "train2017" or "val2017"
    num_images: number of images to write
    size: height and width of the images in pixels
    seed: random seed of the dataset
    image_ids: iterator over unused image ids
    annotation_ids: iterator over unused annotation ids
    """
    images, annotations = [], []
    (root / split).mkdir(parents=True)
    for index in range(num_images):
        image, shapes = draw_image(seed=seed, split=split, index=index, size=size)
        image_id = next(image_ids)
        file_name = f"{image_id:012d}.jpg"
        images.append({"id": image_id, "file_name": file_name, "width": size, "height": size})
        annotations += [coco_annotation(shape, next(annotation_ids), image_id) for shape in shapes]
        jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        (root / split / file_name).write_bytes(jpeg.tobytes())
    content = {
        "info": {"description": DESCRIPTION, "version": "1.0", "seed": seed},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name, "supercategory": "shape"} for name, i in CATEGORY_IDS.items()],
    }
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content), encoding="utf-8")
    return len(annotations)


def check_numbers(**arguments: int) -> None:
    """Raise UserError if an argument is not an integer in its range.

    arguments: {name: value} of train, val, size and seed
    """
    for name, value in arguments.items():
        low, high = ARGUMENT_RANGES[name]
        if not isinstance(value, int) or not low <= value <= high:
            problem = f"{value!r} is not an integer from {low} to {high}"
            raise UserError(f"--{name}: {problem}. Set --{name} to an integer in this range.")


def check_output_folder(out: Path, overwrite: bool) -> None:
    """Raise UserError if the output folder contains files that must not be replaced.

    out: output folder, which may be missing or empty
    overwrite: True if the folder may also be a dataset that this tool has created, without other files
    """
    nearest = next(path for path in (out, *out.parents) if path.exists())
    if not nearest.is_dir():
        raise UserError(f"{nearest}: this path is a file and not a folder. Choose another OUT.")
    names = {path.name for path in out.iterdir()} if out.exists() else set()
    if not names:
        return
    if not overwrite:
        raise UserError(
            f"{out}: the folder is not empty. Set --overwrite to replace the folder, or choose another OUT."
        )
    # COCO has the same file names, so compare the first bytes of the annotation file too.
    annotation_file = out / "annotations" / "instances_train2017.json"
    expected = json.dumps({"info": {"description": DESCRIPTION}})[:-2].encode()
    is_data_set = (out / "train2017").is_dir() and annotation_file.is_file()
    if is_data_set:
        with annotation_file.open("rb") as file:
            is_data_set = file.read(len(expected)) == expected
    if not is_data_set or names - {"annotations", *SPLITS}:
        raise UserError(
            f"{out}: --overwrite replaces only datasets created by make_shapes.py, but the folder contains "
            f"{', '.join(sorted(names))[:60]}. Delete the folder manually, or choose another OUT."
        )


def make_shapes(
    out: str | Path, train: int = 800, val: int = 200, size: int = 320, seed: int = 0, overwrite: bool = False
) -> int:
    """Write the dataset to the folder `out`, and return the number of objects.

    out: folder to create; the folder appears only after all files have been written
    train: number of training images
    val: number of validation images
    size: height and width of the images in pixels
    seed: random seed
    overwrite: True to replace a dataset that this tool has created
    Raises UserError if an argument is out of range or the folder must not be replaced, and OSError if
    writing fails.
    """
    check_numbers(train=train, val=val, size=size, seed=seed)
    out = Path(out).resolve()
    check_output_folder(out, overwrite)
    # The lock file is beside the folder, because the folder is replaced:
    with lock_folder(out, "OUT", lock_file=out.with_name(f".{out.name}.lock")), replace_folder(out) as folder:
        image_ids, annotation_ids = count(1), count(1)  # shared by both splits, so that all ids are unique
        num_objects = 0
        for split, num_images in zip(SPLITS, (train, val)):
            num_objects += write_split(
                folder,
                split=split,
                num_images=num_images,
                size=size,
                seed=seed,
                image_ids=image_ids,
                annotation_ids=annotation_ids,
            )
        check_output_folder(out, overwrite)  # again, because another process may have written files
    return num_objects


@exit_cleanly
@report_silence
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Create a detection dataset of drawn shapes in COCO format.")
    parser.add_argument("out", metavar="OUT", help="output folder to create")
    parser.add_argument("--train", type=int, default=800, help="number of training images (default: %(default)s)")
    parser.add_argument("--val", type=int, default=200, help="number of validation images (default: %(default)s)")
    parser.add_argument("--size", type=int, default=320, help="image height and width in pixels (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace a dataset that this tool has created")
    args = parser.parse_args(argv)
    try:
        num_objects = make_shapes(**vars(args))
    except OSError as error:
        raise UserError(
            f"{args.out}: the dataset cannot be written ({os_reason(error)}). Set OUT to a writable folder."
        ) from None
    num_images = f"{args.train} training and {args.val} validation images"
    print(f"{args.out}: {num_images}, {num_objects} objects of {len(CATEGORY_IDS)} classes")


if __name__ == "__main__":
    main()
