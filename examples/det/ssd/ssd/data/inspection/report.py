"""Summarize a dataset as text before the conversion: counts, sizes, problems, and advice on the recipe."""

from __future__ import annotations

import collections
import dataclasses
import unicodedata

import numpy as np

from ...boxes.ops import box_area
from ...errors import count_noun
from ...runtime.heartbeat import activity
from ..readers.annotations import MIN_BOX_SIDE, OUTSIDE_BOXES, UNUSABLE_IMAGES, DatasetSplit
from ..readers.splits import find_repeated_images
from .anchor_recall import AnchorSet, not_recalled, reasons_for_missed_boxes

MAX_EXAMPLES = 3  # maximum number of examples for each kind of problem
FEW_BOXES = 20  # a class with fewer training boxes gets a warning
MAX_SAMPLED_BOXES = 2000  # boxes compared with the anchors; more boxes would take minutes and hardly change the result
SMALL, LARGE = 32**2, 96**2  # box areas in pixels: COCO's limits between small, medium and large objects


@dataclasses.dataclass(frozen=True)
class _Boxes:
    """All ground-truth boxes of a split.

    annotated_yxyx: (N, 4) in pixels, not clipped
    boxes_yxyx: (N, 4) in pixels, clipped to the image
    labels: (N,) class index 1..K-1
    image_indices: (N,) index of each box's image in the list of images of the split
    image_sizes: (N, 2) height and width in pixels of each box's image; 0 if unknown
    """

    annotated_yxyx: np.ndarray
    boxes_yxyx: np.ndarray
    labels: np.ndarray
    image_indices: np.ndarray
    image_sizes: np.ndarray

    @property
    def sides(self) -> np.ndarray:
        """Return the heights and widths of the clipped boxes in pixels, (N, 2)."""
        return self.boxes_yxyx[:, 2:] - self.boxes_yxyx[:, :2]


@activity("summarizing the dataset")
def summarize_dataset(
    train: DatasetSplit,
    val: DatasetSplit,
    anchor_set: AnchorSet | None = None,
    more_problems: dict[str, list[str]] | None = None,
) -> str:
    """Return a text summary of a training and a validation split. Both splits must have the same classes.

    anchor_set: anchors whose recall is estimated on the training boxes; None omits the estimate
    more_problems: {kind of problem: one text per occurrence}, additional problems that are listed first
    """
    train_boxes, val_boxes = _collect_boxes(train), _collect_boxes(val)
    problems = _find_problems(
        train, val, train_boxes=train_boxes, val_boxes=val_boxes, more_problems=more_problems or {}
    )
    advice = _class_advice(train.classes, train_boxes, val_boxes)
    if anchor_set is None:
        advice.append("add --config RECIPE to see the fraction of boxes that the anchors of the recipe do not recall")
    else:
        advice += _anchor_advice(train.classes, train_boxes, anchor_set)
    lines = [
        *(f"train: {line}" for line in _summarize_split(train, train_boxes)),
        *(f"val: {line}" for line in _summarize_split(val, val_boxes)),
        "",
        *_class_table(train.classes, train_boxes, val_boxes),
        "",
        "problems:",
        *(f"  {line}" for line in problems or ["none found"]),
        "",
        "advice:",
        *(f"  {line}" for line in advice or ["none"]),
        "",
    ]
    return "\n".join(lines)


def _collect_boxes(split: DatasetSplit) -> _Boxes:
    rows = np.concatenate([np.zeros((0, 5)), *(image.ground_truth for image in split.images)])
    counts = [len(image.ground_truth) for image in split.images]
    image_sizes = np.array([image.size or (0, 0) for image in split.images]).reshape(-1, 2).repeat(counts, axis=0)
    limits = np.where(image_sizes > 0, image_sizes, np.inf)
    return _Boxes(
        annotated_yxyx=rows[:, :4],
        boxes_yxyx=np.clip(rows[:, :4], 0, np.tile(limits, 2)),
        labels=rows[:, 4].astype(int),
        image_indices=np.arange(len(counts)).repeat(counts),
        image_sizes=image_sizes,
    )


