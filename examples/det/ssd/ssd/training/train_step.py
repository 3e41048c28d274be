"""The training step, which turns a batch of images and ground-truth boxes into updated weights in a single graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mindspore as ms
import mindspore.nn as nn
import numpy as np
from mindcv.utils.train_step import TrainStep as MindCVTrainStep
from mindspore import Parameter, Tensor, ops

from ..models.layers import NormalizeImage
from ..models.losses import create_loss
from ..models.target_assigner import create_assigner
from .optimizer import create_optimizer

if TYPE_CHECKING:
    from ..config.schema import Config

# Values that a training step returns, in this order:
#   loss                        loss of this device's batch
#   box_loss, cls_loss          box part and class part of the loss
#   grad_norm                   global L2 norm of the unscaled gradients before clipping, averaged over devices and
#                               accumulated batches; 0 in a step that only accumulates gradients
#   loss_scale                  loss scale of this step
#   skipped                     number of updates skipped so far because gradients overflowed
#   updates                     number of updates of the weights before this step
#   steps_since_non_finite      number of steps from the first non-finite loss to this step, both included; 0 without a
#                               non-finite loss
OUTPUTS = ("loss", "box_loss", "cls_loss", "grad_norm", "loss_scale", "skipped", "updates", "steps_since_non_finite")

_scale = ops.MultitypeFuncGraph("scale")
_sum_of_squares = ops.MultitypeFuncGraph("sum_of_squares")
_flatten = ops.MultitypeFuncGraph("flatten")
_add = ops.MultitypeFuncGraph("add")
assign = ops.MultitypeFuncGraph("assign")
_clear = ops.MultitypeFuncGraph("clear")
_move_average = ops.MultitypeFuncGraph("move_average")


@_scale.register("Tensor", "Tensor")
def _scale_tensor(factor, gradient):
    return gradient * ops.cast(factor, gradient.dtype)


@_sum_of_squares.register("Tensor")
def _sum_of_squares_of_tensor(gradient):
    return ops.cast(gradient, ms.float32).square().sum()


@_flatten.register("Tensor")
def _flatten_tensor(gradient):
    return gradient.reshape(-1)


@_add.register("Tensor", "Tensor")
def _add_tensor(total, gradient):
    return total + ops.cast(gradient, total.dtype)


@assign.register("Tensor", "Tensor")
def _assign_tensor(parameter, value):
    return ops.assign(parameter, value)


@_clear.register("Tensor")
def _clear_tensor(parameter):
    return ops.assign(parameter, ops.zeros_like(parameter))


@_move_average.register("Tensor", "Tensor", "Tensor")
def _move_average_of_tensor(rate, average, value):
    return ops.assign_add(average, (value - average) * rate)


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
        target_offsets, target_labels = self.assigner(gt_boxes_yxyx, gt_labels)
        return self.loss(box_offsets, cls_logits, target_offsets=target_offsets, target_labels=target_labels)


class TrainStep(MindCVTrainStep):
    """MindCV's training step with gradient clipping, gradient accumulation, and additional outputs for logging.

    Devices exchange gradients once per update. If gradients overflow in any batch of an update on any device, all
    devices skip the update.

    network: cell that returns three scalars, of which the first is the loss
    optimizer: optimizer of the trainable parameters
    scale_sense: cell that holds and updates the loss scale
    ema_decay: decay of the moving average of all parameters of the network; None disables averaging
    clip_norm: maximum global L2 norm of the gradients; None disables clipping
    accumulate: number of batches whose mean gradient is used for one update
    """

    def __init__(
        self,
        network: nn.Cell,
        optimizer: nn.Optimizer,
        scale_sense: nn.Cell,
        *,
        ema_decay: float | None = None,
        clip_norm: float | None = None,
        accumulate: int = 1,
    ):
        super().__init__(network, optimizer, scale_sense, ema=ema_decay is not None, ema_decay=ema_decay)
        self.clip_norm = clip_norm
        self.accumulate = accumulate
        self.skipped = Parameter(Tensor(0, ms.int32), "skipped_updates", requires_grad=False)
        self.steps_since_non_finite = Parameter(Tensor(0, ms.int32), "steps_since_non_finite_loss", requires_grad=False)
        if accumulate > 1:
            self.accumulated = self.weights.clone("accumulated", init="zeros")
            self.batches = Parameter(Tensor(0, ms.int32), "accumulated_batches", requires_grad=False)

    def construct(self, *inputs: Tensor) -> Tensor:
        """Train on a batch.

        inputs: inputs of the network
        Returns (8,) float32, the values in OUTPUTS.
        """
        # Forward pass and loss
        loss, box_loss, cls_loss = self.network(*inputs)
        # Backward pass from the scaled loss; the two parts of the loss get no gradient
        status, scale = self.start_overflow_check(loss, self.scale_sense)
        scaled = ops.ones_like(loss) * ops.cast(scale, loss.dtype)
        sens = scaled, ops.zeros_like(box_loss), ops.zeros_like(cls_loss)
        gradients = self.grad(self.network, self.weights)(*inputs, sens)
        gradients = self.hyper_map(ops.partial(_scale, ops.reciprocal(scale * self.accumulate)), gradients)
        is_non_finite = ops.logical_or(self.steps_since_non_finite > 0, ops.logical_not(ops.isfinite(loss)))
        steps_since_non_finite = ops.assign_add(self.steps_since_non_finite, ops.cast(is_non_finite, ms.int32))
        # Copy both values before the update, because the graph may execute the update before the outputs are read
        updates_before = self.optimizer.global_step + 0
        scale_before = scale + 0
        # Update
        if self.accumulate > 1:
            norm = self.accumulate_and_update(gradients, status)
        else:
            norm = self.update(gradients, status)
        skipped = ops.depend(self.skipped, norm)
        values = (loss, box_loss, cls_loss, norm, scale_before, skipped, updates_before, steps_since_non_finite)
        outputs: tuple[Tensor, ...] = ()
        for value in values:
            outputs += (ops.cast(value, ms.float32).reshape(()),)
        return ops.stack(outputs)

    def update(self, gradients: tuple[Tensor, ...], status: Tensor) -> Tensor:
        """Update the weights unless the gradients overflowed.

        gradients: unscaled gradients of this device
        status: state of MindSpore's overflow check
        Returns a scalar: the global L2 norm, before clipping, of the gradients averaged over devices.
        """
        gradients = self.grad_reducer(gradients)
        norm, overflow = self.gradient_norm(gradients), self.get_overflow_status(status, gradients)
        if self.process_loss_scale(overflow):
            return ops.depend(norm, ops.assign_add(self.skipped, Tensor(1, ms.int32)))
        if self.clip_norm is not None:
            gradients = self.hyper_map(ops.partial(_scale, self.clip_norm / ops.clamp(norm, self.clip_norm)), gradients)
        norm = ops.depend(norm, self.optimizer(gradients))
        if self.ema:
            norm = ops.depend(norm, self.ema_update())
        return norm

    def accumulate_and_update(self, gradients: tuple[Tensor, ...], status: Tensor) -> Tensor:
        """Add the gradients of a batch to the accumulated gradients, and update the weights after the last batch.

        gradients: unscaled gradients of this device
        status: state of MindSpore's overflow check
        Returns a scalar: the global L2 norm of the accumulated gradients before clipping, or 0 before the last batch.
        """
        count = self.batches + 1
        # A non-finite value keeps the sum non-finite, so `update` detects an overflow of any batch.
        total = self.hyper_map(_add, self.accumulated, gradients)
        if count < self.accumulate:
            norm = ops.zeros((), ms.float32)
            norm = ops.depend(norm, self.hyper_map(assign, self.accumulated, total))
            return ops.depend(norm, ops.assign(self.batches, count))
        norm = self.update(total, status)
        norm = ops.depend(norm, self.hyper_map(_clear, self.accumulated))
        return ops.depend(norm, ops.assign(self.batches, Tensor(0, ms.int32)))

    def ema_update(self):
        """Move the averages of all parameters, BatchNorm statistics included, toward the current values.

        The decay after t updates is at most (1 + t) / (10 + t), as in TensorFlow, to forget early weights faster.
        """
        updates = ops.cast(self.optimizer.global_step, ms.float32).reshape(())
        decay = ops.minimum((1 + updates) / (10 + updates), self.ema_decay)
        return self.hyper_map(ops.partial(_move_average, 1 - decay), self.ema_weight, self.weights_all)

    def gradient_norm(self, gradients: tuple[Tensor, ...]) -> Tensor:
        """Compute the global L2 norm of the gradients.

        Returns a scalar float32.
        """
        return ops.addn(self.hyper_map(_sum_of_squares, gradients)).sqrt()


class CPUTrainStep(TrainStep):
    """Training step with an overflow check for CPU, because MindSpore's own check has no CPU kernels."""

    def gradient_norm(self, gradients: tuple[Tensor, ...]) -> Tensor:
        """Compute the global L2 norm of the gradients.

        Returns a scalar float32.
        """
        # Compute a single sum, because hundreds of kernel launches cost more time than the concatenation.
        return ops.concat(self.hyper_map(_flatten, gradients)).square().sum().sqrt()

    def get_overflow_status(self, status: Tensor, compute_output: tuple[Tensor, ...]) -> Tensor:
        """Return True if the global L2 norm of the gradients is infinite or NaN.

        Squares of values above 1.8e19 overflow, so the norm of larger finite gradients is infinite too. An update of
        that size would destroy the weights in any case.

        status: state of MindSpore's overflow check, which CPU does not use
        compute_output: gradients, which are equal on all devices
        Returns a scalar bool, True for an overflow.
        """
        return ops.logical_not(ops.isfinite(self.gradient_norm(compute_output)))


