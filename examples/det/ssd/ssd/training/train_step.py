"""From a batch of the host to updated weights, all in one graph."""

from __future__ import annotations

import mindspore as ms
import mindspore.nn as nn
import numpy as np
from mindcv.utils.train_step import TrainStep as MindCVTrainStep
from mindspore import Parameter, Tensor, ops

from ..models.layers import NormalizeImage
from ..models.losses import create_loss
from ..models.target_assigner import create_assigner
from .optimizer import create_optimizer

_scaled = ops.MultitypeFuncGraph("scaled")
_sum_of_squares = ops.MultitypeFuncGraph("sum_of_squares")
_flat = ops.MultitypeFuncGraph("flat")
_add = ops.MultitypeFuncGraph("add")
_assign = ops.MultitypeFuncGraph("assign")
_clear = ops.MultitypeFuncGraph("clear")
_move = ops.MultitypeFuncGraph("move")


@_scaled.register("Tensor", "Tensor")
def _scaled_tensor(factor, gradient):
    return gradient * ops.cast(factor, gradient.dtype)


@_sum_of_squares.register("Tensor")
def _sum_of_squares_of_tensor(gradient):
    return ops.cast(gradient, ms.float32).square().sum()


@_flat.register("Tensor")
def _flat_tensor(gradient):
    return gradient.reshape(-1)


@_add.register("Tensor", "Tensor")
def _add_tensor(total, gradient):
    return total + ops.cast(gradient, total.dtype)


@_assign.register("Tensor", "Tensor")
def _assign_tensor(parameter, value):
    return ops.assign(parameter, value)


@_clear.register("Tensor")
def _clear_tensor(parameter):
    return ops.assign(parameter, ops.zeros_like(parameter))


@_move.register("Tensor", "Tensor", "Tensor")
def _move_tensor(rate, average, value):
    return ops.assign_add(average, (value - average) * rate)


# What a training step gives out, in this order. loss, box_loss, cls_loss: those of this device's batch; grad_norm: L2
# norm of all gradients as one vector, unscaled, averaged over devices and accumulated batches, and not yet clipped (0
# in a step that only accumulates); loss_scale: that of this step; skipped: updates left out so far, because gradients
# overflowed; updates: of the weights before this step; steps_since_non_finite: steps since the first loss that was not finite, that
# one included, else 0.
OUTPUTS = ("loss", "box_loss", "cls_loss", "grad_norm", "loss_scale", "skipped", "updates", "steps_since_non_finite")


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


