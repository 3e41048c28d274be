"""A few validation images with what is annotated and what a detector finds, the same ones after every evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ..boxes.ops import xywh_to_yxyx
from ..data.dataset import read_images
from ..data.images import decode_image
from ..evaluation.evaluator import EvaluationResult
from ..inference.drawing import draw_detections, draw_truth

LONG_SIDE = 640  # pixels; larger images are drawn smaller


class ValidationPictures:
    """Draws evaluations on example images: objects in white, detections in the colours of their classes.

    folder: data_dir; classes: names by label; min_score: detections below are not drawn; count: of images
    """

    def __init__(self, folder: Path, classes: Sequence[str], min_score: float, count: int = 4):
        self.folder = folder
        self.classes = classes
        self.min_score = min_score
        self.count = count
        self.images: dict[int, tuple[np.ndarray, float]] = {}  # read when there are first detections to draw

    def __call__(self, evaluated: EvaluationResult) -> dict[str, np.ndarray]:
        """-> {image id: (H, W, 3) uint8 RGB}"""
        evaluator, first = evaluated.evaluator, evaluated.image_ids[: self.count]
        if not self.images:
            encoded = read_images(self.folder, "val", first)
            self.images = {image_id: _shrink(decode_image(encoded[image_id])) for image_id in first}
        labels = {category_id: label for label, category_id in enumerate(evaluator.category_ids)}
        found = {image_id: [] for image_id in self.images}
        for result in evaluator.results:
            if result["image_id"] in found and result["score"] >= self.min_score:
                found[result["image_id"]].append(result)
        pictures = {}
        for image_id, (image, scale) in self.images.items():
            objects = [row for row in evaluator.truth.imgToAnns[image_id] if row["category_id"] in labels]
            picture = draw_truth(image, *_boxes(objects, labels, scale), self.classes)
            boxes_yxyx, of_detections = _boxes(found[image_id], labels, scale)
            scores = np.array([result["score"] for result in found[image_id]])
            pictures[str(image_id)] = draw_detections(picture, boxes_yxyx, scores, of_detections, self.classes)
        return pictures


def _boxes(rows: list[dict], labels: dict[int, int], scale: float) -> tuple[np.ndarray, np.ndarray]:
    """COCO's annotations or results -> boxes_yxyx (M, 4) pixels of the picture, labels (M,)"""
    boxes_xywh = np.array([row["bbox"] for row in rows], dtype=float).reshape(-1, 4)
    return xywh_to_yxyx(boxes_xywh) * scale, np.array([labels[row["category_id"]] for row in rows], dtype=int)


def _shrink(image: np.ndarray) -> tuple[np.ndarray, float]:
    """(H, W, 3) -> the image with sides of at most LONG_SIDE, and its scale"""
    scale = min(1.0, LONG_SIDE / max(image.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), scale
