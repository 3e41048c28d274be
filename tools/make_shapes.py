"""Make a COCO-format detection data set of drawn shapes: small, exact and the same for the same seed.

    python tools/make_shapes.py OUT [--train 800] [--val 200] [--size 320] [--seed 0] [--overwrite]

writes OUT/{train2017,val2017}/*.jpg and OUT/annotations/instances_{train2017,val2017}.json. Each of the six classes
has its outline and its range of hues; shade, texture and background are random. Pixel convention as in COCO: x = 0 is
the left edge of the first pixel, so a shape that covers pixel columns 3..7 has x = 3 and w = 5. The annotations of an
image stand in drawing order: a later shape lies over an earlier one, and every box is that of the whole shape, hidden
parts included.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from itertools import count
from pathlib import Path

import cv2
import numpy as np

from shape_drawing import Shape, draw_scene

# With gaps and not from 1, so that a category id taken for a class index is found out at once.
CATEGORY_IDS = {"circle": 2, "square": 5, "triangle": 7, "star": 11, "ring": 18, "cross": 34}
SPLITS = ("train2017", "val2017")
DESCRIPTION = "Drawn shapes for object detection"  # opens each annotation file; --overwrite knows its own by it

NUM_OBJECTS = (3, 12)
EMPTY_EVERY = 50  # the 50th, 100th, ... image of a split has no object: 2 % negatives
JPEG_QUALITY = 92


def draw_image(seed: int, split: str, index: int, size: int) -> tuple[np.ndarray, list[Shape]]:
    """Image number index (from 0) of a split: depends on these four values only, not on how many images are made."""
    # The seed stands last: it alone may need more than one 32-bit word, which would shift what follows.
    rng = np.random.default_rng([SPLITS.index(split), index, seed])
    empty = index % EMPTY_EVERY == EMPTY_EVERY - 1
    return draw_scene(rng, size, 0 if empty else int(rng.integers(NUM_OBJECTS[0], NUM_OBJECTS[1] + 1)))


def coco_annotation(shape: Shape, annotation_id: int, image_id: int) -> dict:
    """The COCO record of a shape; coordinates in pixels, to 1/100."""
    x, y, w, h = shape.box_xywh
    left, top, right, bottom = (round(value, 2) for value in (x, y, x + w, y + h))  # rounded ends stay in the image
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": CATEGORY_IDS[shape.name],
        "bbox": [left, top, round(right - left, 2), round(bottom - top, 2)],
        "area": round(shape.area, 2),
        "iscrowd": 0,
        "segmentation": [[round(float(value), 2) for value in shape.outline.ravel()]],
    }


def write_split(root: Path, split: str, number: int, size: int, seed: int, image_ids, object_ids) -> int:
    """Write one split under root, its ids taken from the two iterators in turn; returns the number of objects."""
    images, annotations = [], []
    (root / split).mkdir(parents=True)
    for index in range(number):
        image, shapes = draw_image(seed, split, index, size)
        image_id = next(image_ids)
        images.append({"id": image_id, "file_name": f"{image_id:012d}.jpg", "width": size, "height": size})
        annotations += [coco_annotation(shape, next(object_ids), image_id) for shape in shapes]
        jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        (root / split / images[-1]["file_name"]).write_bytes(jpeg.tobytes())
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


def check_numbers(**values: int) -> None:
    """ValueError, with the name, for a count, size or seed out of its range."""
    limits = {"train": (1, 10**6), "val": (0, 10**6), "size": (64, 4096), "seed": (0, 2**63 - 1)}
    for name, value in values.items():
        low, high = limits[name]
        if not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"--{name}: got {value!r}, expected a whole number from {low} to {high}; change --{name}")


def check_target(out: Path, overwrite: bool) -> None:
    """FileExistsError unless out is new, empty or, with overwrite, a data set of this tool and nothing else."""
    nearest = next(path for path in (out, *out.parents) if path.exists())
    if not nearest.is_dir():
        raise FileExistsError(f"{nearest}: got a file, expected a folder; choose another OUT")
    found = {path.name for path in out.iterdir()} if out.exists() else set()
    if not found:
        return
    if not overwrite:
        rule = "expected a new or empty one; add --overwrite or choose another OUT"
        raise FileExistsError(f"{out}: got a folder with content, {rule}")
    # COCO itself has these names too; the first bytes of the annotation file tell a set of ours from it.
    annotation_file = out / "annotations" / "instances_train2017.json"
    opening = json.dumps({"info": {"description": DESCRIPTION}})[:-2].encode()
    ours = (out / "train2017").is_dir() and annotation_file.is_file()
    if ours:
        with annotation_file.open("rb") as file:
            ours = file.read(len(opening)) == opening
    if not ours or found - {"annotations", *SPLITS}:
        rule = "expected nothing but a data set of this tool; remove it by hand or choose another OUT"
        raise FileExistsError(f"{out}: got a folder with {', '.join(sorted(found))[:60]}, {rule}")


def make_shapes(out, train: int = 800, val: int = 200, size: int = 320, seed: int = 0, overwrite: bool = False) -> int:
    """Make the data set in the folder out and return its number of objects.

    train, val: number of images; size: image side in pixels. Nothing stands at out before all of it is written.
    ValueError for a number out of range, FileExistsError for a folder that must not be replaced.
    """
    check_numbers(train=train, val=val, size=size, seed=seed)
    out = Path(out).resolve()
    check_target(out, overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
        new, old = Path(scratch, "new"), Path(scratch, "old")
        image_ids, object_ids = count(1), count(1)  # run on over both splits, so no id occurs twice
        objects = sum(write_split(new, s, n, size, seed, image_ids, object_ids) for s, n in zip(SPLITS, (train, val)))
        check_target(out, overwrite)  # again: the folder may have been filled in the meantime
        if not out.exists():
            new.rename(out)
        else:
            out.rename(old)
            try:
                new.rename(out)
            except BaseException:  # Ctrl-C too: what stood there goes back before the scratch folder is cleared
                old.rename(out)
                raise
    return objects


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make a COCO-format detection data set of drawn shapes.")
    parser.add_argument("out", metavar="OUT", help="folder to make")
    parser.add_argument("--train", type=int, default=800, help="training images (default: %(default)s)")
    parser.add_argument("--val", type=int, default=200, help="validation images (default: %(default)s)")
    parser.add_argument("--size", type=int, default=320, help="image side in pixels (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same files (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace a data set that this tool made")
    args = parser.parse_args(argv)
    try:
        objects = make_shapes(**vars(args))
    except (ValueError, OSError) as error:
        message = str(error)
        if getattr(error, "errno", None) is not None:  # the system's own refusal, not one of ours
            message = f"{args.out}: got {error.strerror}, expected a folder that can be written; choose another OUT"
        print(message, file=sys.stderr)
        return 2
    counts = f"{args.train} training and {args.val} validation images"
    print(f"{args.out}: {counts}, {objects} objects of {len(CATEGORY_IDS)} classes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