class TrainStep(MindCVTrainStep):
    """MindCV's training step, which also tells what it did, and clips and accumulates after what is said below.

    network: gives out three scalars, the loss first; scale_sense: a cell that updates the loss scale; ema_decay: of the
    average of all parameters of the network, None for none; clip_norm: longest gradient, None for any length;
    accumulate: batches whose mean gradient makes an update. Devices exchange gradients once an update, and one that
    overflowed in any batch on any device is left out on all of them.
    """

    def __init__(
        self,
        network: nn.Cell,
        optimizer: nn.Optimizer,
        scale_sense: nn.Cell,
        ema_decay: float | None = None,
        clip_norm: float | None = None,
        accumulate: int = 1,
    ):
        super().__init__(network, optimizer, scale_sense, ema=ema_decay is not None, ema_decay=ema_decay)
        self.clip_norm = clip_norm
        self.accumulate = accumulate
        self.skipped = Parameter(Tensor(0, ms.int32), "skipped_updates", requires_grad=False)
        self.steps_since_non_finite = Parameter(Tensor(0, ms.int32), "steps_since_bad_loss", requires_grad=False)
        if accumulate > 1:
            self.accumulated = self.weights.clone("accumulated", init="zeros")
            self.batches = Parameter(Tensor(0, ms.int32), "accumulated_batches", requires_grad=False)

    def construct(self, *inputs: Tensor) -> Tensor:
        """inputs: those of the network -> (8,) float32, in the order of OUTPUTS"""
        loss, box_loss, cls_loss = self.network(*inputs)
        status, scale = self.start_overflow_check(loss, self.scale_sense)
        filled = ops.ones_like(loss) * ops.cast(scale, loss.dtype)
        sens = filled, ops.zeros_like(box_loss), ops.zeros_like(cls_loss)
        gradients = self.grad(self.network, self.weights)(*inputs, sens)
        gradients = self.hyper_map(ops.partial(_scaled, ops.reciprocal(scale * self.accumulate)), gradients)
        bad = ops.logical_or(self.steps_since_non_finite > 0, ops.logical_not(ops.isfinite(loss)))
        steps_since_non_finite = ops.assign_add(self.steps_since_non_finite, ops.cast(bad, ms.int32))
        updates = self.optimizer.global_step + 0  # of before, whatever the order of what follows
        told_scale = scale + 0
        if self.accumulate > 1:
            norm = self.accumulate_and_update(gradients, status)
        else:
            norm = self.update(gradients, status)
        skipped = ops.depend(self.skipped, norm)
        outputs = ()
        for value in (loss, box_loss, cls_loss, norm, told_scale, skipped, updates, steps_since_non_finite):
            outputs += (ops.cast(value, ms.float32).reshape(()),)
        return ops.stack(outputs)

    def update(self, gradients: tuple[Tensor, ...], status: Tensor) -> Tensor:
        """Change the weights, unless gradients overflowed. -> scalar, the norm of the devices' mean gradient"""
        gradients = self.grad_reducer(gradients)
        norm, overflow = self.gradient_norm(gradients), self.get_overflow_status(status, gradients)
        if self.process_loss_scale(overflow):
            return ops.depend(norm, ops.assign_add(self.skipped, Tensor(1, ms.int32)))
        if self.clip_norm is not None:
            gradients = self.hyper_map(
                ops.partial(_scaled, self.clip_norm / ops.clamp(norm, self.clip_norm)), gradients
            )
        norm = ops.depend(norm, self.optimizer(gradients))
        if self.ema:
            norm = ops.depend(norm, self.ema_update())
        return norm

    def accumulate_and_update(self, gradients: tuple[Tensor, ...], status: Tensor) -> Tensor:
        """-> scalar, the norm as `update` gives it, or 0 before the last batch of an update"""
        count = self.batches + 1
        # What is not finite stays so in the sum, and is seen by the update.
        total = self.hyper_map(_add, self.accumulated, gradients)
        if count < self.accumulate:
            norm = ops.zeros((), ms.float32)
            norm = ops.depend(norm, self.hyper_map(_assign, self.accumulated, total))
            return ops.depend(norm, ops.assign(self.batches, count))
        norm = self.update(total, status)
        norm = ops.depend(norm, self.hyper_map(_clear, self.accumulated))
        return ops.depend(norm, ops.assign(self.batches, Tensor(0, ms.int32)))

    def ema_update(self):
        """Move the average of all parameters, statistics of BatchNorm included, towards what they are now. Its decay
        rises with the updates t as (1 + t) / (10 + t), TensorFlow's rule, so that it soon forgets the fresh weights."""
        updates = ops.cast(self.optimizer.global_step, ms.float32).reshape(())
        decay = ops.minimum((1 + updates) / (10 + updates), self.ema_decay)
        return self.hyper_map(ops.partial(_move, 1 - decay), self.ema_weight, self.weights_all)

    def gradient_norm(self, gradients: tuple[Tensor, ...]) -> Tensor:
        """-> scalar float32, the L2 norm of all gradients as one vector"""
        return ops.addn(self.hyper_map(_sum_of_squares, gradients)).sqrt()


class CPUTrainStep(TrainStep):
    """With an overflow check for CPU, which has no kernels for those of MindSpore."""

    def gradient_norm(self, gradients: tuple[Tensor, ...]) -> Tensor:
        """-> scalar float32, the L2 norm of all gradients as one vector"""
        # One sum, because a kernel launch for each of hundreds of gradients costs more than their bytes.
        return ops.concat(self.hyper_map(_flat, gradients)).square().sum().sqrt()

    def get_overflow_status(self, status: Tensor, compute_output: tuple[Tensor, ...]) -> Tensor:
        """compute_output: the gradients, equal on all devices -> scalar bool. A norm is finite only if all of them are.

        From 1.8e19 on, where squares end, it is infinite for finite gradients, too: no weights would outlive that step.
        """
        return ops.logical_not(ops.isfinite(self.gradient_norm(compute_output)))


def create_train_step(cfg, detector: nn.Cell, schedule: np.ndarray) -> TrainStep:
    """The training step of a recipe. cfg: Config; anchors: boxes.anchors object; schedule: rate of every update.

    An update whose gradients overflow is left out, and lowers the loss scale if that is dynamic.
    """
    network = DetectorWithLoss(detector, create_assigner(cfg, detector.anchors), create_loss(cfg, detector.anchors))
    # MindCV's step divides the gradients by the loss scale itself, so the optimiser is told nothing of it.
    optimizer = create_optimizer(cfg, network.trainable_params(), schedule)
    if cfg.loss_scale_type == "dynamic":
        scale = nn.DynamicLossScaleUpdateCell(cfg.loss_scale, scale_factor=2, scale_window=2000)
    else:
        scale = nn.FixedLossScaleUpdateCell(cfg.loss_scale)
    step_class = CPUTrainStep if cfg.device_target == "CPU" else TrainStep
    return step_class(network, optimizer, scale, cfg.ema_decay, cfg.clip_grad_norm, cfg.accumulate_steps)
