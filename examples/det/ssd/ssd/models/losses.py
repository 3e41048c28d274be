"""Training losses: the published one, of sigmoid focal loss, and the SSD paper's, with hard negative mining."""

from __future__ import annotations

import math
from collections.abc import Sequence

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops

from .box_coder import GraphBoxCoder

# Sides are predicted up to this factor of the anchor's, and down to its inverse, so that exp stays finite; for the
# overlap losses alone.
LARGEST_FACTOR = 1000 / 16
TINY = 1e-7


class SmoothL1(nn.Cell):
    """Smooth L1 (arXiv:1504.08083, equation 3), summed over the four offsets."""

    def __init__(self):
        super().__init__()
        self.smooth_l1 = nn.SmoothL1Loss(beta=1.0, reduction="none")

    def construct(self, box_offsets: Tensor, target_offsets: Tensor) -> Tensor:
        """box_offsets, target_offsets: (B, A, 4) -> (B, A)"""
        return self.smooth_l1(box_offsets, target_offsets).sum(axis=-1)


class OverlapLoss(nn.Cell):
    """1 - GIoU (arXiv:1902.09630) or 1 - CIoU (arXiv:1911.08287) of the predicted box with its target.

    kind: giou or ciou; anchors_cyxhw: (A, 4) float32, 0..1; image_size: (height, width), because CIoU's distances and
    shapes are those in pixels; prior_scaling: of `BoxCoder`. Boxes are not clipped to the image. The weight of CIoU's
    shape term is taken as a constant, as its authors do.
    """

    def __init__(
        self,
        kind: str,
        anchors_cyxhw: np.ndarray,
        image_size: Sequence[int],
        prior_scaling: Sequence[float] = (0.1, 0.2),
    ):
        super().__init__()
        pixels = anchors_cyxhw * np.tile(np.asarray(image_size, np.float32), 2)
        self.coder = GraphBoxCoder(pixels, prior_scaling)
        self.limit = math.log(LARGEST_FACTOR)
        self.is_complete = kind == "ciou"

    def construct(self, box_offsets: Tensor, target_offsets: Tensor) -> Tensor:
        """box_offsets, target_offsets: (B, A, 4) -> (B, A), from 0 (equal) to 2, for CIoU to 3"""
        center, size = self.coder.decode_bounded(box_offsets, self.limit)
        target_center, target_size = self.coder.decode(target_offsets)

        low, high = center - size / 2, center + size / 2
        target_low, target_high = target_center - target_size / 2, target_center + target_size / 2
        shared = ops.maximum(ops.minimum(high, target_high) - ops.maximum(low, target_low), 0.0)
        hull = ops.maximum(high, target_high) - ops.minimum(low, target_low)
        intersection = shared[..., 0] * shared[..., 1]
        union = size[..., 0] * size[..., 1] + target_size[..., 0] * target_size[..., 1] - intersection
        iou = intersection / (union + TINY)
        if not self.is_complete:
            enclosing = hull[..., 0] * hull[..., 1]
            return 1 - iou + (enclosing - union) / (enclosing + TINY)
        distance = (center - target_center).square().sum(axis=-1) / (hull.square().sum(axis=-1) + TINY)
        angle = ops.atan(target_size[..., 1] / target_size[..., 0]) - ops.atan(size[..., 1] / size[..., 0])
        shape = 4 / math.pi**2 * angle.square()
        weight = ops.stop_gradient(shape / (1 - iou + shape + TINY))
        return 1 - iou + distance + weight * shape


