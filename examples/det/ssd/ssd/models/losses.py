"""Training losses: sigmoid focal loss, or the SSD paper's loss with hard negative mining, each with a box loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops

from ..boxes.anchors import Anchors
from .box_coder import GraphBoxCoder

if TYPE_CHECKING:
    from ..config.schema import Config

# Largest ratio of a predicted side to the anchor's side, and inverse of the smallest, so that exp does not overflow.
# The value is detectron2's and torchvision's. Only the IoU losses decode in training, so only they need it.
MAX_SIZE_RATIO = 1000 / 16
EPSILON = 1e-7


class SmoothL1(nn.Cell):
    """Smooth L1 loss (arXiv:1504.08083, equation 3), summed over the four offsets of an anchor."""

    def __init__(self):
        super().__init__()
        self.smooth_l1 = nn.SmoothL1Loss(beta=1.0, reduction="none")

    def construct(self, box_offsets: Tensor, target_offsets: Tensor) -> Tensor:
        """Compute the loss of each anchor. box_offsets, target_offsets: (B, A, 4). Returns (B, A)."""
        return self.smooth_l1(box_offsets, target_offsets).sum(axis=-1)


class IoULoss(nn.Cell):
    """1 - GIoU (arXiv:1902.09630) or 1 - CIoU (arXiv:1911.08287) of the decoded prediction and its decoded target.

    Boxes are not clipped to the image. No gradient flows through the weight of CIoU's aspect ratio term, as its
    authors do it.

    kind: "giou" or "ciou"
    anchors_cyxhw: (A, 4) float32, 0..1
    image_size: (height, width) in pixels, because CIoU measures distances and aspect ratios in pixels
    prior_scaling: as in `BoxCoder`
    """

    def __init__(
        self,
        kind: str,
        anchors_cyxhw: np.ndarray,
        image_size: Sequence[int],
        prior_scaling: Sequence[float] = (0.1, 0.2),
    ):
        super().__init__()
        anchors_in_pixels = anchors_cyxhw * np.tile(np.asarray(image_size, np.float32), 2)
        self.coder = GraphBoxCoder(anchors_in_pixels, prior_scaling)
        self.max_log_ratio = math.log(MAX_SIZE_RATIO)
        self.is_ciou = kind == "ciou"

    def construct(self, box_offsets: Tensor, target_offsets: Tensor) -> Tensor:
        """Compute the loss of each anchor.

        box_offsets, target_offsets: (B, A, 4)
        Returns (B, A), 0 for equal boxes, at most 2 for GIoU and 3 for CIoU.
        """
        center, size = self.coder.decode_bounded(box_offsets, self.max_log_ratio)
        target_center, target_size = self.coder.decode(target_offsets)

        low, high = center - size / 2, center + size / 2
        target_low, target_high = target_center - target_size / 2, target_center + target_size / 2
        overlap = ops.maximum(ops.minimum(high, target_high) - ops.maximum(low, target_low), 0.0)
        enclosing_size = ops.maximum(high, target_high) - ops.minimum(low, target_low)
        intersection = overlap[..., 0] * overlap[..., 1]
        union = size[..., 0] * size[..., 1] + target_size[..., 0] * target_size[..., 1] - intersection
        iou = intersection / (union + EPSILON)
        if not self.is_ciou:
            enclosing_area = enclosing_size[..., 0] * enclosing_size[..., 1]
            return 1 - iou + (enclosing_area - union) / (enclosing_area + EPSILON)
        squared_diagonal = enclosing_size.square().sum(axis=-1)
        distance = (center - target_center).square().sum(axis=-1) / (squared_diagonal + EPSILON)
        angle = ops.atan(target_size[..., 1] / target_size[..., 0]) - ops.atan(size[..., 1] / size[..., 0])
        v = 4 / math.pi**2 * angle.square()  # the paper's v, the difference of aspect ratios
        alpha = ops.stop_gradient(v / (1 - iou + v + EPSILON))
        return 1 - iou + distance + alpha * v


class SigmoidFocalLoss(nn.Cell):
    """Sigmoid focal loss (arXiv:1708.02002, equation 5), summed over classes and anchors.

    Background is a class like any other here, as published: its target is 1 on negative anchors.

    alpha: weight of the terms whose target is 1; the other terms have the weight 1 - alpha
    gamma: exponent that lowers the weight of easy terms; 0 gives cross-entropy
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0):
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma

    def construct(self, cls_logits: Tensor, target_labels: Tensor) -> Tensor:
        """Compute the sum of a batch. cls_logits: (B, A, K); target_labels: (B, A) int. Returns a scalar."""
        num_classes = cls_logits.shape[-1]
        is_target = ops.one_hot(target_labels, num_classes, on_value=Tensor(1.0), off_value=Tensor(0.0))  # (B, A, K)
        wrong_logits = cls_logits * (1 - 2 * is_target)  # sigmoid(wrong_logits) = 1 - p_t
        # -log(p_t) as softplus(wrong_logits), in the form that does not overflow.
        cross_entropy = ops.maximum(wrong_logits, 0.0) + ops.log1p(ops.exp(-ops.abs(wrong_logits)))
        weight = (1 - self.alpha) + (2 * self.alpha - 1) * is_target
        # (1 - p_t)^gamma through its logarithm, whose gradient stays finite where 1 - p_t underflows.
        modulating_factor = ops.exp(self.gamma * (wrong_logits - cross_entropy))
        return (weight * modulating_factor * cross_entropy).sum()


