"""Post-processing in the graph: decode boxes, and select the top-k candidates for non-maximum suppression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops

from ..boxes.anchors import Anchors
from .box_coder import GraphBoxCoder

if TYPE_CHECKING:
    from ..config.schema import Config


class DecodeBoxes(nn.Cell):
    """Decode box offsets to corners, and clip the boxes to the image.

    anchors_cyxhw: (A, 4) float32, center y, center x, height, width as fractions of the image height and width
    prior_scaling: (center_scale, size_scale), SSD's variances, by which the encoded offsets are divided
    """

    def __init__(self, anchors_cyxhw: np.ndarray, prior_scaling: Sequence[float] = (0.1, 0.2)):
        super().__init__()
        self.coder = GraphBoxCoder(anchors_cyxhw, prior_scaling)

    def construct(self, box_offsets: Tensor) -> Tensor:
        """Decode the box offsets of a batch.

        box_offsets: (B, A, 4), scaled offsets: center y, center x, log of the height ratio, log of the width ratio
        Returns (B, A, 4), corners y0, x0, y1, x1 as fractions of the image height and width, clipped to 0..1.
        """
        centers, sizes = self.coder.decode(box_offsets)
        half_sizes = sizes / 2
        return ops.clamp(ops.concat((centers - half_sizes, centers + half_sizes), axis=2), 0.0, 1.0)


class TopKCandidates(nn.Cell):
    """Select the (anchor, object class) pairs with the highest scores as candidates for NMS.

    decode: cell that decodes box offsets to corners
    top_k: number T of candidates of each image; reduced to A * (K - 1) if larger
    softmax: True for scores from a softmax over all classes, background included; False for sigmoid scores
    """

    def __init__(self, decode: DecodeBoxes, top_k: int, softmax: bool = False):
        super().__init__()
        self.decode = decode
        self.top_k = top_k
        self.softmax = softmax

    def construct(self, box_offsets: Tensor, cls_logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Select the candidates of each image of a batch.

        box_offsets: (B, A, 4), scaled offsets: center y, center x, log of the height ratio, log of the width ratio
        cls_logits: (B, A, K), class logits; class 0 is background
        Returns boxes_yxyx (B, T, 4), corners as fractions of the image height and width; scores (B, T), 0..1 in
        descending order; labels (B, T) int32, 1..K-1.
        """
        num_object_classes = cls_logits.shape[2] - 1
        if self.softmax:
            cls_logits = ops.log_softmax(cls_logits, axis=-1)
        object_logits = cls_logits[..., 1:]  # (B, A, K - 1)
        # Select anchors first, because sorting all A * (K - 1) logits is slow. An anchor with one of the T highest
        # logits is among the T anchors with the highest maximum logits.
        best_logits, _ = ops.max(object_logits, axis=2)
        _, anchor = ops.topk(best_logits, min(self.top_k, best_logits.shape[1]))  # (B, up to T)
        object_logits = ops.gather(object_logits, anchor, axis=1, batch_dims=1).reshape(cls_logits.shape[0], -1)
        _, index = ops.topk(object_logits, min(self.top_k, object_logits.shape[1]))
        # Gather the logits by index instead of using topk's values, because NPUs may sort in float16.
        top_logits = ops.gather_elements(object_logits, 1, index)
        anchor = ops.gather_elements(anchor, 1, index // num_object_classes)
        boxes = ops.gather(self.decode(box_offsets), anchor, axis=1, batch_dims=1)
        # Sigmoid and exp keep the order, so compute them for the candidates only.
        scores = ops.exp(top_logits) if self.softmax else ops.sigmoid(top_logits)
        return boxes, scores, index % num_object_classes + 1


def create_postprocess(cfg: Config, anchors: Anchors) -> TopKCandidates:
    """Create the part of a recipe's post-processing that runs in the graph: decoding and top-k."""
    decode = DecodeBoxes(anchors.boxes_cyxhw, cfg.prior_scaling)
    return TopKCandidates(decode, cfg.pre_nms_top_k, softmax=cfg.loss == "multibox")
