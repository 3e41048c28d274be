"""Detections of an image, and their selection from candidates: score threshold, classes, NMS, and limit."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from .nms import hard_nms, soft_nms
from .supervision_package import import_supervision

if TYPE_CHECKING:
    import supervision


@dataclasses.dataclass(frozen=True)
class Detections:
    """The detections of one image in descending order of score.

    boxes_yxyx: (D, 4) float32, corners y0, x0, y1, x1 in pixels of the original image
    scores: (D,) float32, 0..1
    labels: (D,) int, class labels 1..K-1
    track_ids: (D,) int, ids 1, 2, ... of tracked objects, 0 for a detection of no track; None without tracking
    """

    boxes_yxyx: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    track_ids: np.ndarray | None = None

    def select(self, chosen: np.ndarray) -> Detections:
        """Return some of the detections.

        chosen: (D,) bool mask, or indices
        """
        track_ids = None if self.track_ids is None else self.track_ids[chosen]
        return Detections(self.boxes_yxyx[chosen], self.scores[chosen], self.labels[chosen], track_ids=track_ids)

    def to_supervision(self) -> supervision.Detections:
        """Convert the detections for the library supervision, which draws, tracks and counts objects.

        Returns supervision.Detections:
        xyxy: (D, 4) float32, corners x0, y0, x1, y1 in pixels
        confidence: (D,) float32, 0..1
        class_id: (D,) int, the labels. They count from 1, because label 0 is the background: the name of an object is
            classes[class_id] in the attribute `classes` of the detector. YOLO's class index is class_id - 1.
        tracker_id: (D,) int, the track ids, -1 for a detection of no track; None without tracking
        Raises UserError if supervision is not installed.
        """
        track_ids = self.track_ids
        return import_supervision().Detections(
            xyxy=self.boxes_yxyx[:, [1, 0, 3, 2]],
            confidence=self.scores,
            class_id=self.labels.astype(int),
            tracker_id=None if track_ids is None else np.where(track_ids > 0, track_ids, -1),
        )


class MulticlassNMS:
    """Select detections: apply a score threshold, NMS within each class, and a limit on the number of detections.

    min_score: score below which candidates are dropped
    nms_threshold: IoU above which hard NMS drops the box with the lower score
    max_detections: maximum number of detections of an image
    nms: "hard" drops overlapping boxes; "soft" lowers their scores, and drops boxes with scores below min_score
    soft_nms_sigma: sigma of Soft-NMS, which multiplies scores by exp(-IoU^2 / sigma)
    agnostic: True to apply NMS across classes, so that an object gets only the class with the highest score
    kept_labels: labels of the classes to keep; candidates of other classes are dropped before NMS. None for all.
    """

    def __init__(
        self,
        min_score: float,
        nms_threshold: float,
        max_detections: int,
        nms: str = "hard",
        soft_nms_sigma: float = 0.5,
        agnostic: bool = False,
        kept_labels: Collection[int] | None = None,
    ):
        self.min_score = min_score
        self.nms_threshold = nms_threshold
        self.max_detections = max_detections
        self.nms = nms
        self.soft_nms_sigma = soft_nms_sigma
        self.agnostic = agnostic
        self.kept_labels = kept_labels

    def __call__(
        self, boxes_yxyx: np.ndarray, scores: np.ndarray, labels: np.ndarray, sizes: np.ndarray
    ) -> list[Detections]:
        """Select the detections of each image of a batch.

        boxes_yxyx: (B, T, 4), corners y0, x0, y1, x1 as fractions of the image height and width
        scores: (B, T), 0..1
        labels: (B, T), class labels 1..K-1
        sizes: (B, 2), height and width of the original images in pixels
        Returns the detections of each image.
        """
        boxes = boxes_yxyx * np.tile(np.asarray(sizes, dtype=np.float32), 2)[:, None]
        # A box outside the image has no area after clipping.
        is_valid = (scores >= self.min_score) & (boxes[..., 2:] > boxes[..., :2]).all(axis=-1)
        if self.kept_labels is not None:
            is_valid &= np.isin(labels, list(self.kept_labels))
        if self.nms == "soft":
            return self._soft(boxes, scores * is_valid, labels)
        return [self._hard(boxes[i][valid], scores[i][valid], labels[i][valid]) for i, valid in enumerate(is_valid)]

    def _hard(self, boxes_yxyx: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> Detections:
        """Apply hard NMS to the valid candidates of one image.

        boxes_yxyx: (T, 4), corners y0, x0, y1, x1 in pixels
        scores: (T,), 0..1
        labels: (T,), class labels 1..K-1
        """
        kept = hard_nms(
            boxes_yxyx,
            scores,
            labels=self._groups(labels),
            iou_threshold=self.nms_threshold,
            max_detections=self.max_detections,
        )
        return Detections(boxes_yxyx[kept], scores[kept], labels[kept])

    def _soft(self, boxes_yxyx: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> list[Detections]:
        """Apply Soft-NMS to the candidates of a batch.

        boxes_yxyx: (B, T, 4), corners y0, x0, y1, x1 in pixels
        scores: (B, T), 0..1; a score of 0 marks an invalid candidate
        labels: (B, T), class labels 1..K-1
        Returns the detections of each image.
        """
        indices, lowered_scores = soft_nms(
            boxes_yxyx,
            scores,
            labels=self._groups(labels),
            sigma=self.soft_nms_sigma,
            max_detections=self.max_detections,
        )
        detections = []
        for image, (index, score) in enumerate(zip(indices, lowered_scores)):
            is_kept = (score >= self.min_score) & (score > 0)
            kept = index[is_kept]
            detections.append(Detections(boxes_yxyx[image, kept], score[is_kept], labels[image, kept]))
        return detections

    def _groups(self, labels: np.ndarray) -> np.ndarray:
        """Return the labels for NMS: only boxes with the same label suppress one another."""
        return np.zeros_like(labels) if self.agnostic else labels