class FocalDetectionLoss(nn.Cell):
    """Focal loss of all anchors plus box loss of positive anchors, over the number of positives in the batch.

    A batch without positives is divided by 1, so its loss is finite. The box and class losses are returned for the
    log only: no gradient flows through them.

    alpha, gamma: as in `SigmoidFocalLoss`
    box_loss: cell that returns (B, A), by default smooth L1
    box_loss_weight: weight of the box loss relative to the class loss
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
        """Compute the loss of a batch.

        box_offsets, target_offsets: (B, A, 4); cls_logits: (B, A, K); target_labels: (B, A) int, 0 = background
        Returns three scalars: the loss, its box loss, its class loss.
        """
        is_positive = (target_labels > 0).astype("float32")
        box_loss = (self.box_loss(box_offsets, target_offsets) * is_positive).sum() * self.box_loss_weight
        num_positives = ops.maximum(is_positive.sum(), 1.0)
        cls_loss = self.cls_loss(cls_logits, target_labels)
        parts = ops.stop_gradient(box_loss / num_positives), ops.stop_gradient(cls_loss / num_positives)
        return (cls_loss + box_loss) / num_positives, *parts


class MultiboxLoss(nn.Cell):
    """The SSD paper's loss (arXiv:1512.02325, equation 1 and "hard negative mining" in section 2.2).

    The loss of an image is the softmax cross-entropy of its positive anchors and of its hardest negatives, plus the box
    loss of the positives, over the number of positives. The loss of a batch is the mean of its images. An image without
    positives has no negatives either, so its loss is 0, as in NVIDIA's SSD300.

    negatives_per_positive: maximum number of negatives for each positive of an image
    box_loss, box_loss_weight: as in `FocalDetectionLoss`
    """

    def __init__(self, negatives_per_positive: int = 3, box_loss: nn.Cell | None = None, box_loss_weight: float = 1.0):
        super().__init__()
        self.negatives_per_positive = negatives_per_positive
        self.box_loss = box_loss or SmoothL1()
        self.box_loss_weight = box_loss_weight

    def construct(
        self, box_offsets: Tensor, cls_logits: Tensor, target_offsets: Tensor, target_labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the loss of a batch.

        box_offsets, target_offsets: (B, A, 4); cls_logits: (B, A, K); target_labels: (B, A) int, 0 = background
        Returns three scalars: the loss, its box loss, its class loss.
        """
        is_positive = (target_labels > 0).astype("float32")
        num_positives = is_positive.sum(axis=1)  # (B,)
        box_loss = (self.box_loss(box_offsets, target_offsets) * is_positive).sum(axis=1) * self.box_loss_weight

        num_classes = cls_logits.shape[-1]
        is_target = ops.one_hot(target_labels, num_classes, on_value=Tensor(1.0), off_value=Tensor(0.0))  # (B, A, K)
        cross_entropy = -(ops.log_softmax(cls_logits, axis=-1) * is_target).sum(axis=-1)  # (B, A)
        # Sort negatives by loss, with positives as 0 at the end. Sorting all anchors keeps shapes static, and the order
        # of equal losses changes no sum.
        negatives = cross_entropy * (1 - is_positive)
        _, order = ops.topk(ops.stop_gradient(negatives), negatives.shape[1])
        # Gather the values, because NPUs may sort in float16.
        negatives = ops.gather_elements(negatives, 1, order)
        num_negatives = (self.negatives_per_positive * num_positives).expand_dims(1)  # (B, 1)
        is_hard = (ops.arange(negatives.shape[1]).astype("float32").expand_dims(0) < num_negatives).astype("float32")
        cls_loss = (cross_entropy * is_positive).sum(axis=1) + (negatives * is_hard).sum(axis=1)

        divisor = ops.maximum(num_positives, 1.0)
        box_loss, cls_loss = (box_loss / divisor).mean(), (cls_loss / divisor).mean()
        return box_loss + cls_loss, ops.stop_gradient(box_loss), ops.stop_gradient(cls_loss)


def create_box_loss(cfg: Config, anchors: Anchors) -> SmoothL1 | IoULoss:
    """Create the box loss of a recipe."""
    if cfg.box_loss == "smooth_l1":
        return SmoothL1()
    return IoULoss(cfg.box_loss, anchors.boxes_cyxhw, cfg.image_size, prior_scaling=cfg.prior_scaling)


def create_loss(cfg: Config, anchors: Anchors) -> FocalDetectionLoss | MultiboxLoss:
    """Create the loss of a recipe."""
    box_loss = create_box_loss(cfg, anchors)
    if cfg.loss == "multibox":
        return MultiboxLoss(cfg.negatives_per_positive, box_loss, cfg.box_loss_weight)
    return FocalDetectionLoss(alpha=cfg.alpha, gamma=cfg.gamma, box_loss=box_loss, box_loss_weight=cfg.box_loss_weight)
