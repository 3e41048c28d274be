"""Training loss for task-aligned targets, in which scores learn how well the predicted boxes fit."""

from __future__ import annotations

import mindspore.nn as nn
from mindspore import Tensor, ops


class TaskAlignedLoss(nn.Cell):
    """Cross-entropy of all anchors with target scores plus box loss of the positive anchors, weighted by these scores.

    The target of the class of a positive anchor is its target score, and all other targets are 0, as in TOOD
    (arXiv:2108.07755, section 3.4), but without a focusing factor. Background is no class: the logit of class 0 is not
    trained, and detections ignore it. The loss is divided by the sum of the target scores, at least 1, so that the loss
    of a batch without boxes is finite. The box part and the class part of the loss are returned for logging only: no
    gradient flows through either part.

    box_loss: cell that returns the box loss of each anchor, (B, A)
    box_loss_weight: weight of the box loss relative to the class loss
    num_devices: number of devices whose target scores are summed together, as in FocalDetectionLoss
    """

    def __init__(self, box_loss: nn.Cell, box_loss_weight: float, num_devices: int = 1):
        super().__init__()
        self.box_loss = box_loss
        self.box_loss_weight = box_loss_weight
        self.num_devices = num_devices
        self.all_reduce = ops.AllReduce() if num_devices > 1 else None

    def construct(
        self,
        box_offsets: Tensor,
        cls_logits: Tensor,
        target_offsets: Tensor,
        target_labels: Tensor,
        target_scores: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the loss of a batch.

        box_offsets: (B, A, 4), predicted scaled offsets
        cls_logits: (B, A, K), class logits
        target_offsets: (B, A, 4), scaled offsets of the matched ground-truth boxes
        target_labels: (B, A) int, class labels 1..K-1, or 0 for background
        target_scores: (B, A), 0..1, 0 for background
        Returns three scalars: the loss, its box part and its class part.
        """
        num_classes = cls_logits.shape[-1]
        is_target = ops.one_hot(target_labels, num_classes, on_value=Tensor(1.0), off_value=Tensor(0.0))  # (B, A, K)
        targets = (is_target * target_scores.expand_dims(2))[..., 1:]
        logits = cls_logits[..., 1:]
        # Cross-entropy in the form that does not overflow
        cross_entropy = ops.maximum(logits, 0.0) - logits * targets + ops.log1p(ops.exp(-ops.abs(logits)))
        cls_loss = cross_entropy.sum()
        box_loss = (self.box_loss(box_offsets, target_offsets) * target_scores).sum() * self.box_loss_weight
        if self.all_reduce is None:
            divisor = ops.maximum(target_scores.sum(), 1.0)
        else:
            divisor = ops.maximum(self.all_reduce(target_scores.sum()), 1.0) / self.num_devices
        parts = ops.stop_gradient(box_loss / divisor), ops.stop_gradient(cls_loss / divisor)
        return (cls_loss + box_loss) / divisor, *parts
