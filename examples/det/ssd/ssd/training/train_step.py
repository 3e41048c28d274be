"""The training step, which turns a batch of images and ground-truth boxes into updated weights in a single graph."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import mindspore as ms
import mindspore.nn as nn
import numpy as np
from mindcv.utils.train_step import TrainStep as MindCVTrainStep
from mindspore import Parameter, ParameterTuple, Tensor, ops
from mindspore._c_expression import MSContext

from ..models.losses import create_loss
from ..models.target_assigner import create_assigner
from .detector_with_loss import DetectorWithLoss
from .optimizer import create_optimizer, split_by_decay
from .tensor_packer import TensorPacker, global_norm, multiply

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

_add_to = ops.MultitypeFuncGraph("add_to")
assign = ops.MultitypeFuncGraph("assign")
_clear = ops.MultitypeFuncGraph("clear")


@_add_to.register("Tensor", "Tensor")
def _add_to_parameter(parameter, value):
    return ops.assign_add(parameter, value)


@assign.register("Tensor", "Tensor")
def _assign_tensor(parameter, value):
    return ops.assign(parameter, value)


@_clear.register("Tensor")
def _clear_tensor(parameter):
    return ops.assign(parameter, ops.zeros_like(parameter))


class TrainStep(MindCVTrainStep):
    """MindCV's training step with gradient clipping, gradient accumulation, and additional outputs for logging.

    Devices exchange gradients once per update. If gradients overflow in any batch of an update on any device, all
    devices skip the update. An overflow is a global L2 norm of the gradients that is infinite or NaN. Squares of values
    above 1.8e19 overflow, so the norm of larger finite gradients is infinite too. An update of that size would destroy
    the weights in any case.

    network: cell that returns three scalars, of which the first is the loss
    optimizer: optimizer of the trainable parameters, without weight decay
    scale_sense: cell that holds and updates the loss scale
    weight_decay: weight decay of the parameters with weight decay
    decouples_decay: True to subtract learning rate * weight_decay * weight from the weights, as in AdamW
        (arXiv:1711.05101); False to add weight_decay * weight to the gradients, as in SGD
    num_decayed: number of parameters with weight decay, which are the first parameters of the optimizer
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
        weight_decay: float = 0.0,
        decouples_decay: bool = False,
        num_decayed: int = 0,
        ema_decay: float | None = None,
        clip_norm: float | None = None,
        accumulate: int = 1,
    ):
        super().__init__(network, optimizer, scale_sense, ema=ema_decay is not None, ema_decay=ema_decay)
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.accumulate = accumulate
        self.pack = TensorPacker(self.weights, first_group=num_decayed)
        self.adds_decay = not decouples_decay and weight_decay > 0
        self.decouples_decay = decouples_decay and weight_decay > 0 and num_decayed > 0
        if self.decouples_decay:
            self.decayed_weights = ParameterTuple(self.weights[:num_decayed])
            self.pack_decayed = TensorPacker(self.decayed_weights)
        if self.ema:
            self.pack_all = TensorPacker(self.weights_all)
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
        overflow = self.batch_overflow(status, gradients)
        is_non_finite = ops.logical_or(self.steps_since_non_finite > 0, ops.logical_not(ops.isfinite(loss)))
        steps_since_non_finite = ops.assign_add(self.steps_since_non_finite, ops.cast(is_non_finite, ms.int32))
        # Copy both values before the update, because the graph may execute the update before the outputs are read
        updates_before = self.optimizer.global_step + 0
        scale_before = scale + 0
        # Update
        factor = ops.reciprocal(scale * self.accumulate)
        if self.accumulate > 1:
            norm = self.accumulate_and_update(gradients, factor=factor, overflow=overflow)
        else:
            norm = self.update(multiply(self.pack(self.grad_reducer(gradients)), factor), overflow)
        skipped = ops.depend(self.skipped, norm)
        values = (loss, box_loss, cls_loss, norm, scale_before, skipped, updates_before, steps_since_non_finite)
        outputs: tuple[Tensor, ...] = ()
        for value in values:
            outputs += (ops.cast(value, ms.float32).reshape(()),)
        return ops.stack(outputs)

    def batch_overflow(self, status: Tensor, gradients: tuple[Tensor, ...]) -> Tensor:
        """Return a scalar bool, True if a status register reports an overflow. This class reads no register.

        status: state of MindSpore's overflow check
        gradients: scaled gradients of this device
        """
        return Tensor(False)

    def update(self, vectors: tuple[Tensor, ...], overflow: Tensor) -> Tensor:
        """Update the weights unless the gradients overflowed.

        vectors: packed gradients, unscaled and averaged over devices
        overflow: scalar bool, True if the device has reported an overflow
        Returns a scalar: the global L2 norm of the gradients before clipping.
        """
        norm = global_norm(vectors)
        overflow = ops.logical_or(overflow, ops.logical_not(ops.isfinite(norm)))
        if self.process_loss_scale(overflow):
            return ops.depend(norm, ops.assign_add(self.skipped, Tensor(1, ms.int32)))
        if self.clip_norm is not None:
            vectors = multiply(vectors, self.clip_norm / ops.clamp(norm, self.clip_norm))
        if self.decouples_decay:
            norm = ops.depend(norm, self.shrink_weights())
        elif self.adds_decay:
            vectors = self.add_weight_decay(vectors)
        gradients = self.pack.unpack(vectors, self.weights)
        norm = ops.depend(norm, self.optimizer(gradients))
        if self.ema:
            norm = ops.depend(norm, self.ema_update())
        return norm

    def add_weight_decay(self, vectors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Add the gradient of the weight decay: weight_decay * weight."""
        decayed: tuple[Tensor, ...] = ()
        weights = self.pack(self.weights)
        for index in range(self.pack.num_first_vectors):
            decayed += (weights[index] * self.weight_decay + vectors[index],)
        return decayed + vectors[self.pack.num_first_vectors :]

    def shrink_weights(self) -> Tensor:
        """Subtract learning rate * weight_decay * weight from the weights with weight decay, and return a tensor."""
        factor = -self.optimizer.get_lr() * self.weight_decay
        changes = multiply(self.pack_decayed(self.decayed_weights), factor)
        return self.hyper_map(_add_to, self.decayed_weights, self.pack_decayed.unpack(changes, self.decayed_weights))

    def accumulate_and_update(self, gradients: tuple[Tensor, ...], factor: Tensor, overflow: Tensor) -> Tensor:
        """Add the gradients of a batch to the accumulated gradients, and update the weights after the last batch.

        gradients: scaled gradients of this device
        factor: scalar by which gradients are multiplied before they are added
        overflow: scalar bool, True if the device has reported an overflow in any batch since the last update
        Returns a scalar: the global L2 norm of the accumulated gradients before clipping, or 0 before the last batch.
        """
        count = self.batches + 1
        gradients = self.pack.unpack(multiply(self.pack(gradients), factor), self.weights)
        # A non-finite value keeps the sum non-finite, so `update` detects an overflow of any batch.
        total = self.hyper_map(_add_to, self.accumulated, gradients)
        # `count < self.accumulate` would become the primitive LessScalar, which the GE backend cannot compile.
        if self.accumulate > count:
            return ops.depend(ops.zeros((), ms.float32), (total, ops.assign(self.batches, count)))
        norm = self.update(self.pack(self.grad_reducer(total)), overflow)
        norm = ops.depend(norm, self.hyper_map(_clear, self.accumulated))
        return ops.depend(norm, ops.assign(self.batches, Tensor(0, ms.int32)))

    def ema_update(self):
        """Move the averages of all parameters, BatchNorm statistics included, toward the current values.

        The decay after t updates is at most (1 + t) / (10 + t), as in TensorFlow, to forget early weights faster.
        """
        updates = ops.cast(self.optimizer.global_step, ms.float32).reshape(())
        decay = ops.minimum((1 + updates) / (10 + updates), self.ema_decay)
        values, averages = self.pack_all(self.weights_all), self.pack_all(self.ema_weight)
        changes: tuple[Tensor, ...] = ()
        for index in range(len(values)):
            changes += ((values[index] - averages[index]) * (1 - decay),)
        return self.hyper_map(_add_to, self.ema_weight, self.pack_all.unpack(changes, self.weights_all))


class SaturatingTrainStep(TrainStep):
    """Training step for NPUs whose float16 arithmetic saturates instead of overflowing, such as the Ascend 910.

    Saturated gradients are finite, so the class reads the status register of the device, which reports overflows.
    """

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        if self.accumulate > 1:
            self.overflowed = Parameter(Tensor(0, ms.float32), "accumulated_overflow", requires_grad=False)

    def batch_overflow(self, status: Tensor, gradients: tuple[Tensor, ...]) -> Tensor:
        """Return a scalar bool, True if the gradients of any batch since the last update overflowed on any device.

        status: state of MindSpore's overflow check
        gradients: scaled gradients of this device
        """
        overflow = self.get_overflow_status(status, gradients)
        if self.accumulate > 1:
            # Each step clears the register, so keep the result until the update.
            earlier = self.overflowed * ops.cast(self.batches > 0, ms.float32)
            overflow = ops.assign(self.overflowed, ops.maximum(earlier, ops.cast(overflow, ms.float32))) > 0
        return overflow


def step_class_of_device(device_target: str) -> type[TrainStep]:
    """Return the training step class of the current device.

    device_target: "CPU" or "Ascend"
    """
    if device_target == "CPU":
        return TrainStep
    # The conditions are those of MindSpore's TrainOneStepWithLossScaleCell.
    is_910a = MSContext.get_instance().ascend_soc_supports_feature("amp_loss_scale_train_classic_target")
    saturates = is_910a or os.environ.get("MS_ASCEND_CHECK_OVERFLOW_MODE") == "SATURATION_MODE"
    return SaturatingTrainStep if saturates else TrainStep


def create_train_step(
    cfg: Config,
    detector: nn.Cell,
    schedule: np.ndarray,
    *,
    world_size: int = 1,
    step_class: type[TrainStep] | None = None,
) -> TrainStep:
    """Create the training step of a recipe.

    If gradients overflow, the update is skipped, and a dynamic loss scale is lowered.

    detector: detector with the attribute `anchors`
    schedule: (U,) float32, learning rate of each update
    world_size: number of devices that train together
    step_class: class of the training step; None selects the class of the current device
    """
    assigner, loss = create_assigner(cfg, detector.anchors), create_loss(cfg, detector.anchors, world_size)
    network = DetectorWithLoss(detector, assigner, loss)
    decayed, others = split_by_decay(network.trainable_params(), decay_bias=cfg.decay_bias)
    optimizer = create_optimizer(cfg, [*decayed, *others], schedule)
    if cfg.loss_scale_type == "dynamic":
        scale = nn.DynamicLossScaleUpdateCell(cfg.loss_scale, scale_factor=2, scale_window=2000)
    else:
        scale = nn.FixedLossScaleUpdateCell(cfg.loss_scale)
    step_class = step_class or step_class_of_device(cfg.device_target)
    return step_class(
        network,
        optimizer,
        scale,
        weight_decay=cfg.weight_decay,
        decouples_decay=cfg.optimizer == "adamw",
        num_decayed=len(decayed),
        ema_decay=cfg.ema_decay,
        clip_norm=cfg.clip_grad_norm,
        accumulate=cfg.accumulate_steps,
    )