def create_train_step(cfg: Config, detector: nn.Cell, schedule: np.ndarray, world_size: int = 1) -> TrainStep:
    """Create the training step of a recipe.

    If gradients overflow, the update is skipped, and a dynamic loss scale is lowered.

    detector: detector with the attribute `anchors`
    schedule: (U,) float32, learning rate of each update
    world_size: number of devices that train together
    """
    assigner, loss = create_assigner(cfg, detector.anchors), create_loss(cfg, detector.anchors, world_size)
    network = DetectorWithLoss(detector, assigner, loss)
    # The training step divides the gradients by the loss scale, so the optimizer gets no loss scale.
    optimizer = create_optimizer(cfg, network.trainable_params(), schedule)
    if cfg.loss_scale_type == "dynamic":
        scale = nn.DynamicLossScaleUpdateCell(cfg.loss_scale, scale_factor=2, scale_window=2000)
    else:
        scale = nn.FixedLossScaleUpdateCell(cfg.loss_scale)
    step_class = CPUTrainStep if cfg.device_target == "CPU" else TrainStep
    return step_class(
        network,
        optimizer,
        scale,
        ema_decay=cfg.ema_decay,
        clip_norm=cfg.clip_grad_norm,
        accumulate=cfg.accumulate_steps,
    )
