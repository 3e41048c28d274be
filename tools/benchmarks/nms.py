"""Measure non-maximum suppression (NMS) on the host, and for comparison a NumPy loop over classes."""

from __future__ import annotations

import time

import numpy as np

from ssd.boxes.multiclass_nms import MulticlassNMS

from . import Case, median_ratio

NUM_IMAGES, NUM_ANCHORS, NUM_CLASSES = 8, 1917, 80  # number of classes without the background
NUM_DENSE_CLASSES, BOXES_PER_CLASS = 10, 200  # per image: classes with scores above MIN_SCORE, boxes per class
MIN_SCORE, IOU_THRESHOLD, MAX_DETECTIONS = 0.01, 0.6, 100
IMAGE_SIZE = (300, 300)  # (height, width) in pixels


def random_predictions(num_clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Create random decoded predictions with boxes in clusters.

    num_clusters: number of clusters per image; boxes overlap more if there are fewer clusters
    Returns
        boxes_yxyx: (B, A, 4) float32 corners (y0, x0, y1, x1), as fractions of image height and width
        scores: (B, A, K - 1) float32 class scores in 0..1 without the background; most scores are below MIN_SCORE
    """
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 0.7, (NUM_IMAGES, num_clusters, 2))[:, np.arange(NUM_ANCHORS) % num_clusters]
    corners += rng.uniform(0, 0.05, (NUM_IMAGES, NUM_ANCHORS, 2))
    sizes_hw = rng.uniform(0.1, 0.25, corners.shape)
    boxes_yxyx = np.concatenate([corners, corners + sizes_hw], axis=-1).astype(np.float32)
    scores = rng.uniform(0, MIN_SCORE / 2, (NUM_IMAGES, NUM_ANCHORS, NUM_CLASSES)).astype(np.float32)
    for image_scores in scores:
        for label in rng.choice(NUM_CLASSES, NUM_DENSE_CLASSES, replace=False):
            high_scores = rng.uniform(2 * MIN_SCORE, 1, BOXES_PER_CLASS)
            chosen = rng.choice(NUM_ANCHORS, BOXES_PER_CLASS, replace=False)
            image_scores[chosen, label] = high_scores
    return boxes_yxyx, scores


def nms_by_class(boxes_yxyx: np.ndarray, scores: np.ndarray) -> list[tuple[int, float, list[float]]]:
    """Apply hard NMS to the predictions for one image, with a NumPy loop over classes.

    boxes_yxyx: (A, 4) corners (y0, x0, y1, x1), as fractions of image height and width
    scores: (A, K - 1) class scores in 0..1 without the background
    Returns (label 1..K-1, score 0..1, [y0, x0, y1, x1] in pixels) of each detection, in descending order of scores.
    """
    detections: list[tuple[int, float, list[float]]] = []
    for label in range(scores.shape[1]):
        is_candidate = scores[:, label] >= MIN_SCORE
        if not is_candidate.any():
            continue
        candidates, candidate_scores = boxes_yxyx[is_candidate] * np.tile(IMAGE_SIZE, 2), scores[is_candidate, label]
        y0, x0, y1, x1 = candidates.T
        areas = (y1 - y0) * (x1 - x0)
        order = candidate_scores.argsort()[::-1]
        kept: list[int] = []
        while order.size and len(kept) < MAX_DETECTIONS:
            best, others = order[0], order[1:]
            kept.append(best)
            heights = np.minimum(y1[best], y1[others]) - np.maximum(y0[best], y0[others])
            widths = np.minimum(x1[best], x1[others]) - np.maximum(x0[best], x0[others])
            intersection = np.maximum(heights, 0) * np.maximum(widths, 0)
            order = others[intersection / (areas[best] + areas[others] - intersection) <= IOU_THRESHOLD]
        detections += zip([label + 1] * len(kept), candidate_scores[kept].tolist(), candidates[kept].tolist())
    return sorted(detections, key=lambda detection: -detection[1])[:MAX_DETECTIONS]


def top_candidates(boxes_yxyx: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Select the T (anchor, class) pairs with the highest scores for each image.

    boxes_yxyx: (B, A, 4) corners (y0, x0, y1, x1), as fractions of image height and width
    scores: (B, A, K - 1) class scores in 0..1 without the background
    Returns the inputs of NMS, in descending order of scores:
        boxes_yxyx: (B, T, 4) corners (y0, x0, y1, x1), as fractions of image height and width
        scores: (B, T), in 0..1
        labels: (B, T) class indices, 1..K-1
    """
    flat_scores = scores.reshape(NUM_IMAGES, -1)
    order = np.argsort(-flat_scores, axis=1, kind="stable")[:, : NUM_DENSE_CLASSES * BOXES_PER_CLASS]
    rows = np.arange(NUM_IMAGES)[:, None]
    return boxes_yxyx[rows, order // NUM_CLASSES], flat_scores[rows, order], order % NUM_CLASSES + 1


def measure_nms(repeats: int) -> list[Case]:
    """Measure hard NMS, soft NMS and the loop over classes in ms/image, with little and with much overlap of boxes.

    repeats: number of runs of each case
    """
    return [case for num_clusters in (NUM_ANCHORS, 40) for case in measure_overlap(num_clusters, repeats)]


def measure_overlap(num_clusters: int, repeats: int) -> list[Case]:
    """Measure the cases `loop over classes`, `hard NMS` and `soft NMS` in ms/image, with alternating runs.

    num_clusters: number of box clusters per image; boxes overlap more if there are fewer clusters
    repeats: number of runs of each case
    """
    boxes_yxyx, scores = random_predictions(num_clusters)
    candidates = top_candidates(boxes_yxyx, scores)
    image_sizes = np.tile(IMAGE_SIZE, (NUM_IMAGES, 1))
    hard = MulticlassNMS(MIN_SCORE, IOU_THRESHOLD, MAX_DETECTIONS)
    soft = MulticlassNMS(MIN_SCORE, IOU_THRESHOLD, MAX_DETECTIONS, nms="soft")
    functions = {
        "loop over classes": lambda: [nms_by_class(*image) for image in zip(boxes_yxyx, scores)],
        "hard NMS": lambda: hard(*candidates, image_sizes),
        "soft NMS": lambda: soft(*candidates, image_sizes),
    }
    settings = {
        "images": NUM_IMAGES,
        "anchors": NUM_ANCHORS,
        "boxes": NUM_DENSE_CLASSES * BOXES_PER_CLASS,
        "places": num_clusters,
    }
    cases = [Case(name, "ms/image", settings=settings) for name in functions]
    for _ in range(repeats):
        for case, run in zip(cases, functions.values()):
            start = time.perf_counter()
            run()
            case.runs.append(1e3 * (time.perf_counter() - start) / NUM_IMAGES)
    loop, *compiled = cases
    for case in compiled:
        case.extra["times_faster_than_loop"] = median_ratio(loop, case)
    return cases
