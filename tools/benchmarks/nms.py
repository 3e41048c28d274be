"""Suppression on the host, beside the loop over classes in NumPy that detection code often has."""

from __future__ import annotations

import time

import numpy as np

from ssd.models.postprocess import DetectionSelector

from . import Case, ratio

IMAGES, ANCHORS, CLASSES = 8, 1917, 80
DENSE_CLASSES, BOXES = 10, 200  # classes with boxes over the threshold, and how many each
MIN_SCORE, IOU_THRESHOLD, MAX_DETECTIONS = 0.01, 0.6, 100
SIZE = (300, 300)


def dense_scores(places: int) -> tuple[np.ndarray, np.ndarray]:
    """boxes_yxyx (B, A, 4) 0..1 around so many places, of an object's size; scores (B, A, K - 1), most of them low"""
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 0.7, (IMAGES, places, 2))[:, np.arange(ANCHORS) % places]
    low += rng.uniform(0, 0.05, (IMAGES, ANCHORS, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.1, 0.25, low.shape)], axis=-1).astype(np.float32)
    scores = rng.uniform(0, MIN_SCORE / 2, (IMAGES, ANCHORS, CLASSES)).astype(np.float32)
    for image in scores:
        for label in rng.choice(CLASSES, DENSE_CLASSES, replace=False):
            image[rng.choice(ANCHORS, BOXES, replace=False), label] = rng.uniform(2 * MIN_SCORE, 1, BOXES)
    return boxes, scores


def loop_over_classes(boxes: np.ndarray, scores: np.ndarray) -> list[tuple[int, float, np.ndarray]]:
    """One image, class by class. boxes: (A, 4) 0..1; scores: (A, K - 1) -> (label, score, box in pixels) of each"""
    found = []
    for label in range(scores.shape[1]):
        chosen = scores[:, label] >= MIN_SCORE
        if not chosen.any():
            continue
        candidates, confidence = boxes[chosen] * np.tile(SIZE, 2), scores[chosen, label]
        y0, x0, y1, x1 = candidates.T
        areas = (y1 - y0) * (x1 - x0)
        order, kept = confidence.argsort()[::-1], []
        while order.size and len(kept) < MAX_DETECTIONS:
            best, others = order[0], order[1:]
            kept.append(best)
            heights = np.minimum(y1[best], y1[others]) - np.maximum(y0[best], y0[others])
            widths = np.minimum(x1[best], x1[others]) - np.maximum(x0[best], x0[others])
            overlap = np.maximum(heights, 0) * np.maximum(widths, 0)
            order = others[overlap / (areas[best] + areas[others] - overlap) <= IOU_THRESHOLD]
        found += zip([label + 1] * len(kept), confidence[kept].tolist(), candidates[kept].tolist())
    return sorted(found, key=lambda detection: -detection[1])[:MAX_DETECTIONS]


def candidates_of(boxes: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the graph hands over: the best pairs of anchor and class. boxes (B, T, 4), scores (B, T), labels (B, T)"""
    flat = scores.reshape(IMAGES, -1)
    order = np.argsort(-flat, axis=1, kind="stable")[:, : DENSE_CLASSES * BOXES]
    rows = np.arange(IMAGES)[:, None]
    return boxes[rows, order // CLASSES], flat[rows, order], order % CLASSES + 1


def measure_nms(repeats: int) -> list[Case]:
    """Cases loop over classes, hard and soft, ms an image, with few and with many boxes that overlap"""
    cases = []
    sizes = np.tile(SIZE, (IMAGES, 1))
    for places in (ANCHORS, 40):
        boxes, scores = dense_scores(places)
        candidates = candidates_of(boxes, scores)
        hard = DetectionSelector(MIN_SCORE, IOU_THRESHOLD, MAX_DETECTIONS)
        soft = DetectionSelector(MIN_SCORE, IOU_THRESHOLD, MAX_DETECTIONS, "soft")
        ways = {
            "loop over classes": lambda: [loop_over_classes(*image) for image in zip(boxes, scores)],
            "hard NMS": lambda: hard(*candidates, sizes),
            "soft NMS": lambda: soft(*candidates, sizes),
        }
        settings = {"images": IMAGES, "anchors": ANCHORS, "boxes": DENSE_CLASSES * BOXES, "places": places}
        of_places = [Case(name, "ms/image", settings=settings) for name in ways]
        for _ in range(repeats):
            for case, run in zip(of_places, ways.values()):
                start = time.perf_counter()
                run()
                case.runs.append(1e3 * (time.perf_counter() - start) / IMAGES)
        for case in of_places[1:]:
            case.more["times_faster_than_loop"] = ratio(of_places[0], case)
        cases += of_places
    return cases
