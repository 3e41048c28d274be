"""From raw predictions to detections: decoding and top-k in the graph, non-maximum suppression on the host."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops

from ..boxes.nms import hard_nms, soft_nms
from .box_coder import GraphBoxCoder


class DecodeBoxes(nn.Cell):
    """BoxCoder.decode in the graph. anchors_cyxhw: (A, 4) float32"""

    def __init__(self, anchors_cyxhw: np.ndarray, prior_scaling: Sequence[float] = (0.1, 0.2)):
        super().__init__()
        self.coder = GraphBoxCoder(anchors_cyxhw, prior_scaling)

    def construct(self, box_offsets: Tensor) -> Tensor:
        """box_offsets: (B, A, 4) -> boxes_yxyx (B, A, 4), clipped to 0..1"""
        centers, sizes = self.coder.decode(box_offsets)
        half_sizes = sizes / 2
        return ops.clamp(ops.concat((centers - half_sizes, centers + half_sizes), axis=2), 0.0, 1.0)


class TopKCandidates(nn.Cell):
    """The best-scored pairs of an anchor and a class, background left out.

    top_k: T, lowered to A * (K - 1) where there are no more
    softmax: whether scores are the softmax over all classes, background included, else each class's sigmoid
    """

    def __init__(self, decode: DecodeBoxes, top_k: int, softmax: bool = False):
        super().__init__()
        self.decode = decode
        self.top_k = top_k
        self.softmax = softmax

    def construct(self, box_offsets: Tensor, cls_logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """box_offsets: (B, A, 4); cls_logits: (B, A, K)
        -> boxes_yxyx (B, T, 4) 0..1; scores (B, T) 0..1, falling; labels (B, T) int32, 1..K-1"""
        foreground = cls_logits.shape[2] - 1
        if self.softmax:
            cls_logits = ops.log_softmax(cls_logits, axis=-1)
        logits = cls_logits[..., 1:].reshape(cls_logits.shape[0], -1)  # (B, A * (K - 1))
        best_logits, index = ops.topk(logits, min(self.top_k, logits.shape[1]))
        boxes = ops.gather(self.decode(box_offsets), index // foreground, 1, 1)
        # Sigmoid and exp keep the order, so they are taken of the chosen ones alone.
        scores = ops.exp(best_logits) if self.softmax else ops.sigmoid(best_logits)
        return boxes, scores, index % foreground + 1


@dataclasses.dataclass(frozen=True)
class Detections:
    """One image. boxes_yxyx: (D, 4) float32 in pixels of the original image; scores: (D,) falling;
    labels: (D,) int, 1..K-1"""

    boxes_yxyx: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


class DetectionSelector:
    """Threshold, non-maximum suppression within each class, and the cap on detections of an image.

    nms: hard drops boxes that a better one overlaps by more than nms_threshold; soft lowers scores, and drops what
    falls below min_score
    """

    def __init__(
        self,
        min_score: float,
        nms_threshold: float,
        max_detections: int,
        nms: str = "hard",
        soft_nms_sigma: float = 0.5,
    ):
        self.min_score = min_score
        self.nms_threshold = nms_threshold
        self.max_detections = max_detections
        self.nms = nms
        self.soft_nms_sigma = soft_nms_sigma

    def __call__(
        self, boxes_yxyx: np.ndarray, scores: np.ndarray, labels: np.ndarray, sizes: np.ndarray
    ) -> list[Detections]:
        """A batch. boxes_yxyx: (B, T, 4) 0..1; scores: (B, T); labels: (B, T); sizes: (B, 2) height and width of the
        original images in pixels"""
        boxes = boxes_yxyx * np.tile(np.asarray(sizes, dtype=np.float32), 2)[:, None]
        # A box that was clipped to nothing lies outside of the image.
        wanted = (scores >= self.min_score) & (boxes[..., 2:] > boxes[..., :2]).all(axis=-1)
        if self.nms == "soft":
            return self._soft(boxes, scores, labels, wanted)
        found = []
        for image in zip(boxes, scores, labels, wanted):
            candidates = [values[image[-1]] for values in image[:-1]]
            kept = hard_nms(*candidates, self.nms_threshold, self.max_detections)
            found.append(Detections(*(values[kept] for values in candidates)))
        return found

    def _soft(self, boxes, scores, labels, wanted) -> list[Detections]:
        indices, scores = soft_nms(boxes, scores * wanted, labels, self.soft_nms_sigma, self.max_detections)
        found = []
        for row, (index, score) in enumerate(zip(indices, scores)):
            kept = (score >= self.min_score) & (score > 0)
            found.append(Detections(boxes[row, index[kept]], score[kept], labels[row, index[kept]]))
        return found


def create_postprocess(cfg, anchors) -> TopKCandidates:
    """The post-processing of a recipe that runs in the graph. cfg: Config; anchors: boxes.anchors object."""
    decode = DecodeBoxes(anchors.boxes_cyxhw, cfg.prior_scaling)
    return TopKCandidates(decode, cfg.pre_nms_top_k, softmax=cfg.loss == "multibox")