def _summarize_split(split: DatasetSplit, boxes: _Boxes) -> list[str]:
    counts = np.bincount(boxes.image_indices, minlength=len(split.images))
    lines = [
        f"{count_noun(len(split.images), 'image', 'images')}, {int((counts == 0).sum())} of them without boxes; "
        f"{count_noun(len(boxes.labels), 'box', 'boxes')}; number of crowd regions and difficult objects, which are "
        f"left out: {sum(image.crowd_boxes for image in split.images)}"
    ]
    sizes = collections.Counter(image.size for image in split.images if image.size)
    if sizes:
        common = ", ".join(f"{width}x{height} ({count})" for (height, width), count in sizes.most_common(3))
        others = f", and {count_noun(len(sizes) - 3, 'other size', 'other sizes')}" if len(sizes) > 3 else ""
        lines.append(f"image sizes in pixels, width x height (number of images): {common}{others}")
    kept = (boxes.sides > 0).all(axis=1)
    if kept.any():
        areas, sides = box_area(boxes.boxes_yxyx[kept]), boxes.sides[kept]
        small, large = (areas < SMALL).mean(), (areas >= LARGE).mean()
        lines += [
            f"square root of the box area in pixels: {_spread(np.sqrt(areas), '.0f')}; small {small:.0%}, medium "
            f"{1 - small - large:.0%}, large {large:.0%} by COCO's limits of 32x32 and 96x96 pixels",
            f"aspect ratio of the boxes (width over height): {_spread(sides[:, 1] / sides[:, 0], '.2f')}",
            f"boxes per image: median {np.median(counts):.0f}, maximum {counts.max()}",
        ]
    return lines


def _spread(values: np.ndarray, number_format: str) -> str:
    low, median, high = np.percentile(values, [5, 50, 95])
    return f"median {median:{number_format}}, 90% between {low:{number_format}} and {high:{number_format}}"


def _class_table(classes: list[str], train_boxes: _Boxes, val_boxes: _Boxes) -> list[str]:
    """Return the lines of a table of the number of boxes in each split, with one row per class except background."""
    train_counts = np.bincount(train_boxes.labels, minlength=len(classes))
    val_counts = np.bincount(val_boxes.labels, minlength=len(classes))
    rows = [("class", "train", "val")]
    rows += [(classes[k], str(train_counts[k]), str(val_counts[k])) for k in range(1, len(classes))]
    width = max(_display_width(name) for name, _, _ in rows)
    return [name + " " * (width - _display_width(name)) + f"{train:>9}{val:>9}" for name, train, val in rows]


