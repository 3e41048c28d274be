"""The network that a training step differentiates: from pixels and ground-truth boxes to the loss."""

from __future__ import annotations

import mindspore.nn as nn
from mindspore import Tensor

from ..models.layers import NormalizeImage


class DetectorWithLoss(nn.Cell):
    """Compute the training loss: image normalization, detector, target assignment and loss function in one cell."""

    def __init__(self, detector: nn.Cell, assigner: nn.Cell, loss: nn.Cell):
        super().__init__(auto_prefix=False)  # parameters keep their names in the detector
        self.normalize = NormalizeImage()
        self.detector = detector
        self.assigner = assigner
        self.loss = loss

    def construct(self, image: Tensor, gt_boxes_yxyx: Tensor, gt_labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the loss of a batch.

        image: (B, H, W, 3) uint8 RGB
        gt_boxes_yxyx: (B, M, 4), corners y0, x0, y1, x1 as fractions of the image height and width
        gt_labels: (B, M) int32, class labels 1..K-1, or 0 for padding
        Returns three scalars: the total loss, the box regression loss and the classification loss.
        """
        box_offsets, cls_logits = self.detector(self.normalize(image))
        targets = self.assigner(gt_boxes_yxyx, gt_labels, box_offsets=box_offsets, cls_logits=cls_logits)
        return self.loss(box_offsets, cls_logits, *targets)
