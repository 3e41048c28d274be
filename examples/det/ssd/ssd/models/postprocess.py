"""From raw predictions to detections: decoding and top-k in the graph, non-maximum suppression on the host."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops

from ..boxes.anchors import Anchors
from ..boxes.nms import hard_nms, soft_nms
from .box_coder import GraphBoxCoder

if TYPE_CHECKING:
    from ..config.schema import Config


class DecodeBoxes(nn.Cell):
    """Decode offsets to corners, like `BoxCoder.decode`.

    anchors_cyxhw: (A, 4) float32, 0..1; prior_scaling: as in `BoxCoder`
    """

    def __init__(self, anchors_cyxhw: np.ndarray, prior_scaling: Sequence[float] = (0.1, 0.2)):
        super().__init__()
        self.coder = GraphBoxCoder(anchors_cyxhw, prior_scaling)

    def construct(self, box_offsets: Tensor) -> Tensor:
        """Decode a batch. box_offsets: (B, A, 4). Returns boxes_yxyx (B, A, 4), clipped to 0..1."""
        centers, sizes = self.coder.decode(box_offsets)
        half_sizes = sizes / 2
        return ops.clamp(ops.concat((centers - half_sizes, centers + half_sizes), axis=2), 0.0, 1.0)


class TopKCandidates(nn.Cell):
    """Select the pairs of an anchor and an object class with the highest scores, the candidates of NMS.

    decode: from offsets to boxes
    top_k: T, the number of candidates, at most A * (K - 1)
    softmax: scores are the softmax over all classes, background included, instead of each class's sigmoid
    """

    def __init__(self, decode: DecodeBoxes, top_k: int, softmax: bool = False):
        super().__init__()
        self.decode = decode
        self.top_k = top_k
        self.softmax = softmax

    def construct(self, box_offsets: Tensor, cls_logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Select the candidates of each image.

        box_offsets: (B, A, 4); cls_logits: (B, A, K)
        Returns boxes_yxyx (B, T, 4), 0..1; scores (B, T), 0..1, descending; labels (B, T) int32, 1..K-1.
        """
        num_object_classes = cls_logits.shape[2] - 1
        if self.softmax:
            cls_logits = ops.log_softmax(cls_logits, axis=-1)
        object_logits = cls_logits[..., 1:].reshape(cls_logits.shape[0], -1)  # (B, A * (K - 1))
        top_logits, index = ops.topk(object_logits, min(self.top_k, object_logits.shape[1]))
        boxes = ops.gather(self.decode(box_offsets), index // num_object_classes, axis=1, batch_dims=1)
        # Sigmoid and exp keep the order, so compute them for the candidates only.
        scores = ops.exp(top_logits) if self.softmax else ops.sigmoid(top_logits)
        return boxes, scores, index % num_object_classes + 1


@dataclasses.dataclass(frozen=True)
class Detections:
    """The detections of one image.

    boxes_yxyx: (D, 4) float32, pixels of the original image
    scores: (D,) float32, descending
    labels: (D,) int, 1..K-1
    """

    boxes_yxyx: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


class MulticlassNMS:
    """Select detections from candidates: score threshold, NMS within each class, maximum number of detections.

    min_score: score below which candidates are dropped
    nms_threshold: hard NMS: IoU above which the lower-scored box of a class is dropped
    max_detections: maximum number of detections of an image
    nms: "hard", or "soft", which lowers scores instead and drops those that fall below min_score
    soft_nms_sigma: soft NMS: scores are multiplied by exp(-IoU^2 / sigma)
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
        """Select the detections of each image of a batch.

        boxes_yxyx: (B, T, 4), 0..1; scores: (B, T); labels: (B, T)
        sizes: (B, 2), height and width of the original images in pixels
        """
        boxes = boxes_yxyx * np.tile(np.asarray(sizes, dtype=np.float32), 2)[:, None]
        # A box without area lies outside the image and was clipped.
        is_valid = (scores >= self.min_score) & (boxes[..., 2:] > boxes[..., :2]).all(axis=-1)
        if self.nms == "soft":
            return self._soft(boxes, scores * is_valid, labels)
        return [self._hard(boxes[i][valid], scores[i][valid], labels[i][valid]) for i, valid in enumerate(is_valid)]

    def _hard(self, boxes_yxyx: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> Detections:
        """Apply hard NMS to the valid candidates of one image: boxes_yxyx (T, 4), scores (T,), labels (T,)."""
        kept = hard_nms(
            boxes_yxyx, scores, labels, iou_threshold=self.nms_threshold, max_detections=self.max_detections
        )
        return Detections(boxes_yxyx[kept], scores[kept], labels[kept])

    def _soft(self, boxes_yxyx: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> list[Detections]:
        """Apply soft NMS to a batch: boxes_yxyx (B, T, 4), scores (B, T), 0 for no candidate, labels (B, T)."""
        indices, lowered_scores = soft_nms(
            boxes_yxyx, scores, labels, sigma=self.soft_nms_sigma, max_detections=self.max_detections
        )
        detections = []
        for image, (index, score) in enumerate(zip(indices, lowered_scores)):
            is_kept = (score >= self.min_score) & (score > 0)
            kept = index[is_kept]
            detections.append(Detections(boxes_yxyx[image, kept], score[is_kept], labels[image, kept]))
        return detections


def create_postprocess(cfg: Config, anchors: Anchors) -> TopKCandidates:
    """Create the post-processing of a recipe that runs in the graph."""
    decode = DecodeBoxes(anchors.boxes_cyxhw, cfg.prior_scaling)
    return TopKCandidates(decode, cfg.pre_nms_top_k, softmax=cfg.loss == "multibox")
