"""Which images of a validation split are worth a look, drawn, and what is right or wrong in them in words."""

from __future__ import annotations

import dataclasses
from collections import Counter

import cv2
import numpy as np

from ...inference.drawing import class_color, draw_boxes, draw_truth
from .error_analysis import BACKGROUND, BOTH, CLASS, DUPLICATE, Errors
from .matches import Matches

SMALLEST, LARGEST = 480, 800  # pixels of the longer side of a drawn image
CAPTIONS = 10  # where more boxes are drawn, those that are right have none
_MISTAKES_TOLD = 3


def draw_match(matches: Matches, image: int, pixels: np.ndarray, min_score: float) -> np.ndarray:
    """An image of the split with its annotated objects in white, named where they are not found, and its detections of
    at least min_score in the colours of their classes; where these are many, those that are right have no caption.

    image: its index; pixels: (H, W, 3) uint8 RGB, at full size
    -> (h, w, 3) uint8, resized so that captions can be read: the longer side has 480 to 800 pixels
    """
    pixels, scale = _resize(pixels)
    objects, found = matches.objects.of_image(image), matches.detections.of_image(image)
    boxes, labels = matches.objects.boxes_yxyx[objects] * scale, matches.objects.labels[objects]
    missed = ~matches.found_at(min_score)[objects]
    pixels = draw_truth(pixels, boxes[~missed], labels[~missed])
    pixels = draw_truth(pixels, boxes[missed], labels[missed], matches.classes)
    shown = np.flatnonzero(matches.scores[found] >= min_score) + found.start
    right = matches.hits[shown]
    if len(shown) <= CAPTIONS:
        order, silent = shown[::-1], np.zeros(len(shown), bool)
    else:
        order, silent = np.concatenate([shown[right][::-1], shown[~right][::-1]]), np.sort(right)[::-1]
    labels = matches.detections.labels[order].tolist()
    captions = [
        () if is_silent else (matches.classes[label], f"{score:.2f}")
        for label, score, is_silent in zip(labels, matches.scores[order], silent)
    ]
    colors = [class_color(label) for label in labels]
    return draw_boxes(pixels, matches.detections.boxes_yxyx[order] * scale, captions, colors)


def _resize(image: np.ndarray) -> tuple[np.ndarray, float]:
    """(H, W, 3) uint8 -> in a size for drawing, how many times as large it is"""
    height, width = image.shape[:2]
    scale = min(max(SMALLEST / max(height, width), 1), LARGEST / max(height, width))
    if scale == 1:
        return image, scale
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), scale


@dataclasses.dataclass(frozen=True)
class ImageScores:
    """Every image at one score. found, false, missed: (I,) hits, mistakes, objects without a hit;
    f1: (I,) 0..1, 1 where there is nothing and nothing is detected;
    worst_mistake: (I,) highest score of a mistake, 0 if there is none
    """

    found: np.ndarray
    false: np.ndarray
    missed: np.ndarray
    f1: np.ndarray
    worst_mistake: np.ndarray


def score_images(matches: Matches, min_score: float) -> ImageScores:
    """Look at each image as its user sees it, with detections of at least min_score."""
    count = len(matches.image_ids)
    shown, images = matches.scores >= min_score, matches.detections.images
    found = np.bincount(images[matches.hits & shown], minlength=count)
    false = np.bincount(images[matches.mistakes & shown], minlength=count)
    missed = np.bincount(matches.objects.images[~matches.found_at(min_score)], minlength=count)
    wrong = false + missed
    f1 = np.where(found + wrong > 0, 2 * found / np.maximum(2 * found + wrong, 1), 1.0)
    worst = np.zeros(count)
    np.maximum.at(worst, images[matches.mistakes & shown], matches.scores[matches.mistakes & shown])
    return ImageScores(found, false, missed, f1, worst)


def choose_images(scores: ImageScores, candidates: np.ndarray, per_group: int = 6) -> dict[str, list[int]]:
    """The images of each group: mistakes, those with the most confident ones; worst and best by F1; none twice.

    candidates: (n,) indices of images that can be shown. Where there are few, each group gets a third at most.
    """
    count = min(per_group, -(-len(candidates) // 3))
    wrong = scores.false + scores.missed
    # Among equals, images with more in them tell more.
    orders = {
        "mistakes": (candidates[scores.worst_mistake[candidates] > 0], (-scores.worst_mistake,)),
        "worst": (candidates[wrong[candidates] > 0], (-wrong, scores.f1)),
        "best": (candidates[scores.f1[candidates] > 0], (-scores.found, -scores.f1)),
    }
    taken: set[int] = set()
    groups = {}
    for name, (images, keys) in orders.items():
        order = images[np.lexsort([key[images] for key in keys])]
        groups[name] = [image for image in order.tolist() if image not in taken][:count]
        taken.update(groups[name])
    return groups


def describe(
    matches: Matches, errors: Errors, scores: ImageScores, image: int, min_score: float
) -> tuple[str, list[str]]:
    """What is right and wrong in an image, in words: the sum, and a line for each of its most confident mistakes and
    for what is not found. image: its index; scores: of score_images at min_score"""
    found, false, missed = (int(values[image]) for values in (scores.found, scores.false, scores.missed))
    if not found + false + missed:
        return "Nothing is annotated here, and nothing is detected", []
    summary = f"F1 {scores.f1[image]:.2f}: {found} of {found + missed} objects found, {false} false"
    detections = matches.detections.of_image(image)
    shown = matches.mistakes[detections] & (matches.scores[detections] >= min_score)
    wrong = (np.flatnonzero(shown) + detections.start).tolist()
    lines = [_mistake(matches, errors, index) for index in wrong[:_MISTAKES_TOLD]]
    objects = matches.objects.of_image(image)
    labels, is_found = matches.objects.labels[objects], matches.found_at(min_score)[objects]
    for words, chosen in (("not found", ~is_found), ("found", is_found)):
        if chosen.any():
            counts = Counter(labels[chosen].tolist()).most_common()
            lines.append(f"{words}: " + ", ".join(f"{count} × {matches.classes[label]}" for label, count in counts))
    return summary, lines


def _mistake(matches: Matches, errors: Errors, index: int) -> str:
    name = f"{matches.classes[matches.detections.labels[index]]} {matches.scores[index]:.2f}"
    kind, iou = errors.kinds[index], f"IoU {errors.ious[index]:.2f}"
    if kind == BACKGROUND:
        return f"{name} where nothing is annotated"
    near = matches.classes[matches.objects.labels[errors.near[index]]]
    if kind == CLASS:
        return f"{name} on what is annotated as {near} ({iou})"
    if kind == DUPLICATE:
        return f"{name} once more on an object that is already found"
    if kind == BOTH:
        return f"{name} next to what is annotated as {near} ({iou})"
    return f"{name} out of place on an annotated {near} ({iou})"
