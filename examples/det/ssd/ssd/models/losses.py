"""Training losses: sigmoid focal loss, or softmax loss with hard negative mining, each combined with a box loss.

`task_aligned_loss.py` has the third loss. `create_loss` creates the loss of a recipe.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops

from ..boxes.anchors import Anchors
from ..boxes.coder import MAX_LOG_RATIO
from .box_coder import GraphBoxCoder
from .hard_negatives import LargestValues
from .task_aligned_loss import TaskAlignedLoss

if TYPE_CHECKING:
    from ..config.schema import Config

EPSILON = 1e-7


class SmoothL1(nn.Cell):
    """Smooth L1 loss (arXiv:1504.08083, equation 3), summed over the four offsets of an anchor."""

    def __init__(self):
        super().__init__()
        self.smooth_l1 = nn.SmoothL1Loss(beta=1.0, reduction="none")

    def construct(self, box_offsets: Tensor, target_offsets: Tensor) -> Tensor:
        """Compute the box loss of each anchor.

        box_offsets: (B, A, 4), predicted scaled offsets
        target_offsets: (B, A, 4), scaled offsets of the matched ground-truth boxes
        Returns (B, A).
        """
        return self.smooth_l1(box_offsets, target_offsets).sum(axis=-1)


class IoULoss(nn.Cell):
    """GIoU loss (arXiv:1902.09630) or CIoU loss (arXiv:1911.08287) between decoded predictions and decoded targets.

    The loss is 1 - GIoU or 1 - CIoU. Boxes are not clipped to the image. No gradient flows through the weight of CIoU's
    aspect ratio term, as in the implementation of the paper's authors.

    kind: "giou" or "ciou"
    anchors_cyxhw: (A, 4) float32, center y, center x, height, width as fractions of the image height and width
    image_size: (height, width) of the input image in pixels; CIoU measures distances and aspect ratios in pixels
    prior_scaling: (center_scale, size_scale), SSD's variances, by which the encoded offsets are divided
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
        self.is_ciou = kind == "ciou"

    def construct(self, box_offsets: Tensor, target_offsets: Tensor) -> Tensor:
        """Compute the box loss of each anchor.

        box_offsets: (B, A, 4), predicted scaled offsets
        target_offsets: (B, A, 4), scaled offsets of the matched ground-truth boxes
        Returns (B, A), 0 for equal boxes, at most 2 for GIoU and at most 3 for CIoU.
        """
        center, size = self.coder.decode_bounded(box_offsets, MAX_LOG_RATIO)
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
        v = 4 / math.pi**2 * angle.square()  # the paper's v, which measures the difference of the aspect ratios
        alpha = ops.stop_gradient(v / (1 - iou + v + EPSILON))
        return 1 - iou + distance + alpha * v


class SigmoidFocalLoss(nn.Cell):
    """Sigmoid focal loss (arXiv:1708.02002, equation 5), summed over classes and anchors.

    Background is trained like an object class, as in MindCV's SSD: the target of background is 1 on negative anchors.

    alpha: weight of the terms whose target is 1; all other terms have the weight 1 - alpha
    gamma: exponent that reduces the weight of easy terms; with gamma 0 the loss is weighted cross-entropy
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0):
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma

    def construct(self, cls_logits: Tensor, target_labels: Tensor) -> Tensor:
        """Compute the summed loss of a batch.

        cls_logits: (B, A, K), class logits
        target_labels: (B, A) int, class labels 1..K-1, or 0 for background
        Returns a scalar.
        """
        num_classes = cls_logits.shape[-1]
        is_target = ops.one_hot(target_labels, num_classes, on_value=Tensor(1.0), off_value=Tensor(0.0))  # (B, A, K)
        wrong_logits = cls_logits * (1 - 2 * is_target)  # sigmoid(wrong_logits) = 1 - p_t
        # -log(p_t) is softplus(wrong_logits), computed in the form that does not overflow.
        cross_entropy = ops.maximum(wrong_logits, 0.0) + ops.log1p(ops.exp(-ops.abs(wrong_logits)))
        weight = (1 - self.alpha) + (2 * self.alpha - 1) * is_target
        # Compute (1 - p_t)^gamma from its logarithm, whose gradient stays finite where 1 - p_t underflows.
        modulating_factor = ops.exp(self.gamma * (wrong_logits - cross_entropy))
        return (weight * modulating_factor * cross_entropy).sum()


class FocalDetectionLoss(nn.Cell):
    """Focal loss of all anchors plus box loss of the positive anchors, divided by the number of positive anchors.

    The divisor is at least 1, so that the loss of a batch without positive anchors is finite. The box part and the
    class part of the loss are returned for logging only: no gradient flows through either part.

    alpha: weight of the focal loss terms whose target is 1
    gamma: exponent that reduces the weight of easy focal loss terms
    box_loss: cell that returns the box loss of each anchor, (B, A); None selects smooth L1
    box_loss_weight: weight of the box loss relative to the class loss
    num_devices: number of devices whose positive anchors are counted together. The divisor is then the number of
        positive anchors per device, so that the mean loss of the devices is the loss of their joint batch. Gradients
        are averaged over devices too. With 1, each device divides by its own number of positive anchors.
    """

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        box_loss: nn.Cell | None = None,
        box_loss_weight: float = 1.0,
        num_devices: int = 1,
    ):
        super().__init__()
        self.cls_loss = SigmoidFocalLoss(alpha, gamma)
        self.box_loss = box_loss or SmoothL1()
        self.box_loss_weight = box_loss_weight
        self.num_devices = num_devices
        self.all_reduce = ops.AllReduce() if num_devices > 1 else None

    def construct(
        self, box_offsets: Tensor, cls_logits: Tensor, target_offsets: Tensor, target_labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the loss of a batch.

        box_offsets: (B, A, 4), predicted scaled offsets
        cls_logits: (B, A, K), class logits
        target_offsets: (B, A, 4), scaled offsets of the matched ground-truth boxes
        target_labels: (B, A) int, class labels 1..K-1, or 0 for background
        Returns three scalars: the loss, its box part and its class part.
        """
        is_positive = (target_labels > 0).astype("float32")
        box_loss = (self.box_loss(box_offsets, target_offsets) * is_positive).sum() * self.box_loss_weight
        if self.all_reduce is None:
            num_positives = ops.maximum(is_positive.sum(), 1.0)
        else:
            num_positives = ops.maximum(self.all_reduce(is_positive.sum()), 1.0) / self.num_devices
        cls_loss = self.cls_loss(cls_logits, target_labels)
        parts = ops.stop_gradient(box_loss / num_positives), ops.stop_gradient(cls_loss / num_positives)
        return (cls_loss + box_loss) / num_positives, *parts


