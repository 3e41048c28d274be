"""Make a COCO-format detection data set of drawn shapes: small, exact and the same for the same seed.

    python tools/make_shapes.py OUT [--train 800] [--val 200] [--size 320] [--seed 0] [--overwrite]

writes OUT/{train2017,val2017}/*.jpg and OUT/annotations/instances_{train2017,val2017}.json. Six classes are told apart
by outline only; colour, texture and background are random. Pixel convention as in COCO: x = 0 is the left edge of the
first pixel, so a shape that covers pixel columns 3..7 has x = 3 and w = 5. The annotations of an image stand in drawing
order: a later shape lies over an earlier one, and every box is that of the whole shape, hidden parts included.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import cv2
import numpy as np

# With gaps and not from 1, so that a category id taken for a class index is found out at once.
CATEGORY_IDS = {"circle": 2, "square": 5, "triangle": 7, "star": 11, "ring": 18, "cross": 34}
SPLITS = ("train2017", "val2017")
DESCRIPTION = "Drawn shapes for object detection"  # opens each annotation file; --overwrite knows its own by it

MAX_OBJECTS = 6
LONG_SIDE = (0.05, 0.60)  # longer side of a box, as a fraction of the image side
MIN_PIXELS = 12  # below this a star and a circle look the same; binds for images under 240 pixels
MAX_HIDDEN = 0.35  # fraction of a shape's pixels that all later shapes together may cover
MAX_ANGLE = math.radians(20)  # modest: a square turned by 45 degrees would be a new class, the diamond
MAX_STRETCH = 1.2
EMPTY_EVERY = 50  # the 50th, 100th, ... image of a split has no object: 2 % negatives
SUPERSAMPLE = 8  # the polygon filler is exact to about one sample: 1/8 pixel
MIN_CONTRAST = 100  # BGR distance between a shape and what lies under it
JPEG_QUALITY = 92


@dataclass(frozen=True)
class Shape:
    """One drawn object. outline: (P, 2) float64, x then y in pixels; a ring is one outline with a zero-width slit."""

    name: str
    outline: np.ndarray

    @property
    def box_xywh(self) -> tuple[float, float, float, float]:
        """Tight extent of the outline in pixels."""
        (x1, y1), (x2, y2) = self.outline.min(axis=0), self.outline.max(axis=0)
        return float(x1), float(y1), float(x2 - x1), float(y2 - y1)

    @property
    def area(self) -> float:
        """Area inside the outline in square pixels (shoelace formula); a ring's hole is left out."""
        x, y = self.outline.T
        return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def unit_outline(name: str) -> np.ndarray:
    """Outline of a class around the origin, (P, 2) float64, upright, y down; KeyError for an unknown name."""

    def ray(radii, turns):
        angles = 2 * np.pi * np.asarray(turns) - np.pi / 2  # from the top
        return np.asarray(radii)[..., None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)

    circle = ray(1.0, np.arange(97) / 96)  # closed: the first point comes again; off by 0.0005 radii from a true circle
    arm = 0.36
    corner = np.array([[arm, -1], [arm, -arm], [1, -arm]])  # a quarter of the cross, then turned three times
    outlines = {
        "circle": circle[:-1],
        "square": np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]]),
        "triangle": ray(1.0, np.arange(3) / 3),
        "star": ray(np.tile([1.0, 0.45], 5), np.arange(10) / 10),
        "ring": np.concatenate([circle, 0.55 * circle[::-1]]),
        "cross": np.concatenate([corner, corner[:, ::-1] * [-1, 1], -corner, corner[:, ::-1] * [1, -1]]),
    }
    return outlines[name]


def place_outline(unit, long_side: float, angle: float = 0.0, stretch: float = 1.0, corner_xy=(0.0, 0.0)) -> np.ndarray:
    """Stretch in x, turn (radians), scale to a box of the given longer side, put the box's top left at corner_xy."""
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    points = (unit * [stretch, 1.0]) @ turn.T
    points = points - points.min(axis=0)
    return points * (long_side / points.max()) + corner_xy


