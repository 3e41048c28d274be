"""Parse rows of YOLO label files: boxes, boxes with a confidence, boxes with keypoints, and polygons.

    class x y width height                      box: center and size
    class x y width height confidence           box, as `save_conf` of YOLO programs writes it
    class x y width height px py …              box with K keypoints of 2 or 3 numbers: x, y and perhaps a visibility
    class px py px py px py …                   polygon, which becomes its bounding box

All coordinates are fractions of the image size. `kpt_shape: [K, 2 or 3]` in data.yaml tells the last two forms apart.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import UserError
from .annotations import EMPTY_BOXES, OUTSIDE_BOXES
from .corners import REVERSED_BOXES

YAML_SUFFIXES = (".yaml", ".yml")

# Kinds of problems in the dataset report
CONFIDENCES = "label rows with a sixth number, read as the confidence of the box, which is not used"
KEYPOINTS = "label rows with keypoints, of which the first four numbers are read as the box"
POLYGONS = "label rows with polygons, of which the bounding boxes are used"
CLIPPED_FRACTIONS = "boxes with fractions outside the range 0 to 1, which are clipped"

TOLERANCE = 0.01  # fractions this far outside the range 0 to 1 are rounding errors
MIN_FRACTION, MAX_FRACTION = -0.5, 1.5  # numbers outside this range are pixels, not fractions
# Shares of rows that decide between polygons and keypoints without kpt_shape: labels may contain a few mistakes.
MOST, FEW = 0.9, 0.5
MIN_ROWS = 10  # fewer rows could have points inside the box by chance
VISIBILITIES = (0, 1, 2)  # not labeled, labeled but hidden, visible


@dataclasses.dataclass(frozen=True, slots=True)
class LabelRow:
    """A row of a label file. It is not yet known whether long rows are polygons or boxes with keypoints.

    path: path of the label file
    line: line number, counted from 1
    text: start of the row, for error messages
    label: class index, counted from 0
    count: number of numbers after the class index
    box: first four of these numbers: x and y of the center, width, height
    last: last of these numbers
    extent: minimum x, minimum y, maximum x and maximum y of these numbers as points, if they are at least three points
    has_visibilities: whether keypoints with one of VISIBILITIES follow the box
    may_be_keypoints: whether keypoints of two numbers, or of three with a score, may follow the box
    may_be_polygon: whether the second point is near the other points
    is_parallelogram: whether the points are the corners of a parallelogram, such as a rotated box
    """

    path: Path
    line: int
    text: str
    label: int
    count: int
    box: tuple[float, ...]
    last: float
    extent: tuple[float, ...] = ()
    has_visibilities: bool = False
    may_be_keypoints: bool = False
    may_be_polygon: bool = False
    is_parallelogram: bool = False

    @property
    def where(self) -> str:
        return f"{self.path}: line {self.line}"


def parse_row(fields: Sequence[str], *, path: Path, line: int, num_classes: int, names_path: Path) -> LabelRow:
    """Parse the fields of a row.

    path, line: position of the row, for error messages
    num_classes: number of classes without background
    names_path: file of the class names, for error messages
    Raises UserError if there are fewer than five finite numbers, or the class index is out of range.
    """
    text = " ".join(fields)[:80]
    try:
        values = np.array(fields, dtype=np.float64)
    except ValueError:
        values = np.array([])
    if len(values) < 5 or not np.isfinite(values).all():
        raise not_a_row(f"{path}: line {line}", text)
    if values[0] not in range(num_classes):
        raise UserError(
            f"{path}: line {line}: class {fields[0]} is not an integer from 0 to {num_classes - 1}, the class indices "
            f"of {names_path}. Correct one of the two files."
        )
    numbers = values[1:]
    row = LabelRow(
        path=path,
        line=line,
        text=text,
        label=int(values[0]),
        count=len(numbers),
        box=tuple(numbers[:4].tolist()),
        last=float(numbers[-1]),
    )
    if row.count < 6:
        return row
    triples = numbers if row.count % 3 == 1 else numbers[:-1]  # perhaps with a confidence at the end
    row = dataclasses.replace(
        row,
        has_visibilities=_may_be_keypoints(triples, 3) and bool(np.isin(triples[6::3], VISIBILITIES).all()),
        may_be_keypoints=_may_be_keypoints(numbers, 2) or _may_be_keypoints(triples, 3),
    )
    if row.count % 2:
        return row
    points = numbers.reshape(-1, 2)
    return dataclasses.replace(
        row,
        extent=(*points.min(axis=0).tolist(), *points.max(axis=0).tolist()),
        may_be_polygon=_is_near_others(points),
        is_parallelogram=len(points) == 4 and np.abs(points[0] + points[2] - points[1] - points[3]).max() < 0.002,
    )


def not_a_row(where: str, text: str) -> UserError:
    return UserError(f"{where}: {text!r} is not `class x y width height` with finite numbers. Correct the line.")


def _may_be_keypoints(numbers: np.ndarray, size: int) -> bool:
    """Return True if the first four numbers are a box in the image, and the others keypoints in and near the box.

    size: numbers of a keypoint: 2, or 3 with a visibility or score, where 0 marks a keypoint without a label
    """
    if len(numbers) < 4 + size or (len(numbers) - 4) % size:
        return False
    center, sides, keypoints = numbers[:2], numbers[2:4], numbers[4:].reshape(-1, size)
    is_labeled = keypoints.all(axis=1)
    if size == 3 and not ((keypoints[:, 2] >= 0) & ((keypoints[:, 2] <= 1) | (keypoints[:, 2] == 2))).all():
        return False
    corners = np.concatenate([center - sides / 2, center + sides / 2])
    is_box = sides.min() > 0 and corners.min() >= -0.05 and corners.max() <= 1.05
    return bool(is_box and (np.abs(keypoints[is_labeled, :2] - center) <= 0.6 * sides).all())


def _is_near_others(points: np.ndarray) -> bool:
    """Return True if the second point is near the others, as in a polygon. In a row of keypoints it is a size.

    points: (N, 2)
    """
    others = np.delete(points, 1, axis=0)
    low, high = others.min(axis=0), others.max(axis=0)
    return bool((points[1] >= 2 * low - high).all() and (points[1] <= 2 * high - low).all())


def choose_keypoint_counts(rows: Sequence[LabelRow], settings: dict, names_path: Path) -> tuple[int, ...]:
    """Return how many numbers a row with keypoints has after the class index; empty if long rows are polygons.

    The key kpt_shape decides. Without it, keypoints must lie in their boxes, and polygons must be connected.

    rows: rows of all splits
    settings: content of data.yaml
    names_path: path of data.yaml, for error messages
    Raises UserError if kpt_shape is invalid, or the rows may be both.
    """
    if "kpt_shape" in settings:
        shape = settings["kpt_shape"]
        if not shape:
            return ()
        if not (isinstance(shape, list) and len(shape) == 2 and type(shape[0]) is int and shape[1] in (2, 3)):
            raise UserError(
                f"{names_path}: kpt_shape is {shape}, not [number of keypoints, 2 or 3]. Correct the key, or remove it."
            )
        count = 4 + shape[0] * shape[1]
        return count, count + 1  # perhaps with a confidence
    long_rows = [row for row in rows if row.count >= 6]
    if not long_rows:
        return ()
    count, number = collections.Counter(row.count for row in long_rows).most_common(1)[0]
    common = [row for row in long_rows if row.count == count]

    def share(attribute: str) -> float:
        return sum(getattr(row, attribute) for row in common) / len(common)

    if number < MOST * len(long_rows) or share("is_parallelogram") >= MOST:
        return ()  # all rows of a dataset have the same number of keypoints, but polygons differ
    keypoints, polygon = share("may_be_keypoints"), share("may_be_polygon")
    if share("has_visibilities") >= MOST or (keypoints >= MOST and polygon < MOST and len(common) >= MIN_ROWS):
        return (count,)
    if (polygon >= MOST and keypoints < MOST) or (keypoints < FEW and (polygon > 1 - MOST or count % 2)):
        return ()
    place = names_path.name if names_path.suffix.lower() in YAML_SUFFIXES else "data.yaml, and add --names data.yaml"
    raise UserError(
        f"{common[0].where}: the {count + 1} numbers may be a polygon, or a box with keypoints. Add `kpt_shape: null` "
        f"for polygons, or `kpt_shape: [number of keypoints, 2 or 3]` for keypoints, to {place}."
    )


def row_to_box(row: LabelRow, keypoint_counts: tuple[int, ...], problems: dict[str, list[str]]) -> np.ndarray | None:
    """Return the box of a row as (4,) left, top, width and height, fractions of the image; None if it has no area.

    keypoint_counts: result of choose_keypoint_counts
    problems: {kind of problem: texts}, to which left out, clipped and interpreted rows are added
    Raises UserError if the row has no valid form, or its numbers are not fractions.
    """
    text = f"{row.path}, line {row.line}"
    is_polygon = False
    if row.count == 5:
        if not 0 <= row.last <= 1:
            raise UserError(f"{row.where}: the sixth number {row.last:g} is not a confidence, 0 to 1. Remove it.")
        problems.setdefault(CONFIDENCES, []).append(text)
    elif row.count > 5 and row.count in keypoint_counts:
        problems.setdefault(KEYPOINTS, []).append(text)
    elif row.count > 5 and keypoint_counts:
        raise UserError(
            f"{row.where}: {row.text!r} has {row.count + 1} numbers, but rows with keypoints have "
            f"{keypoint_counts[0] + 1}. Correct the line, or kpt_shape in data.yaml."
        )
    elif row.count > 5:
        if not row.extent:
            raise not_a_row(row.where, row.text)
        is_polygon = True
        problems.setdefault(POLYGONS, []).append(text)
    numbers = np.array(row.extent if is_polygon else row.box)
    if not is_polygon and numbers[2:].min() < 0:  # from the lower right to the upper left corner
        problems.setdefault(REVERSED_BOXES, []).append(text)
        numbers[2:] = np.abs(numbers[2:])
    if numbers.max() > MAX_FRACTION or numbers.min() < MIN_FRACTION:
        raise UserError(
            f"{row.where}: {row.text!r} has coordinates outside the range 0 to 1 (fractions of the image size). Divide "
            "pixel coordinates by the width and height of the image."
        )
    corners = numbers
    if not is_polygon:
        corners = np.concatenate([numbers[:2] - numbers[2:] / 2, numbers[:2] + numbers[2:] / 2])
    if numbers.max() > 1 + TOLERANCE or numbers[: 4 if is_polygon else 2].min() < -TOLERANCE:
        clipped = corners.clip(0, 1)
        is_outside = ((clipped[2:] <= clipped[:2]) & (corners[2:] > corners[:2])).any()
        problems.setdefault(OUTSIDE_BOXES if is_outside else CLIPPED_FRACTIONS, []).append(text)
        if is_outside:
            return None
        corners = clipped
        box_xywh = np.concatenate([corners[:2], corners[2:] - corners[:2]])
    elif is_polygon:
        box_xywh = np.concatenate([corners[:2], corners[2:] - corners[:2]])
    else:
        box_xywh = np.concatenate([corners[:2], numbers[2:]])
    if box_xywh[2:].min() <= 0:
        problems.setdefault(EMPTY_BOXES, []).append(text)
        return None
    return box_xywh