def _display_width(text: str) -> int:
    """Return the width of a text in terminal columns: 2 for a Chinese character, 0 for a combining mark."""
    return sum(0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def _find_problems(
    train: DatasetSplit,
    val: DatasetSplit,
    train_boxes: _Boxes,
    val_boxes: _Boxes,
    more_problems: dict[str, list[str]],
) -> list[str]:
    """Collect the problems of both splits. Returns one line per kind of problem, with the number and examples.

    more_problems: {kind of problem: one text per occurrence}, additional problems that are listed first
    """
    found: dict[str, list[str]] = collections.defaultdict(list)
    for problems in (more_problems, train.problems, val.problems):
        for kind, texts in problems.items():
            found[kind] += texts
    if UNUSABLE_IMAGES in found:  # annotation readers and check_images report the same images
        found[UNUSABLE_IMAGES] = list(dict.fromkeys(found[UNUSABLE_IMAGES]))
    for split, boxes in ((train, train_boxes), (val, val_boxes)):
        for kind, rows in _find_bad_boxes(boxes).items():
            found[kind] += [_describe_box(split, boxes, row) for row in rows]
    found["images in both splits, or twice in one split"] = find_repeated_images(train, val)
    found["classes without training boxes"] = [
        name for label, name in enumerate(train.classes) if label and label not in train_boxes.labels
    ]
    lines = []
    for kind, texts in found.items():
        if texts:
            rest = f"; and {len(texts) - MAX_EXAMPLES} more" if len(texts) > MAX_EXAMPLES else ""
            lines.append(f"{kind} ({len(texts)}): {'; '.join(texts[:MAX_EXAMPLES])}{rest}")
    return lines


def _find_bad_boxes(boxes: _Boxes) -> dict[str, list[int]]:
    """Find boxes that lie outside their image, are too thin, extend beyond their image, or are duplicates.

    Returns {kind of problem: row indices of `boxes`}.
    """
    annotated_sides = boxes.annotated_yxyx[:, 2:] - boxes.annotated_yxyx[:, :2]
    is_outside = ((boxes.sides <= 0) & (annotated_sides > 0)).any(axis=1)
    is_thin = (boxes.sides < MIN_BOX_SIDE).any(axis=1)
    # Up to 1 pixel beyond the image is considered a rounding error.
    extends_beyond = np.abs(boxes.annotated_yxyx - boxes.boxes_yxyx).max(axis=1, initial=0) > 1
    keys = np.concatenate([boxes.image_indices[:, None], boxes.labels[:, None], boxes.annotated_yxyx], axis=1)
    _, first_rows = np.unique(keys, axis=0, return_index=True)
    is_duplicate = np.ones(len(keys), dtype=bool)
    is_duplicate[first_rows] = False
    return {
        OUTSIDE_BOXES: np.flatnonzero(is_outside).tolist(),
        "boxes thinner than one pixel inside their image, which are left out": np.flatnonzero(
            is_thin & ~is_outside
        ).tolist(),
        "boxes that extend beyond their image, which are clipped": np.flatnonzero(extends_beyond & ~is_thin).tolist(),
        "duplicate boxes of the same class": np.flatnonzero(is_duplicate).tolist(),
    }


def _describe_box(split: DatasetSplit, boxes: _Boxes, row: int) -> str:
    y0, x0, y1, x1 = boxes.annotated_yxyx[row]
    image, name = split.images[boxes.image_indices[row]], split.classes[boxes.labels[row]]
    return f"{image.path.name} {name} x {x0:g} to {x1:g}, y {y0:g} to {y1:g}"


def _class_advice(classes: list[str], train_boxes: _Boxes, val_boxes: _Boxes) -> list[str]:
    counts = np.bincount(train_boxes.labels, minlength=len(classes))
    rare = [f"{classes[k]} ({counts[k]})" for k in range(1, len(classes)) if 0 < counts[k] < FEW_BOXES]
    unseen = [classes[k] for k in range(1, len(classes)) if counts[k] and k not in val_boxes.labels]
    lines = []
    if rare:
        lines.append(f"classes with fewer than {FEW_BOXES} training boxes, which are rarely enough: {', '.join(rare)}")
    if unseen:
        lines.append(f"classes that cannot be evaluated, because they have no validation boxes: {', '.join(unseen)}")
    return lines


def _anchor_advice(classes: list[str], train_boxes: _Boxes, anchor_set: AnchorSet) -> list[str]:
    """Estimate the fraction of training boxes that no anchor recalls, and explain why boxes are not recalled.

    Large datasets are estimated from a sample of the boxes. Returns lines of text.
    """
    has_size = (train_boxes.image_sizes > 0).all(axis=1)
    usable = np.flatnonzero(has_size & (train_boxes.sides >= MIN_BOX_SIDE).all(axis=1))
    if not len(usable):
        return ["the anchors cannot be evaluated, because the annotations contain no image sizes or no boxes"]
    sample_size = min(len(usable), MAX_SAMPLED_BOXES)
    rows = usable[np.linspace(0, len(usable) - 1, sample_size).round().astype(int)]
    boxes = train_boxes.boxes_yxyx[rows] / np.tile(train_boxes.image_sizes[rows], 2)
    labels = train_boxes.labels[rows]
    missed = not_recalled(boxes, anchor_set)
    sampled = f" of {sample_size} sampled" if sample_size < len(usable) else ""
    lines = [
        f"{missed.mean():.1%} of the training boxes ({int(missed.sum())}{sampled}) are not recalled by any anchor at "
        f"IoU {anchor_set.min_iou:g}; the losses focal and multibox match them only with their best anchor"
    ]
    if missed.any():
        lines += reasons_for_missed_boxes(boxes[missed], anchor_set)
        shares = sorted(
            ((missed[labels == label].mean(), label) for label in np.unique(labels)), key=lambda row: -row[0]
        )
        worst = [f"{classes[label]} {share:.0%}" for share, label in shares[:5] if share >= 0.005]
        lines.append(f"classes with the most boxes that are not recalled: {', '.join(worst)}")
    return lines