def coverage(outline: np.ndarray) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Anti-aliased mask of an outline that lies inside the image.

    Returns (h, w) float32 in 0..1, the covered part of each pixel, and the (rows, columns) of the image it belongs to.
    """
    # The 1e-6: rounding in the last bit must not open a pixel outside the image.
    x1, y1 = np.floor(outline.min(axis=0) + 1e-6).astype(int)
    x2, y2 = np.ceil(outline.max(axis=0) - 1e-6).astype(int)
    # OpenCV counts from the centre of a sample, we from the left edge of a pixel; hence the half. 8 fractional bits.
    samples = ((outline - [x1, y1]) * SUPERSAMPLE - 0.5) * 256
    mask = np.zeros(((y2 - y1) * SUPERSAMPLE, (x2 - x1) * SUPERSAMPLE), np.uint8)
    cv2.fillPoly(mask, [np.round(samples).astype(np.int32)], 255, shift=8)
    mask = cv2.resize(mask, (int(x2 - x1), int(y2 - y1)), interpolation=cv2.INTER_AREA)
    return mask.astype(np.float32) / 255, (slice(y1, y2), slice(x1, x2))


def draw_background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Soft colour blobs, stripes, checker patches, noise and thin lines: (size, size, 3) uint8, BGR."""
    blobs = rng.uniform(40, 215) + rng.uniform(-55, 55, (rng.integers(2, 6), rng.integers(2, 6), 3))
    image = cv2.resize(blobs.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)

    y, x = np.mgrid[:size, :size].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    texture = rng.uniform(0, 16) * np.sin(along * (2 * np.pi / rng.uniform(size / 50, size / 5)))
    checks = np.pi / rng.uniform(size / 64, size / 16)
    checker = np.sign(np.sin(along * checks) * np.sin(across * checks))
    # Soft-edged patches: a hard-edged one would be an unlabelled square.
    patch = cv2.resize(rng.uniform(-2, 2, (4, 4)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    texture += rng.uniform(0, 20) * np.clip(patch, 0, 1) * checker
    texture += rng.uniform(2, 12) * rng.standard_normal((size, size), dtype=np.float32)
    image = np.clip(image + texture[..., None], 0, 255).astype(np.uint8)

    for _ in range(rng.integers(0, 6)):
        start, end = rng.integers(0, size, (2, 2)).tolist()
        cv2.line(image, start, end, rng.integers(0, 256, 3).tolist(), 1 + size // 512, cv2.LINE_AA)
    return image


def contrasting_colour(rng: np.random.Generator, under: np.ndarray) -> np.ndarray:
    """A random BGR colour, (3,) float32, far from nearly all of the (N, 3) pixels under it, or the farthest tried."""
    tried = rng.uniform(0, 255, (32, 3)).astype(np.float32)
    distance = np.linalg.norm(tried[:, None] - under[None].astype(np.float32), axis=2)  # (32, N)
    low = np.quantile(distance, 0.1, axis=1)
    return tried[np.argmax(low >= MIN_CONTRAST) if (low >= MIN_CONTRAST).any() else np.argmax(low)]


def paint(image: np.ndarray, outline: np.ndarray, colour, rng: np.random.Generator) -> None:
    """Fill an outline, inside the image, with a faintly shaded and noisy BGR colour; changes image, (H, W, 3) uint8."""
    alpha, where = coverage(outline)
    shade = cv2.resize(rng.uniform(-14, 14, (2, 2)).astype(np.float32), alpha.shape[::-1])
    shade = shade + rng.uniform(1, 6) * rng.standard_normal(alpha.shape, dtype=np.float32)
    fill = np.clip(np.asarray(colour, np.float32) + shade[..., None], 0, 255)
    blend = image[where] + (fill - image[where]) * alpha[..., None]
    image[where] = np.clip(np.round(blend), 0, 255).astype(np.uint8)


def random_shape(rng: np.random.Generator, size: int) -> Shape:
    """A random class, size (log-uniform), angle and place; the whole shape lies inside the image."""
    name = list(CATEGORY_IDS)[rng.integers(len(CATEGORY_IDS))]
    shortest, longest = max(LONG_SIDE[0] * size, MIN_PIXELS), LONG_SIDE[1] * size
    long_side = math.exp(rng.uniform(math.log(shortest), math.log(longest)))
    stretch = MAX_STRETCH ** rng.uniform(-1, 1)
    outline = place_outline(unit_outline(name), long_side, rng.uniform(-MAX_ANGLE, MAX_ANGLE), stretch)
    return Shape(name, outline + rng.uniform(0, size - outline.max(axis=0)))


def draw_scene(rng: np.random.Generator, size: int, num_objects: int) -> tuple[np.ndarray, list[Shape]]:
    """A background with up to num_objects shapes on it: (size, size, 3) uint8, BGR, and the shapes in drawing order.

    A shape that finds no place where it leaves the earlier ones visible is left out; the first always has one.
    """
    image = draw_background(rng, size)
    owner = np.zeros((size, size), np.int64)  # 1 + index of the topmost shape of each pixel; 0 is background
    shapes: list[Shape] = []
    whole = visible = np.zeros(0)  # pixels of each shape, all and those still seen
    for _ in range(num_objects):
        for _ in range(10):
            shape = random_shape(rng, size)
            alpha, where = coverage(shape.outline)
            solid = alpha >= 0.5
            lost = np.bincount(owner[where][solid], minlength=len(shapes) + 1)[1:]
            if np.all(visible - lost >= (1 - MAX_HIDDEN) * whole):
                break
        else:
            continue
        under = image[where].reshape(-1, 3)
        paint(image, shape.outline, contrasting_colour(rng, under[:: 1 + len(under) // 256]), rng)
        shapes.append(shape)
        owner[where][solid] = len(shapes)
        whole, visible = np.append(whole, solid.sum()), np.append(visible - lost, solid.sum())
    return image, shapes


def draw_image(seed: int, split: str, index: int, size: int) -> tuple[np.ndarray, list[Shape]]:
    """Image number index (from 0) of a split: depends on these four values only, not on how many images are made."""
    # The seed stands last: it alone may need more than one 32-bit word, which would shift what follows.
    rng = np.random.default_rng([SPLITS.index(split), index, seed])
    empty = index % EMPTY_EVERY == EMPTY_EVERY - 1
    return draw_scene(rng, size, 0 if empty else int(rng.integers(1, MAX_OBJECTS + 1)))


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
