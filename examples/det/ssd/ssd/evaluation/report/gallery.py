"""Select example images of a validation split, draw their boxes and summarize their errors."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections import Counter

import cv2
import numpy as np
from PIL import Image

from ...errors import count_noun
from ...inference.drawing import class_color, draw_boxes, draw_ground_truth
from .error_analysis import BACKGROUND, BOTH, CLASS, DUPLICATE, DetectionErrors
from .matches import Matches

MIN_LONG_SIDE, MAX_LONG_SIDE = 480, 800  # of a drawn image, in pixels
MAX_PICTURE_BYTES = 250_000  # of an encoded image; at most 18 images, so that the page stays below 8 MB
MAX_CAPTIONS = 10  # with more detections in an image, only false positives have captions
MAX_LISTED_ERRORS = 3  # false positives listed per image


def draw_image_matches(matches: Matches, image_index: int, pixels: np.ndarray, min_score: float) -> np.ndarray:
    """Draw the ground-truth boxes of an image in white, and its detections in the colors of their classes.

    Detections and missed ground-truth boxes have captions. In images with more than MAX_CAPTIONS detections, the true
    positives have no captions.

    image_index: index of the image in `matches.image_ids`
    pixels: (H, W, 3) uint8 RGB of the original image
    min_score: minimum score, 0..1, of the detections that are drawn
    Returns (h, w, 3) uint8 RGB. The longer side has 480 to 800 pixels, so that captions are readable.
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
    # Sort by ascending score, because later boxes are drawn on top of earlier boxes.
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
    """Resize an image so that its longer side has MIN_LONG_SIDE to MAX_LONG_SIDE pixels.

    image: (H, W, 3) uint8 RGB
    Returns (resized image, ratio of the new size to the original size).
    """
    height, width = image.shape[:2]
    scale = min(max(MIN_LONG_SIDE / max(height, width), 1), MAX_LONG_SIDE / max(height, width))
    if scale == 1:
        return image, scale
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), scale


@dataclasses.dataclass(frozen=True)
class ImageScores:
    """Quality of the detections of each image, at one score threshold and IoU 0.5.

    true_positives, false_positives, false_negatives: (I,) int, counts per image
    f1: (I,) float, F1 per image, 0..1; 1 for an image without ground truth and detections
    max_false_positive_score: (I,) float, highest score of a false positive per image, 0..1; 0 without a false positive
    """

    true_positives: np.ndarray
    false_positives: np.ndarray
    false_negatives: np.ndarray
    f1: np.ndarray
    max_false_positive_score: np.ndarray


def compute_image_scores(matches: Matches, min_score: float) -> ImageScores:
    """Compute the quality of the detections of each image.

    min_score: minimum score, 0..1, of the detections that are counted
    """
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
    """Select example images in three groups. Each image is in at most one group.

    scores: quality of the detections of each image
    candidates: (C,) int, indices of the images that can be shown
    images_per_group: maximum number of images in a group; a group also has at most a third of the candidates
    Returns {group: image indices}. The images of "confident_errors" have the false positives with the highest scores.
    The images of "worst" have the lowest F1, and the images of "best" the highest F1.
    """
    max_images = min(images_per_group, -(-len(candidates) // 3))
    num_errors = scores.false_positives + scores.false_negatives
    has_false_positive = scores.max_false_positive_score[candidates] > 0
    has_error = num_errors[candidates] > 0
    has_true_positive = scores.f1[candidates] > 0
    # The last key of np.lexsort is the primary key. The other key sorts images with equal F1 by the number of boxes.
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
    """Summarize the detections of an image as text.

    scores: quality of the detections of each image, computed with the same min_score
    image_index: index of the image in `matches.image_ids`
    min_score: minimum score, 0..1, of the detections that are counted
    Returns (summary, lines). The lines list the false positives with the highest scores, the missed objects and the
    detected objects.
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


def to_jpeg_uri(image: np.ndarray) -> str:
    """Encode (H, W, 3) uint8 RGB as a JPEG data URI. Lower the quality if the file exceeds MAX_PICTURE_BYTES."""
    for quality in (88, 75, 60, 40, 20):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        if file.tell() <= MAX_PICTURE_BYTES:
            break
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
