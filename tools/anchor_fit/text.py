"""What tools/anchors.py prints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssd.data.inspection.anchor_recall import AnchorSet, explain
from ssd.data.inspection.report import LARGE, SMALL

from . import Objects
from .search import Values

IOUS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MOST_CLASSES = 20  # with a line of their own


def describe_part(name: str, objects: Objects) -> str:
    more = "" if objects.num_images == objects.all_images else f" of {objects.all_images:,}"
    return f"{name} ({objects.num_images:,}{more} images, {len(objects):,} objects)"


def describe_anchors(anchors) -> str:
    return f"{len(anchors):,} anchors, {' '.join(map(str, anchors.num_per_location))} boxes at a place of each level"


def tabulate(parts: dict[str, Objects], ious: dict[str, list[np.ndarray]], cfg) -> list[str]:
    """A table of recall. ious: best IoU of the objects of each part before, and after if there is one; cfg: Config"""
    columns = [(objects, values) for name, objects in parts.items() for values in ious[name]]
    heads = ["before", "after"][: len(ious[next(iter(parts))])]
    width = 10 * len(heads)
    lines = ["".join(f"{name:>{width}}" for name in parts), "".join(f"{head:>10}" for _ in parts for head in heads)]

    def add(name: str, figures: list[float]) -> None:
        cells = ["         –" if np.isnan(figure) else f"{figure:10.3f}" for figure in figures]
        lines.append(f"{''.join(cells)}   {name}")

    def kind(name: str, chosen: list[np.ndarray]) -> tuple[str, list[float]]:
        counts = " and ".join(f"{rows.sum():,}" for rows in chosen[:: len(heads)])
        reached = [_mean(values[rows] > cfg.match_threshold) for rows, (_, values) in zip(chosen, columns)]
        return f"{name} ({counts})", reached

    for bound in sorted({*IOUS, cfg.match_threshold}):
        note = ", match_threshold" if bound == cfg.match_threshold else ""
        add(f"above IoU {bound:g}{note}", [_mean(values > bound) for _, values in columns])
    add("mean best IoU", [_mean(values) for _, values in columns])
    lines.append(f"above IoU {cfg.match_threshold:g}, by kind (and how many there are):")
    for name, low, high in (("small", 0, SMALL), ("medium", SMALL, LARGE), ("large", LARGE, np.inf)):
        areas = [objects.sides(cfg.image_size).prod(axis=1) for objects, _ in columns]
        add(*kind(name, [(area >= low) & (area < high) for area in areas]))
    rows = []
    for label in np.unique(np.concatenate([objects.labels for objects in parts.values()])).tolist():
        name = cfg.classes[label] if cfg.classes else f"class {label}"
        rows.append(kind(name, [objects.labels == label for objects, _ in columns]))
    if len(rows) > MOST_CLASSES:
        lines.append(f"the {MOST_CLASSES} of {len(rows)} classes that were reached least:")
        rows = sorted(rows, key=lambda row: np.nan_to_num(row[1][0], nan=1))[:MOST_CLASSES]
    for row in rows:
        add(*row)
    return lines


def advise(name: str, objects: Objects, ious: np.ndarray, anchors, cfg) -> list[str]:
    """Why what is still missed of a part is missed. ious: (N,), best of each object with these anchors; cfg: Config"""
    missed = objects.boxes_yxyx[ious <= cfg.match_threshold]
    if not len(missed):
        return []
    recipe = AnchorSet(anchors.boxes_yxyx, cfg.image_size, cfg.match_threshold)
    share = f"{len(missed) / len(objects):.1%} of the objects of {name}"
    return [f"{share} are reached by no anchor of these at IoU {cfg.match_threshold:g}", *explain(missed, recipe)]


def recipe_lines(values: Values) -> list[str]:
    """YAML to paste into a recipe."""
    return [f"{key}: {_write(value)}" for key, value in values.keys().items()]


def options(values: Values) -> str:
    """The same for a command line."""
    words = [(key, _write(value)) for key, value in values.keys().items()]
    return " ".join(f'--{key} "{word}"' if "[" in word else f"--{key} {word}" for key, word in words)


def _write(value: float | Sequence) -> str:
    return f"[{', '.join(map(_write, value))}]" if isinstance(value, (list, tuple)) else f"{value:g}"


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