class SigmoidFocalLoss(nn.Cell):
    """Focal loss (arXiv:1708.02002, equation 5) of each class on its own, summed over classes and anchors.

    Background is a class like any other here, as published: its logit is trained towards 1 on negative anchors.
    alpha: weight of the terms whose target is 1, 1 - alpha that of the others; gamma: focus on hard ones, 0 for none
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0):
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma

    def construct(self, cls_logits: Tensor, target_labels: Tensor) -> Tensor:
        """cls_logits: (B, A, K); target_labels: (B, A) int -> scalar, not normalised"""
        is_target = ops.one_hot(target_labels, cls_logits.shape[-1], Tensor(1.0), Tensor(0.0))  # (B, A, K)
        wrong = cls_logits * (1 - 2 * is_target)  # the logit of 1 - p_t, of the wrong answer
        cross_entropy = ops.maximum(wrong, 0.0) + ops.log1p(ops.exp(-ops.abs(wrong)))  # -log(p_t), without overflow
        weight = (1 - self.alpha) + (2 * self.alpha - 1) * is_target
        # (1 - p_t) ** gamma by way of its logarithm, whose gradient stays finite where 1 - p_t underflows
        focus = ops.exp(self.gamma * (wrong - cross_entropy))
        return (weight * focus * cross_entropy).sum()


class SSDLoss(nn.Cell):
    """Focal loss of all anchors plus the box loss of the positive ones, over the number of positives in the batch.

    A batch without any positive is divided by 1: its loss is that of its negatives, and finite. The two parts are given
    out beside their sum; they are there to be looked at, and no gradients go through them.
    box_loss: gives (B, A), smooth L1 if there is none; box_loss_weight: beside that of the classes
    """

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        box_loss: nn.Cell | None = None,
        box_loss_weight: float = 1.0,
    ):
        super().__init__()
        self.cls_loss = SigmoidFocalLoss(alpha, gamma)
        self.box_loss = box_loss or SmoothL1()
        self.box_loss_weight = box_loss_weight

    def construct(
        self, box_offsets: Tensor, cls_logits: Tensor, target_offsets: Tensor, target_labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """box_offsets, target_offsets: (B, A, 4); cls_logits: (B, A, K); target_labels: (B, A) int
        -> scalars: the loss, its part of the boxes, its part of the classes"""
        is_positive = (target_labels > 0).astype("float32")
        box_loss = (self.box_loss(box_offsets, target_offsets) * is_positive).sum() * self.box_loss_weight
        num_positives = ops.maximum(is_positive.sum(), 1.0)
        cls_loss = self.cls_loss(cls_logits, target_labels)
        parts = ops.stop_gradient(box_loss / num_positives), ops.stop_gradient(cls_loss / num_positives)
        return (cls_loss + box_loss) / num_positives, *parts


class MultiboxLoss(nn.Cell):
    """The SSD paper's loss (arXiv:1512.02325, equation 1 and "hard negative mining" in section 2.2).

    Of each image the softmax cross-entropy of its positive anchors and of its negatives that are most wrong, up to
    `negatives_per_positive` for each positive, and the box loss of the positives, over their number; the mean of the
    batch's images. An image without positives has no negatives to count either: its loss is 0, as in NVIDIA's SSD300.
    The parts, box_loss and box_loss_weight are those of `SSDLoss`.
    """

    def __init__(self, negatives_per_positive: int = 3, box_loss: nn.Cell | None = None, box_loss_weight: float = 1.0):
        super().__init__()
        self.negatives_per_positive = negatives_per_positive
        self.box_loss = box_loss or SmoothL1()
        self.box_loss_weight = box_loss_weight

    def construct(
        self, box_offsets: Tensor, cls_logits: Tensor, target_offsets: Tensor, target_labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """box_offsets, target_offsets: (B, A, 4); cls_logits: (B, A, K); target_labels: (B, A) int
        -> scalars: the loss, its part of the boxes, its part of the classes"""
        is_positive = (target_labels > 0).astype("float32")
        num_positives = is_positive.sum(axis=1)  # (B,)
        box_loss = (self.box_loss(box_offsets, target_offsets) * is_positive).sum(axis=1) * self.box_loss_weight

        is_target = ops.one_hot(target_labels, cls_logits.shape[-1], Tensor(1.0), Tensor(0.0))  # (B, A, K)
        cross_entropy = -(ops.log_softmax(cls_logits, axis=-1) * is_target).sum(axis=-1)  # (B, A)
        # The hardest first; positives, 0 here, come last. Sorting all keeps shapes static, and ties change no sum.
        negatives = cross_entropy * (1 - is_positive)
        _, order = ops.topk(ops.stop_gradient(negatives), negatives.shape[1])
        negatives = ops.gather_elements(negatives, 1, order)  # NPUs may sort in float16, so its values are not used
        wanted = (self.negatives_per_positive * num_positives).expand_dims(1)
        is_hard = (ops.arange(negatives.shape[1]).astype("float32").expand_dims(0) < wanted).astype("float32")
        cls_loss = (cross_entropy * is_positive).sum(axis=1) + (negatives * is_hard).sum(axis=1)

        divisor = ops.maximum(num_positives, 1.0)
        box_loss, cls_loss = (box_loss / divisor).mean(), (cls_loss / divisor).mean()
        return box_loss + cls_loss, ops.stop_gradient(box_loss), ops.stop_gradient(cls_loss)


def create_box_loss(cfg, anchors) -> SmoothL1 | OverlapLoss:
    """The box loss of a recipe. cfg: Config."""
    if cfg.box_loss == "smooth_l1":
        return SmoothL1()
    return OverlapLoss(cfg.box_loss, anchors.boxes_cyxhw, cfg.image_size, cfg.prior_scaling)


def create_loss(cfg, anchors) -> SSDLoss | MultiboxLoss:
    """The loss of a recipe. cfg: Config."""
    box_loss = create_box_loss(cfg, anchors)
    if cfg.loss == "multibox":
        return MultiboxLoss(cfg.negatives_per_positive, box_loss, cfg.box_loss_weight)
    return SSDLoss(cfg.alpha, cfg.gamma, box_loss, cfg.box_loss_weight)
