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

_unscale = ops.MultitypeFuncGraph("unscale")
_sum_of_squares = ops.MultitypeFuncGraph("sum_of_squares")


@_unscale.register("Tensor", "Tensor")
def _unscale_tensor(scale, gradient):
    return gradient * ops.cast(ops.reciprocal(scale), gradient.dtype)


@_sum_of_squares.register("Tensor")
def _sum_of_squares_of_tensor(gradient):
    return ops.cast(gradient, ms.float32).square().sum()


# What a training step gives out, in this order. loss, box_loss, cls_loss: those of this device's batch; grad_norm: L2
# norm of all gradients as one vector, unscaled and averaged over the devices; loss_scale: that of this step; overflow:
# 1 if the step left the weights as they were, else 0; updates: of the weights before this step.
OUTPUTS = ("loss", "box_loss", "cls_loss", "grad_norm", "loss_scale", "overflow", "updates")


class DetectorWithLoss(nn.Cell):
    """Normalisation, detector, target assignment and loss."""

    def __init__(self, detector: nn.Cell, assigner: nn.Cell, loss: nn.Cell):
        super().__init__(auto_prefix=False)  # so that parameters keep the detector's names in checkpoints
        self.normalize = NormalizeImage()
        self.detector = detector
        self.assigner = assigner
        self.loss = loss

    def construct(self, image: Tensor, boxes_yxyx: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """image: (B, H, W, 3) uint8; boxes_yxyx: (B, M, 4) 0..1; labels: (B, M), 0 = padding
        -> scalars: loss, box loss, class loss"""
        box_offsets, cls_logits = self.detector(self.normalize(image))
        target_offsets, target_labels = self.assigner(boxes_yxyx, labels)
        return self.loss(box_offsets, cls_logits, target_offsets, target_labels)


class WatchedTrainStep(TrainStep):
    """MindCV's training step, which also tells what it did.

    network: gives out three scalars, the loss first; scale_sense: a cell that updates the loss scale. MindCV's average
    of weights, clipping and accumulation are not taken over.
    """

    def __init__(self, network: nn.Cell, optimizer: nn.Optimizer, scale_sense: nn.Cell):
        super().__init__(network, optimizer, scale_sense)

    def construct(self, *inputs: Tensor) -> Tensor:
        """inputs: those of the network -> (7,) float32, in the order of OUTPUTS"""
        loss, box_loss, cls_loss = self.network(*inputs)
        status, scale = self.start_overflow_check(loss, self.scale_sense)
        filled = ops.ones_like(loss) * ops.cast(scale, loss.dtype)
        sens = filled, ops.zeros_like(box_loss), ops.zeros_like(cls_loss)
        gradients = self.grad(self.network, self.weights)(*inputs, sens)
        gradients = self.hyper_map(ops.partial(_unscale, scale), gradients)
        gradients = self.grad_reducer(gradients)
        norm, overflow = self.gradient_norm(gradients), self.get_overflow_status(status, gradients)
        # Before the loss scale and the optimiser change what is told here.
        told = (loss, box_loss, cls_loss, norm, scale, overflow, self.optimizer.global_step)
        outputs = ()
        for value in told:
            outputs += (ops.cast(value, ms.float32).reshape(()),)
        outputs = ops.stack(outputs)
        if not self.process_loss_scale(overflow):
            outputs = ops.depend(outputs, self.optimizer(gradients))
        return outputs

    def gradient_norm(self, gradients: tuple[Tensor, ...]) -> Tensor:
        """-> scalar float32, the L2 norm of all gradients as one vector"""
        return ops.addn(self.hyper_map(_sum_of_squares, gradients)).sqrt()


class CPUTrainStep(WatchedTrainStep):
    """With an overflow check for CPU, which has no kernels for those of MindSpore."""

    def gradient_norm(self, gradients: tuple[Tensor, ...]) -> Tensor:
        """-> scalar float32, the L2 norm of all gradients as one vector"""
        # One sum, because a kernel launch for each of hundreds of gradients costs more than their bytes.
        values = ()
        for gradient in gradients:
            values += (gradient.reshape(-1),)
        return ops.concat(values).square().sum().sqrt()

    def get_overflow_status(self, status: Tensor, compute_output: tuple[Tensor, ...]) -> Tensor:
        """compute_output: the gradients, equal on all devices -> scalar bool. A norm is finite only if all of them are.

        From 1.8e19 on, where squares end, it is infinite for finite gradients, too: no weights would outlive that step.
        """
        return ops.logical_not(ops.isfinite(self.gradient_norm(compute_output)))


def create_train_step(cfg, detector: nn.Cell, anchors, schedule: np.ndarray) -> WatchedTrainStep:
    """The training step with the published optimiser: momentum, weight decay on all but BatchNorm's
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
    return (CPUTrainStep if cfg.device_target == "CPU" else WatchedTrainStep)(network, optimizer, scale)


def to_mixed_precision(detector: nn.Cell, amp_level: str) -> nn.Cell:
    """The detector at an AMP level: O0 float32, O2 float16 but for BatchNorm, O3 float16. Its outputs stay float32."""
    return ms.amp.auto_mixed_precision(detector, amp_level) if amp_level != "O0" else detector
