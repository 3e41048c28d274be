"""Where the errors come from, as in TIDE (Bolya et al. 2020, arXiv:2008.08115): what kind each mistake is of, and what
AP50 would be if all mistakes of one kind were mended."""

from __future__ import annotations

import dataclasses

import numpy as np

from ...boxes.ops import pairwise_iou
from .matches import IOU, Matches

BACKGROUND_IOU = 0.1  # TIDE's: below, a detection has nothing to do with an object
LOCALISATION, CLASS, BOTH, DUPLICATE, BACKGROUND, MISSED = KINDS = (
    "localisation",
    "class",
    "both",
    "duplicate",
    "background",
    "missed",
)
RECALLS = np.linspace(0, 1, 101)  # COCO's


@dataclasses.dataclass(frozen=True)
class Errors:
    """kinds: (N,) the kind of each detection's error, "" where there is none
    near: (N,) the object that an error of the kinds localisation, class, both and duplicate is about, else -1
    ious: (N,) its IoU with that object, else 0
    missed: (G,) bool, objects that neither a hit nor a mended localisation or class would find
    """

    kinds: np.ndarray
    near: np.ndarray
    ious: np.ndarray
    missed: np.ndarray


def find_errors(matches: Matches) -> Errors:
    """What kind each mistake is of. An object that is missed is no error of its own where a mistake is about it."""
    count = len(matches.detections)
    kinds, near, ious = np.full(count, "", "U12"), np.full(count, -1, np.int64), np.zeros(count)
    mistakes = matches.mistakes
    for image in np.unique(matches.detections.images[mistakes]).tolist():
        detections, objects = matches.detections.of_image(image), matches.objects.of_image(image)
        wrong = np.flatnonzero(mistakes[detections]) + detections.start
        kinds[wrong], place, ious[wrong] = _kinds_of(
            pairwise_iou(matches.detections.boxes_yxyx[wrong], matches.objects.boxes_yxyx[objects]),
            matches.detections.labels[wrong][:, None] == matches.objects.labels[objects],
        )
        near[wrong] = np.where(place >= 0, place + objects.start, -1)
    mended = np.isin(kinds, (LOCALISATION, CLASS))
    missed = ~matches.found_at(-np.inf)
    missed[near[mended]] = False
    return Errors(kinds, near, ious, missed)


def _kinds_of(ious: np.ndarray, same_class: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One image's mistakes. ious, same_class: (D, M) with its objects -> kind, object or -1, IoU with it: (D,) each"""
    if not ious.shape[1]:
        count = len(ious)
        return np.full(count, BACKGROUND), np.full(count, -1), np.zeros(count)
    rows = np.arange(len(ious))
    same, other = np.where(same_class, ious, 0), np.where(same_class, 0, ious)
    same_at, other_at = same.argmax(axis=1), other.argmax(axis=1)
    same, other = same[rows, same_at], other[rows, other_at]
    # The order of TIDE's own program: a detection can satisfy the conditions of several kinds.
    kinds = np.select(
        [
            (same >= BACKGROUND_IOU) & (same < IOU),
            other >= IOU,
            same >= IOU,
            other < BACKGROUND_IOU,
        ],
        [LOCALISATION, CLASS, DUPLICATE, BACKGROUND],
        BOTH,
    )
    about_other = np.isin(kinds, (CLASS, BOTH))
    nothing = kinds == BACKGROUND
    near = np.where(nothing, -1, np.where(about_other, other_at, same_at))
    return kinds, near, np.where(nothing, 0, np.where(about_other, other, same))


def ap50_of(matches: Matches) -> float:
    """COCO's AP50: 0..1, or -1 where there is nothing to score."""
    return _ap50(matches, matches.detections.labels, matches.hits, matches.counted, matches.objects.labels)


def ap50_without(matches: Matches, errors: Errors, kind: str) -> float:
    """AP50 if all errors of one kind, and no others, were mended.

    localisation, class: the best-scored detection for each object that is not found takes its place and class, others
    go; both, duplicate, background: they go; missed: those objects are not asked for. kind: one of KINDS
    """
    labels, hits, counted = matches.detections.labels, matches.hits, matches.counted
    if kind == MISSED:
        return _ap50(matches, labels, hits, counted, matches.objects.labels[~errors.missed])
    wrong = errors.kinds == kind
    mended = np.zeros(0, np.int64)
    if kind in (LOCALISATION, CLASS):
        wanted = np.flatnonzero(wrong & (errors.near >= 0))
        wanted = wanted[~matches.found_at(-np.inf)[errors.near[wanted]]]
        # An object is of one image, and an image's detections come with the best first.
        mended = wanted[np.unique(errors.near[wanted], return_index=True)[1]]
    labels, hits = labels.copy(), hits.copy()
    labels[mended], hits[mended] = matches.objects.labels[errors.near[mended]], True
    return _ap50(matches, labels, hits, counted & (hits | ~wrong), matches.objects.labels)


def _ap50(matches: Matches, labels, hits, counted, object_labels) -> float:
    """The mean over classes that have objects in the data. labels, hits, counted: (N,); object_labels: (G,)"""
    order = np.lexsort((-matches.scores, labels))  # stable: COCO's order among equal scores
    order = order[counted[order]]
    starts = np.searchsorted(labels[order], np.arange(len(matches.classes) + 1))
    objects = np.bincount(object_labels, minlength=len(matches.classes))
    values = [
        _average_precision(hits[order[starts[label] : starts[label + 1]]], objects[label])
        for label in np.unique(matches.objects.labels).tolist()
    ]
    return float(np.mean(values)) if values else -1.0


def _average_precision(hits: np.ndarray, objects: int) -> float:
    """AP of one class by COCO's rules. hits: (n,) bool, the best score first"""
    if not objects:  # all of them were missed, and are no longer asked for
        return float(not len(hits))
    found = np.cumsum(hits)
    precision = found / (np.arange(1, len(hits) + 1) + np.spacing(1))
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(found / objects, RECALLS, side="left")
    return float(np.append(precision, 0.0)[at].mean())
