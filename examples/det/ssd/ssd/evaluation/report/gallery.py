"""Select example images of a validation split, draw their boxes, and summarise what is right and wrong in them."""

from __future__ import annotations

import dataclasses
from collections import Counter

import cv2
import numpy as np

from ...errors import count_noun
from ...inference.drawing import class_color, draw_boxes, draw_ground_truth
from .error_analysis import BACKGROUND, BOTH, CLASS, DUPLICATE, DetectionErrors
from .matches import Matches

MIN_LONG_SIDE, MAX_LONG_SIDE = 480, 800  # pixels of the longer side of a drawn image
MAX_CAPTIONS = 10  # in images with more detections, only false positives have captions
MAX_LISTED_ERRORS = 3


def draw_image_matches(matches: Matches, image_index: int, pixels: np.ndarray, min_score: float) -> np.ndarray:
    """Draw an image with its ground truth in white and its detections of at least min_score in their class colours.

    Ground-truth boxes without a detection have their class name. True positives have captions unless the image has
    more than MAX_CAPTIONS detections.

    image_index: index in `matches.image_ids`
    pixels: (H, W, 3) uint8 RGB of the original image
    Returns (h, w, 3) uint8 RGB, with a longer side of 480 to 800 pixels, so that captions are readable.
    """
    picture, scale = _resize(pixels)
    image_gt = matches.ground_truth.of_image(image_index)
    gt_boxes_yxyx, gt_labels = matches.ground_truth.boxes_yxyx[image_gt] * scale, matches.ground_truth.labels[image_gt]
    missed = ~matches.recalled_gt(min_score)[image_gt]
    picture = draw_ground_truth(picture, gt_boxes_yxyx[~missed], gt_labels[~missed])
    picture = draw_ground_truth(picture, gt_boxes_yxyx[missed], gt_labels[missed], classes=matches.classes)

    image_detections = matches.detections.of_image(image_index)
    shown = np.flatnonzero(matches.scores[image_detections] >= min_score) + image_detections.start
    is_true_positive = matches.true_positives[shown]
    # Later boxes are drawn on top, so the order is by rising score.
    if len(shown) <= MAX_CAPTIONS:
        order, num_without_caption = shown[::-1], 0
    else:
        order = np.concatenate([shown[is_true_positive][::-1], shown[~is_true_positive][::-1]])
        num_without_caption = int(is_true_positive.sum())
    labels = matches.detections.labels[order].tolist()
    captions = [
        () if position < num_without_caption else (matches.classes[label], f"{score:.2f}")
        for position, (label, score) in enumerate(zip(labels, matches.scores[order]))
    ]
    boxes_yxyx = matches.detections.boxes_yxyx[order] * scale
    return draw_boxes(picture, boxes_yxyx, captions=captions, colors=[class_color(label) for label in labels])