class MultiboxLoss(nn.Cell):
    """Loss of the SSD paper (arXiv:1512.02325, equation 1) with hard negative mining (section 2.2).

    The class part is the softmax cross-entropy of the positive anchors and of the hardest negative anchors. The box
    part is the box loss of the positive anchors. For each image, both parts are divided by the number of positive
    anchors. The loss of a batch is the mean over the images. The loss of an image without positive anchors is 0, as in
    NVIDIA's SSD300, because no negative anchors are selected from such an image.

    negatives_per_positive: maximum number of negative anchors for each positive anchor of an image
    box_loss: cell that returns the box loss of each anchor, (B, A); None selects smooth L1
    box_loss_weight: weight of the box loss relative to the class loss
    """

    def __init__(self, negatives_per_positive: int = 3, box_loss: nn.Cell | None = None, box_loss_weight: float = 1.0):
        super().__init__()
        self.negatives_per_positive = negatives_per_positive
        self.mining = LargestValues()
        self.box_loss = box_loss or SmoothL1()
        self.box_loss_weight = box_loss_weight

    def construct(
        self, box_offsets: Tensor, cls_logits: Tensor, target_offsets: Tensor, target_labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the loss of a batch.

        box_offsets: (B, A, 4), predicted scaled offsets
        cls_logits: (B, A, K), class logits
        target_offsets: (B, A, 4), scaled offsets of the matched ground-truth boxes
        target_labels: (B, A) int, class labels 1..K-1, or 0 for background
        Returns three scalars: the loss, its box part and its class part.
        """
        is_positive = (target_labels > 0).astype("float32")
        num_positives = is_positive.sum(axis=1)  # (B,)
        box_loss = (self.box_loss(box_offsets, target_offsets) * is_positive).sum(axis=1) * self.box_loss_weight

        num_classes = cls_logits.shape[-1]
        is_target = ops.one_hot(target_labels, num_classes, on_value=Tensor(1.0), off_value=Tensor(0.0))  # (B, A, K)
        cross_entropy = -(ops.log_softmax(cls_logits, axis=-1) * is_target).sum(axis=-1)  # (B, A)
        negatives = cross_entropy * (1 - is_positive)
        is_hard = self.mining(ops.stop_gradient(negatives), self.negatives_per_positive * num_positives)
        cls_loss = (cross_entropy * is_positive).sum(axis=1) + (negatives * is_hard).sum(axis=1)

        divisor = ops.maximum(num_positives, 1.0)
        box_loss, cls_loss = (box_loss / divisor).mean(), (cls_loss / divisor).mean()
        return box_loss + cls_loss, ops.stop_gradient(box_loss), ops.stop_gradient(cls_loss)


def create_box_loss(cfg: Config, anchors: Anchors) -> SmoothL1 | IoULoss:
    """Create the box loss of a recipe: smooth L1, GIoU or CIoU."""
    if cfg.box_loss == "smooth_l1":
        return SmoothL1()
    return IoULoss(cfg.box_loss, anchors.boxes_cyxhw, cfg.image_size, prior_scaling=cfg.prior_scaling)


def create_loss(
    cfg: Config, anchors: Anchors, world_size: int = 1
) -> FocalDetectionLoss | MultiboxLoss | TaskAlignedLoss:
    """Create the training loss of a recipe: focal, multibox or task-aligned, with the recipe's box loss.

    world_size: number of devices that train together
    """
    box_loss = create_box_loss(cfg, anchors)
    if cfg.loss == "multibox":
        return MultiboxLoss(cfg.negatives_per_positive, box_loss, cfg.box_loss_weight)
    num_devices = world_size if cfg.sync_num_positives else 1
    if cfg.loss == "task_aligned":
        return TaskAlignedLoss(box_loss, cfg.box_loss_weight, num_devices)
    return FocalDetectionLoss(
        alpha=cfg.alpha,
        gamma=cfg.gamma,
        box_loss=box_loss,
        box_loss_weight=cfg.box_loss_weight,
        num_devices=num_devices,
    )
