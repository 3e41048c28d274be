"""Format the output of tools/anchors.py: recall tables, reasons for missed boxes, and recipe keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ssd.data.inspection.anchor_recall import AnchorSet, reasons_for_missed_boxes
from ssd.data.inspection.report import LARGE, SMALL
from ssd.errors import count_noun

from . import GroundTruth
from .search import AnchorSettings

if TYPE_CHECKING:
    from ssd.boxes.anchors import Anchors
    from ssd.config.schema import Config

IOU_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MAX_CLASSES = 20  # maximum number of classes in the recall table


def summarize_split(name: str, ground_truth: GroundTruth) -> str:
    """Return the name of a split with its number of images and number of ground-truth boxes."""
    images = count_noun(ground_truth.split_images, "image")
    if ground_truth.num_images != ground_truth.split_images:
        images = f"{ground_truth.num_images:,} of {images}"
    return f"{name} ({images}, {count_noun(len(ground_truth), 'box', 'boxes')})"


def summarize_anchors(anchors: Anchors) -> str:
    """Return the total number of anchors, and the number of anchors per location for each feature level."""
    return f"{len(anchors):,} anchors (per location of each level: {' '.join(map(str, anchors.num_per_location))})"


def recall_table(splits: dict[str, GroundTruth], ious: dict[str, list[np.ndarray]], cfg: Config) -> list[str]:
    """Return the lines of a table of recall by IoU threshold, box size and class.

    splits: {name of a split: its ground truth}
    ious: {name of a split: [before] or [before, after]}; `before`: (N,), highest IoU of each ground-truth box with
        any anchor of the recipe; `after`: the same for the fitted anchors
    cfg: Config of the recipe
    """
    columns = [(ground_truth, best_ious) for name, ground_truth in splits.items() for best_ious in ious[name]]
    headings = ["before", "after"][: len(ious[next(iter(splits))])]
    width = 10 * len(headings)
    lines = [
        "".join(f"{name:>{width}}" for name in splits),
        "".join(f"{heading:>10}" for _ in splits for heading in headings),
    ]

    def add_row(name: str, values: list[float]) -> None:
        """Append a row to the table. values: one value per column, NaN for an empty cell"""
        cells = ["         –" if np.isnan(value) else f"{value:10.3f}" for value in values]
        lines.append(f"{''.join(cells)}   {name}")

    def subset_row(name: str, masks: list[np.ndarray]) -> tuple[str, list[float]]:
        """Return the name and the values of the table row with the recall of a subset of the boxes.

        masks: for each column, (N,) bool, True for the boxes in the subset
        """
        counts = " and ".join(f"{mask.sum():,}" for mask in masks[:: len(headings)])
        recalls = [_mean(best_ious[mask] > cfg.match_threshold) for mask, (_, best_ious) in zip(masks, columns)]
        return f"{name} ({counts})", recalls

    for threshold in sorted({*IOU_THRESHOLDS, cfg.match_threshold}):
        note = ", match_threshold" if threshold == cfg.match_threshold else ""
        add_row(f"recall at IoU {threshold:g}{note}", [_mean(best_ious > threshold) for _, best_ious in columns])
    add_row("mean best IoU", [_mean(best_ious) for _, best_ious in columns])
    lines.append(f"recall at IoU {cfg.match_threshold:g} by box size and class (number of boxes in each split):")
    for name, low, high in (("small", 0, SMALL), ("medium", SMALL, LARGE), ("large", LARGE, np.inf)):
        areas = [ground_truth.sizes_hw(cfg.image_size).prod(axis=1) for ground_truth, _ in columns]
        add_row(*subset_row(name, [(area >= low) & (area < high) for area in areas]))
    rows = []
    for label in np.unique(np.concatenate([ground_truth.labels for ground_truth in splits.values()])).tolist():
        name = cfg.classes[label] if cfg.classes else f"class {label}"
        rows.append(subset_row(name, [ground_truth.labels == label for ground_truth, _ in columns]))
    if len(rows) > MAX_CLASSES:
        lines.append(f"the {MAX_CLASSES} of {len(rows)} classes with the lowest recall:")
        rows = sorted(rows, key=lambda row: np.nan_to_num(row[1][0], nan=1))[:MAX_CLASSES]
    for row in rows:
        add_row(*row)
    return lines


def explain_missed_boxes(
    split: str, ground_truth: GroundTruth, best_ious: np.ndarray, anchors: Anchors, cfg: Config
) -> list[str]:
    """Return lines with the fraction of missed ground-truth boxes and the likely reasons.

    split: name of the split
    best_ious: (N,), highest IoU of each ground-truth box with any of the anchors
    cfg: Config of the recipe, whose match_threshold decides whether a box is missed
    Returns an empty list if no box is missed.
    """
    missed_yxyx = ground_truth.boxes_yxyx[best_ious <= cfg.match_threshold]
    if not len(missed_yxyx):
        return []
    anchor_set = AnchorSet(anchors.boxes_yxyx, cfg.image_size, cfg.match_threshold)
    share = f"{len(missed_yxyx) / len(ground_truth):.1%} of the ground-truth boxes of {split}"
    summary = f"{share} are missed: their IoU with every anchor is at most {cfg.match_threshold:g}"
    return [summary, *reasons_for_missed_boxes(missed_yxyx, anchor_set)]


def recipe_lines(settings: AnchorSettings) -> list[str]:
    """Return the settings as lines of YAML for a recipe."""
    return [f"{key}: {_format(value)}" for key, value in settings.recipe_keys().items()]


def command_line_options(settings: AnchorSettings) -> str:
    """Return the settings as command-line options that override a recipe, quoted for a shell."""
    texts = {key: _format(value) for key, value in settings.recipe_keys().items()}
    return " ".join(f'--{key} "{text}"' if "[" in text else f"--{key} {text}" for key, text in texts.items())


def _format(value: float | Sequence) -> str:
    """Format a number, or a nested list of numbers, as YAML."""
    return f"[{', '.join(map(_format, value))}]" if isinstance(value, (list, tuple)) else f"{value:g}"


def _mean(values: np.ndarray) -> float:
    """Return the mean of an array, NaN if the array is empty."""
    return float(values.mean()) if len(values) else float("nan")