def _resize(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Resize (H, W, 3) uint8 for drawing. Returns the image and the scale."""
    height, width = image.shape[:2]
    scale = min(max(MIN_LONG_SIDE / max(height, width), 1), MAX_LONG_SIDE / max(height, width))
    if scale == 1:
        return image, scale
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), scale


@dataclasses.dataclass(frozen=True)
class ImageScores:
    """Quality of the detections of each image at one score threshold and IoU 0.5.

    true_positives, false_positives, false_negatives: (I,) int, counts
    f1: (I,) 0..1; 1 for an image without ground truth and detections
    max_false_positive_score: (I,) 0..1; 0 without a false positive
    """

    true_positives: np.ndarray
    false_positives: np.ndarray
    false_negatives: np.ndarray
    f1: np.ndarray
    max_false_positive_score: np.ndarray


def compute_image_scores(matches: Matches, min_score: float) -> ImageScores:
    """Compute the scores of all images with their detections of at least min_score."""
    num_images = len(matches.image_ids)
    is_shown, image_indices = matches.scores >= min_score, matches.detections.image_indices
    is_false_positive = matches.false_positives & is_shown
    missed_image_indices = matches.ground_truth.image_indices[~matches.recalled_gt(min_score)]
    true_positives = np.bincount(image_indices[matches.true_positives & is_shown], minlength=num_images)
    false_positives = np.bincount(image_indices[is_false_positive], minlength=num_images)
    false_negatives = np.bincount(missed_image_indices, minlength=num_images)
    num_errors = false_positives + false_negatives
    f1 = np.where(
        true_positives + num_errors > 0, 2 * true_positives / np.maximum(2 * true_positives + num_errors, 1), 1.0
    )
    max_false_positive_score = np.zeros(num_images)
    np.maximum.at(max_false_positive_score, image_indices[is_false_positive], matches.scores[is_false_positive])
    return ImageScores(
        true_positives=true_positives,
        false_positives=false_positives,
        false_negatives=false_negatives,
        f1=f1,
        max_false_positive_score=max_false_positive_score,
    )


def select_images(scores: ImageScores, candidates: np.ndarray, images_per_group: int = 6) -> dict[str, list[int]]:
    """Select example images in three groups. An image is in one group at most.

    candidates: (C,) int, indices of images that can be shown
    Returns image indices of the groups "confident_errors" (false positives with the highest scores), "worst" and
    "best" (by F1). With few candidates each group has a third of them at most.
    """
    max_images = min(images_per_group, -(-len(candidates) // 3))
    num_errors = scores.false_positives + scores.false_negatives
    has_false_positive = scores.max_false_positive_score[candidates] > 0
    has_error = num_errors[candidates] > 0
    has_true_positive = scores.f1[candidates] > 0
    # np.lexsort sorts by its last key first. Of images with equal F1, those with more boxes come first.
    sort_keys = {
        "confident_errors": (candidates[has_false_positive], (-scores.max_false_positive_score,)),
        "worst": (candidates[has_error], (-num_errors, scores.f1)),
        "best": (candidates[has_true_positive], (-scores.true_positives, -scores.f1)),
    }
    taken: set[int] = set()
    groups = {}
    for name, (image_indices, keys) in sort_keys.items():
        order = image_indices[np.lexsort([key[image_indices] for key in keys])]
        groups[name] = [image_index for image_index in order.tolist() if image_index not in taken][:max_images]
        taken.update(groups[name])
    return groups


def summarize_image(
    matches: Matches, errors: DetectionErrors, scores: ImageScores, image_index: int, min_score: float
) -> tuple[str, list[str]]:
    """Summarise the detections of an image in text.

    scores: of compute_image_scores at the same min_score
    image_index: index in `matches.image_ids`
    Returns a summary, and lines with the false positives of the highest scores, the missed and the detected objects.
    """
    true_positives = int(scores.true_positives[image_index])
    false_positives = int(scores.false_positives[image_index])
    num_gt = true_positives + int(scores.false_negatives[image_index])
    if not num_gt + false_positives:
        return "No objects and no detections", []
    summary = (
        f"F1 {scores.f1[image_index]:.2f}: {true_positives} of {count_noun(num_gt, 'object')} "
        f"detected, {count_noun(false_positives, 'false positive')}"
    )
    image_detections = matches.detections.of_image(image_index)
    is_shown_error = matches.false_positives[image_detections] & (matches.scores[image_detections] >= min_score)
    shown_errors = (np.flatnonzero(is_shown_error) + image_detections.start).tolist()
    lines = [_describe_error(matches, errors, index) for index in shown_errors[:MAX_LISTED_ERRORS]]
    image_gt = matches.ground_truth.of_image(image_index)
    labels, is_detected = matches.ground_truth.labels[image_gt], matches.recalled_gt(min_score)[image_gt]
    for title, is_listed in (("missed", ~is_detected), ("detected", is_detected)):
        if is_listed.any():
            counts = Counter(labels[is_listed].tolist()).most_common()
            lines.append(f"{title}: " + ", ".join(f"{count} × {matches.classes[label]}" for label, count in counts))
    return summary, lines


def _describe_error(matches: Matches, errors: DetectionErrors, index: int) -> str:
    detection = f"{matches.classes[matches.detections.labels[index]]} {matches.scores[index]:.2f}"
    error_type, iou = errors.types[index], f"IoU {errors.ious[index]:.2f}"
    if error_type == BACKGROUND:
        return f"{detection}: on background"
    gt_class = matches.classes[matches.ground_truth.labels[errors.gt_indices[index]]]
    if error_type == CLASS:
        return f"{detection}: wrong class, annotated as {gt_class} ({iou})"
    if error_type == DUPLICATE:
        return f"{detection}: duplicate of another detection"
    if error_type == BOTH:
        return f"{detection}: wrong class and inaccurate box, annotated as {gt_class} ({iou})"
    return f"{detection}: inaccurate box ({iou})"
