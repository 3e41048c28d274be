"""From a batch of the host to updated weights, all in one graph."""

from __future__ import annotations

import mindspore as ms
import mindspore.nn as nn
import numpy as np
from mindcv.utils.train_step import TrainStep
from mindspore import Tensor, ops

from ..models.assigner import create_assigner
from ..models.layers import NormalizeImage
from ..models.loss import create_loss


class DetectorWithLoss(nn.Cell):
    """Normalisation, detector, target assignment and loss."""

    def __init__(self, detector: nn.Cell, assigner: nn.Cell, loss: nn.Cell):
        super().__init__(auto_prefix=False)  # so that parameters keep the detector's names in checkpoints
        self.normalize = NormalizeImage()
        self.detector = detector
        self.assigner = assigner
        self.loss = loss

    def construct(self, image: Tensor, boxes_yxyx: Tensor, labels: Tensor) -> Tensor:
        """image: (B, H, W, 3) uint8; boxes_yxyx: (B, M, 4) 0..1; labels: (B, M), 0 = padding -> scalar loss"""
        box_offsets, cls_logits = self.detector(self.normalize(image))
        target_offsets, target_labels = self.assigner(boxes_yxyx, labels)
        return self.loss(box_offsets, cls_logits, target_offsets, target_labels)


class CPUTrainStep(TrainStep):
    """MindCV's training step with an overflow check for CPU, which has no kernels for those of MindSpore."""

    def get_overflow_status(self, status: Tensor, compute_output: tuple[Tensor, ...]) -> Tensor:
        """compute_output: the gradients, equal on all devices -> scalar bool. A sum is finite only if its terms are."""
        # One sum, because a kernel launch for each of hundreds of gradients costs more than their bytes.
        values = ()
        for gradient in compute_output:
            values += (gradient.reshape(-1),)
        return ops.logical_not(ops.isfinite(ops.concat(values).sum()))


def create_train_step(cfg, detector: nn.Cell, anchors, schedule: np.ndarray) -> TrainStep:
    """MindCV's training step with the published optimiser: momentum, weight decay on all but BatchNorm's
    gamma and beta, which MindSpore's Momentum leaves out by their names.

    cfg: Config; anchors: boxes.anchors object; schedule: learning rate of every step. A step whose gradients overflow
    is left out, and lowers the loss scale if that is dynamic.
    """
    network = DetectorWithLoss(detector, create_assigner(cfg, anchors), create_loss(cfg))
    # MindCV's step divides the gradients by the loss scale itself, so the optimiser is told nothing of it.
    optimizer = nn.Momentum(network.trainable_params(), Tensor(schedule), cfg.momentum, cfg.weight_decay)
    if cfg.loss_scale_type == "dynamic":
        scale = nn.DynamicLossScaleUpdateCell(cfg.loss_scale, scale_factor=2, scale_window=2000)
    else:
        scale = nn.FixedLossScaleUpdateCell(cfg.loss_scale)
    return (CPUTrainStep if cfg.device_target == "CPU" else TrainStep)(network, optimizer, scale)


def to_mixed_precision(detector: nn.Cell, amp_level: str) -> nn.Cell:
    """The detector at an AMP level: O0 float32, O2 float16 but for BatchNorm, O3 float16. Its outputs stay float32."""
    return ms.amp.auto_mixed_precision(detector, amp_level) if amp_level != "O0" else detector
