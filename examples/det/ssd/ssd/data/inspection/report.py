"""What annotated images hold, as text, before they are converted: counts, sizes, problems, and advice for a recipe."""

from __future__ import annotations

import collections
import dataclasses
import unicodedata

import numpy as np

from ...boxes.ops import box_area
from ..mindrecord import MIN_SIDE
from ..readers.annotations import BROKEN, CocoSplit
from ..readers.splits import shared_images
from .anchor_recall import AnchorSet, explain, not_recalled

EXAMPLES = 3  # of each kind of problem
FEW = 20  # objects of a class to train on, below which the report says so
SAMPLE = 2000  # objects whose anchors are looked for; more would take minutes and tell the same
SMALL, LARGE = 32**2, 96**2  # pixels: COCO's bounds between small, medium and large


@dataclasses.dataclass(frozen=True)
class _Objects:
    """All objects of a split. boxes_yxyx: (N, 4), pixels, clipped to the image; annotated_yxyx: (N, 4) before that;
    labels, image: (N,), class and index of the image; sizes: (N, 2), height and width of it, 0 where unknown"""

    boxes_yxyx: np.ndarray
    annotated_yxyx: np.ndarray
    labels: np.ndarray
    image: np.ndarray
    sizes: np.ndarray

    @property
    def sides(self) -> np.ndarray:
        """(N, 2): height and width of the boxes."""
        return self.boxes_yxyx[:, 2:] - self.boxes_yxyx[:, :2]


def describe(
    train: CocoSplit, val: CocoSplit, recipe: AnchorSet | None = None, more: dict[str, list[str]] | None = None
) -> str:
    """The report of two splits with equal classes. more: {kind of problem: where, one text each} found elsewhere"""
    of_train, of_val = _gather(train), _gather(val)
    lines = []
    for name, split, objects in (("train", train, of_train), ("val", val, of_val)):
        lines += [f"{name}: {line}" for line in _describe_split(split, objects)]
    lines += ["", *_class_table(train, of_train, of_val), "", "problems:"]
    lines += _indent(_problems(train, val, of_train, of_val, more or {})) or ["  none found"]
    return "\n".join([*lines, "", "advice:", *(_indent(_advice(train, of_train, of_val, recipe)) or ["  none"]), ""])


def _gather(split: CocoSplit) -> _Objects:
    rows = np.concatenate([np.zeros((0, 5)), *(image.objects for image in split.images)])
    counts = [len(image.objects) for image in split.images]
    sizes = np.array([image.size or (0, 0) for image in split.images]).reshape(-1, 2).repeat(counts, axis=0)
    annotated = rows[:, :4]
    limits = np.where(sizes > 0, sizes, np.inf)
    clipped = np.clip(annotated, 0, np.tile(limits, 2))
    return _Objects(clipped, annotated, rows[:, 4].astype(int), np.arange(len(counts)).repeat(counts), sizes)


def _describe_split(split: CocoSplit, objects: _Objects) -> list[str]:
    counts = np.bincount(objects.image, minlength=len(split.images))
    crowds = sum(image.crowd_boxes for image in split.images)
    lines = [
        f"{len(split.images)} images, {int((counts == 0).sum())} of them without objects; {len(objects.labels)} "
        f"objects, {crowds} crowd regions and difficult objects beside them"
    ]
    sizes = collections.Counter(image.size for image in split.images if image.size)
    if sizes:
        common = ", ".join(f"{width}x{height} ({count})" for (height, width), count in sizes.most_common(3))
        more = f", and {len(sizes) - 3} more" if len(sizes) > 3 else ""
        lines.append(f"image sizes, width x height (images): {common}{more}")
    kept = (objects.sides > 0).all(axis=1)
    if kept.any():
        area, sides = box_area(objects.boxes_yxyx[kept]), objects.sides[kept]
        small, large = (area < SMALL).mean(), (area >= LARGE).mean()
        lines += [
            f"box side in pixels, root of the area: {_spread(np.sqrt(area), '.0f')}; small {small:.0%}, medium "
            f"{1 - small - large:.0%}, large {large:.0%} by COCO's bounds of 32x32 and 96x96",
            f"box width over height: {_spread(sides[:, 1] / sides[:, 0], '.2f')}",
            f"objects in an image: median {np.median(counts):.0f}, at most {counts.max()}",
        ]
    return lines


def _spread(values: np.ndarray, form: str) -> str:
    low, middle, high = np.percentile(values, [5, 50, 95])
    return f"median {middle:{form}}, nine in ten between {low:{form}} and {high:{form}}"


def _class_table(train: CocoSplit, of_train: _Objects, of_val: _Objects) -> list[str]:
    names = train.classes
    counts = [np.bincount(objects.labels, minlength=len(names)) for objects in (of_train, of_val)]
    wide = max(map(_columns, [*names[1:], "class"]))
    rows = [("class", "train", "val")]
    rows += [(names[k], str(counts[0][k]), str(counts[1][k])) for k in range(1, len(names))]
    return [name + " " * (wide - _columns(name)) + f"{first:>9}{second:>9}" for name, first, second in rows]


