"""The published training loss: sigmoid focal loss for the classes, smooth L1 for the boxes."""

from __future__ import annotations

import mindspore.nn as nn
from mindspore import Tensor, ops


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
    """Focal loss of all anchors plus smooth L1 of the positive ones, over the number of positives in the batch.

    A batch without any positive is divided by 1: its loss is that of its negatives, and finite. The two parts are given
    out beside their sum; they are there to be looked at, and no gradients go through them.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0):
        super().__init__()
        self.cls_loss = SigmoidFocalLoss(alpha, gamma)
        self.box_loss = nn.SmoothL1Loss(beta=1.0, reduction="none")

    def construct(
        self, box_offsets: Tensor, cls_logits: Tensor, target_offsets: Tensor, target_labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """box_offsets, target_offsets: (B, A, 4); cls_logits: (B, A, K); target_labels: (B, A) int
        -> scalars: the loss, its part of the boxes, its part of the classes"""
        is_positive = (target_labels > 0).astype("float32")
        box_loss = (self.box_loss(box_offsets, target_offsets).sum(axis=-1) * is_positive).sum()
        num_positives = ops.maximum(is_positive.sum(), 1.0)
        cls_loss = self.cls_loss(cls_logits, target_labels)
        parts = ops.stop_gradient(box_loss / num_positives), ops.stop_gradient(cls_loss / num_positives)
        return (cls_loss + box_loss) / num_positives, *parts


def create_loss(cfg) -> SSDLoss:
    """The loss of a recipe. cfg: Config."""
    return SSDLoss(cfg.alpha, cfg.gamma)