def _columns(text: str) -> int:
    """How many columns a terminal takes for a text: two for Chinese characters, none for combining marks."""
    return sum(0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def _problems(
    train: CocoSplit, val: CocoSplit, of_train: _Objects, of_val: _Objects, more: dict[str, list[str]]
) -> list[str]:
    found: dict[str, list[str]] = collections.defaultdict(list, {kind: list(where) for kind, where in more.items()})
    for split, objects in ((train, of_train), (val, of_val)):
        for kind, where in split.problems.items():
            found[kind] += where
        for kind, rows in _odd_boxes(objects).items():
            found[kind] += [_name_box(split, objects, row) for row in rows]
    if BROKEN in found:  # which a reader and a look at every image both find
        found[BROKEN] = list(dict.fromkeys(found[BROKEN]))
    found["images in both splits or twice in one"] = shared_images(train, val)
    missing = [name for k, name in enumerate(train.classes) if k and k not in of_train.labels]
    found["classes without objects to train on"] = missing
    lines = []
    for kind, where in found.items():
        if where:
            rest = f", and {len(where) - EXAMPLES} more" if len(where) > EXAMPLES else ""
            lines.append(f"{len(where)} {kind}: {'; '.join(where[:EXAMPLES])}{rest}")
    return lines


def _odd_boxes(objects: _Objects) -> dict[str, list[int]]:
    """{kind: rows of objects}"""
    outside = np.abs(objects.annotated_yxyx - objects.boxes_yxyx).max(axis=1, initial=0) > 1  # less is rounding
    thin = (objects.sides < MIN_SIDE).any(axis=1)
    keys = np.concatenate([objects.image[:, None], objects.labels[:, None], objects.annotated_yxyx], axis=1)
    _, first = np.unique(keys, axis=0, return_index=True)
    again = np.ones(len(keys), dtype=bool)
    again[first] = False
    return {
        "boxes thinner than a pixel within their image, left out of training": np.flatnonzero(thin).tolist(),
        "boxes beyond their image, cut off at its border": np.flatnonzero(outside & ~thin).tolist(),
        "boxes given twice with one class": np.flatnonzero(again).tolist(),
    }


def _name_box(split: CocoSplit, objects: _Objects, row: int) -> str:
    y0, x0, y1, x1 = objects.annotated_yxyx[row]
    return (
        f"{split.images[objects.image[row]].path.name} {split.classes[objects.labels[row]]} "
        f"x {x0:g} to {x1:g}, y {y0:g} to {y1:g}"
    )


def _advice(train: CocoSplit, of_train: _Objects, of_val: _Objects, recipe: AnchorSet | None) -> list[str]:
    lines = []
    counts = np.bincount(of_train.labels, minlength=len(train.classes))
    few = [f"{train.classes[k]} ({counts[k]})" for k in range(1, len(counts)) if 0 < counts[k] < FEW]
    if few:
        lines.append(f"fewer than {FEW} objects to learn from, which is seldom enough: {', '.join(few)}")
    unseen = [train.classes[k] for k in range(1, len(counts)) if counts[k] and k not in of_val.labels]
    if unseen:
        lines.append(f"no object to validate, so evaluation says nothing of them: {', '.join(unseen)}")
    if recipe is None:
        lines.append("give --config RECIPE to learn which share of the objects its anchors do not reach")
    else:
        lines += _anchor_advice(train, of_train, recipe)
    return lines


def _anchor_advice(train: CocoSplit, objects: _Objects, recipe: AnchorSet) -> list[str]:
    usable = np.flatnonzero((objects.sizes > 0).all(axis=1) & (objects.sides >= MIN_SIDE).all(axis=1))
    if not len(usable):
        return ["no anchors can be compared: the annotations give no image sizes, or no objects"]
    rows = usable[np.linspace(0, len(usable) - 1, min(len(usable), SAMPLE)).round().astype(int)]
    boxes = objects.boxes_yxyx[rows] / np.tile(objects.sizes[rows], 2)
    missed, labels = not_recalled(boxes, recipe), objects.labels[rows]
    sampled = f" of {len(rows)} looked at" if len(rows) < len(usable) else ""
    lines = [
        f"{missed.mean():.1%} of the objects to train on ({int(missed.sum())}{sampled}) are reached by no anchor at "
        f"IoU {recipe.min_iou:g}; each of those learns by its single best anchor"
    ]
    if missed.any():
        lines += explain(boxes[missed], recipe)
        shares = sorted(((missed[labels == k].mean(), k) for k in np.unique(labels)), key=lambda row: -row[0])
        worst = [f"{train.classes[k]} {share:.0%}" for share, k in shares[:5] if share >= 0.005]
        lines.append(f"most often missed: {', '.join(worst)}")
    return lines


def _indent(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]
