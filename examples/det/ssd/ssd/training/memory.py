"""Estimate the memory of a training step, and choose max_gt or refuse the batch size if the device has less memory."""

from __future__ import annotations

import dataclasses
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING

import mindspore as ms
import mindspore.nn as nn
import numpy as np

from ..data.dataset import count_boxes_above, max_boxes_per_image
from ..errors import UserError, count_noun
from ..runtime.collectives import AllGather
from ..runtime.device import Runtime
from ..runtime.host_memory import available_host_memory
from .feature_maps import count_feature_map_values

if TYPE_CHECKING:
    from ..config.schema import Config

log = logging.getLogger(__name__)

GB = 10**9
# A batch is refused if its estimate exceeds the memory by this factor. On CPU, estimates were 0.68 to 1.39 times the
# measured peaks, so a batch whose peak fits has an estimate below 1.4 times the memory.
REFUSAL_FACTOR = 1.4
# The derived max_gt is a multiple of this number, so that it seldom changes with the free memory of a CPU machine. It
# is at least this number, because COCO's evaluation counts 100 detections of an image.
MAX_GT_MULTIPLE = 100


@dataclasses.dataclass(frozen=True)
class LiveTensors:
    """Number of tensors of each kind that exist at the same time, at the peak of a training step.

    convolution: for each convolution, maps of the size of its output
    batch_norm: for each BatchNorm layer, maps of the size of its output, with the following activation or sum
    activation: for each activation whose gradient needs input and output, maps in addition to those of batch_norm
    focal, multibox: float32 tensors (B, A, K) of a loss and its gradient, with the levels; also for task_aligned
    assignment, task_alignment: float32 tensors (B, M, A) of the two target assigners; booleans count as a quarter
    image: float32 tensors (B, H, W, 3) of the image normalization
    gradient: tensors of the size of the trainable parameters: gradients, scaled gradients, momentum
    compilation: bytes of the host's memory that the compiler uses and keeps
    """

    convolution: float
    batch_norm: float
    activation: float
    focal: float
    multibox: float
    assignment: float
    task_alignment: float
    image: float
    gradient: float
    compilation: int


LIVE_TENSORS = {
    # Fitted to the peak resident memory of training steps: five recipes, 1 to 32 images, 13 to 2,000 boxes, and 81 or
    # 801 classes. The factors exceed those of Ascend for two reasons. MindSpore's CPU backend starts operators as soon
    # as their inputs exist, and frees outputs late. It also needs 4 tensors of the input's size for each maximum of the
    # assigner.
    "CPU": LiveTensors(
        convolution=1.25,
        batch_norm=2.5,
        activation=0,
        focal=26,
        multibox=14,
        assignment=30,
        task_alignment=70,
        image=4,
        gradient=5,
        compilation=560 * 2**20,
    ),
    # Not measured on an NPU. The factors are those of the compiled graphs (MindSpore's IR) of four recipes. The
    # operators are assumed to run in the listed order, and each output to be freed after its last use. The peaks of
    # these graphs are 0.89 to 1.09 times the estimates, with 32 images and 20 boxes. The backward pass reads the
    # outputs of convolutions (for BatchNorm), the inputs of the next convolutions, and the inputs of activations such
    # as ReLU6.
    "Ascend": LiveTensors(
        convolution=1,
        batch_norm=1,
        activation=1,
        focal=10.5,
        multibox=4,
        assignment=4,
        task_alignment=8,
        image=2,
        gradient=3,
        compilation=0,
    ),
}


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """Estimated peak memory of a training step in graph mode, in bytes.

    The temporary tensors (B, M, M) of the assigner and the workspaces of operators are not counted.

    weights: parameters, gradients, momentum, EMA weights and accumulated gradients
    compilation: memory of the graph compiler, if it shares the memory of the device
    inputs_per_image: pixels in uint8 and float32
    activations_per_image: feature maps that the backward pass needs
    loss_per_image: tensors (A, K) of the loss
    assignment_per_box: tensors (A,) of the target assigner for one ground-truth box, padding included
    """

    weights: int
    compilation: int
    inputs_per_image: int
    activations_per_image: int
    loss_per_image: int
    assignment_per_box: int

    def parts(self, batch_size: int, max_boxes: int) -> dict[str, int]:
        """Return {part: bytes} for a batch, largest part first. The sum of the parts is the estimated peak.

        batch_size: number of images B
        max_boxes: number M of rows to which the boxes of an image are padded
        """
        parts = {
            "activations": batch_size * self.activations_per_image,
            "loss": batch_size * self.loss_per_image,
            "target assignment": batch_size * max_boxes * self.assignment_per_box,
            "inputs": batch_size * self.inputs_per_image,
            "weights": self.weights,
            "compilation": self.compilation,
        }
        return dict(sorted(parts.items(), key=lambda part: -part[1]))

    def total(self, batch_size: int, max_boxes: int) -> int:
        """Return the estimated peak in bytes. batch_size and max_boxes are those of `parts`."""
        return sum(self.parts(batch_size, max_boxes).values())

    def largest_batch(self, memory: int, max_boxes: int) -> int:
        """Return the largest number of images whose estimate is at most `memory` bytes, possibly 0."""
        return max(0, (memory - self.total(0, 0)) // (self.total(1, max_boxes) - self.total(0, 0)))

    def most_boxes(self, memory: int, batch_size: int) -> int:
        """Return the largest number of boxes per image whose estimate is at most `memory` bytes, possibly 0."""
        return max(0, (memory - self.total(batch_size, 0)) // (batch_size * self.assignment_per_box))


def estimate_step_memory(cfg: Config, detector: nn.Cell) -> StepMemory:
    """Estimate the memory of a training step of a recipe from the layers of its detector.

    detector: detector of the recipe, with frozen layers, and in mixed precision if the recipe says so
    """
    live = LIVE_TENSORS[cfg.device_target]
    is_cpu = cfg.device_target == "CPU"
    maps = count_feature_map_values(detector, cfg.image_size)
    # Bytes of a value. Under O2, BatchNorm reads a float32 copy of the float16 output of the convolution. On CPU,
    # float16 does not lower the measured peak.
    half = 4 if is_cpu or cfg.amp_level not in ("O2", "O3") else 2
    convolution = 2 if half == 2 and cfg.amp_level == "O3" else 4
    num_anchors, pixels = len(detector.anchors), math.prod(cfg.image_size)
    parameters = sum(math.prod(parameter.shape) for parameter in detector.get_parameters())
    trainable = sum(math.prod(parameter.shape) for parameter in detector.trainable_params())
    loss = live.multibox if cfg.loss == "multibox" else live.focal
    assignment = live.task_alignment if cfg.loss == "task_aligned" else live.assignment
    # Accumulation adds the stored sum, and the sum with the gradients of this batch. AdamW has a second moment.
    gradients = (live.gradient + 2 * (cfg.accumulate_steps > 1) + (cfg.optimizer == "adamw")) * trainable
    return StepMemory(
        weights=int(4 * (parameters * (2 if cfg.ema_decay else 1) + gradients)),
        compilation=live.compilation,
        inputs_per_image=int(pixels * 3 * (1 + 4 * live.image)),
        activations_per_image=int(
            convolution * live.convolution * maps.convolution
            + half * (live.batch_norm * maps.batch_norm + live.activation * maps.activation)
        ),
        loss_per_image=int(4 * num_anchors * cfg.num_classes * loss),
        assignment_per_box=int(4 * num_anchors * assignment),
    )


def available_memory(device_target: str, ranks_on_host: int) -> int | None:
    """Return the memory in bytes that a training on this device can use, or None if it is unknown.

    device_target: "CPU" or "Ascend"
    ranks_on_host: number of ranks that share the memory of this host on CPU
    """
    if device_target == "CPU":
        memory = available_host_memory()
        return None if memory is None else memory // ranks_on_host
    try:
        (ms.Tensor(1.0) + 1).asnumpy()  # MindSpore reports 0 until the device has computed something
        # The number of the device is ignored on Ascend: the properties are those of the current device.
        return ms.hal.get_device_properties(0, device_target).total_memory or None
    except (AttributeError, RuntimeError, TypeError, ValueError):  # deprecated in MindSpore 2.10
        return None


def minimum_of_ranks(memory: int | None, world_size: int) -> int | None:
    """Return the minimum memory of all ranks, so that all ranks choose the same max_gt and refuse the same batches.

    memory: memory of this rank in bytes, or None if it is unknown
    world_size: number of ranks, which must all call this function at the same time
    Returns bytes, rounded down to MiB if there are several ranks; None if no rank knows its memory.
    """
    if world_size == 1:
        return memory
    mib = np.array([-1 if memory is None else memory // 2**20], np.int32)
    known = [value for value in AllGather()(ms.Tensor(mib)).asnumpy().tolist() if value >= 0]
    return min(known) * 2**20 if known else None


def fit_to_memory(cfg: Config, detector: nn.Cell, runtime: Runtime) -> Config:
    """Compare the estimated memory of a training step with the memory of the device, and log both.

    All ranks must call the function at the same time, and get the same result.

    If `max_gt` is not set, and the data's maximum number of boxes in an image needs too much memory, max_gt becomes the
    number that fits. If boxes are left out, a warning states how many.

    detector: detector of the recipe, with frozen layers, and in mixed precision if the recipe says so
    Returns the recipe, with max_gt set if images have more boxes.
    Raises UserError if the batch clearly does not fit, or if the shards are missing or damaged.
    """
    folder, step = Path(cfg.data_dir), estimate_step_memory(cfg, detector)
    memory = minimum_of_ranks(available_memory(cfg.device_target, runtime.ranks_on_host), runtime.world_size)
    largest = max_boxes_per_image(folder)
    max_boxes = choose_max_boxes(cfg, step, memory=memory, largest=largest)
    if memory is not None:
        check_batch_size(cfg, step, memory=memory, max_boxes=max_boxes)
    parts = step.parts(cfg.batch_size, max_boxes)
    listed = ", ".join(f"{name} {size / GB:.1f} GB" for name, size in parts.items() if size >= 0.05 * GB)
    of_memory = "" if memory is None else f" of {memory / GB:.1f} GB"
    total = sum(parts.values()) / GB
    log.info(f"memory: about {total:.1f} GB{of_memory} for a batch of {cfg.batch_size} ({listed})")
    if max_boxes == largest:
        return cfg
    if runtime.is_main:
        images, left_out = count_boxes_above(folder, max_boxes)
        reason = (
            "" if cfg.max_gt else f" The memory allows {max_boxes} boxes per image; set max_gt to choose the number."
        )
        log.warning(
            f"max_gt: found {count_noun(images, 'training image')} with more than "
            f"{count_noun(max_boxes, 'box', 'boxes')}. The maximum is {largest:,}. Training keeps the {max_boxes:,} "
            f"largest boxes of each image, and leaves out up to {count_noun(left_out, 'box', 'boxes')} in an "
            f"epoch.{reason}"
        )
    return cfg.model_copy(update={"max_gt": max_boxes})


def choose_max_boxes(cfg: Config, step: StepMemory, *, memory: int | None, largest: int) -> int:
    """Choose the number of rows to which the boxes of an image are padded, by max_gt or else by the memory.

    step: estimate of the recipe
    memory: memory of the device in bytes, or None if it is unknown
    largest: largest number of boxes in a training image
    """
    if cfg.max_gt is not None:
        return min(largest, cfg.max_gt)
    if memory is None:
        return largest
    fitting = step.most_boxes(memory, cfg.batch_size) // MAX_GT_MULTIPLE * MAX_GT_MULTIPLE
    return min(largest, max(fitting, MAX_GT_MULTIPLE))


def check_batch_size(cfg: Config, step: StepMemory, *, memory: int, max_boxes: int) -> None:
    """Refuse a batch size whose estimated memory clearly exceeds the memory of the device.

    step: estimate of the recipe
    memory: memory of the device in bytes
    max_boxes: number of rows to which the boxes of an image are padded
    Raises UserError with the largest batch size that fits. If not even one image fits, the error is about image_size.
    """
    total = step.total(cfg.batch_size, max_boxes)
    if total <= REFUSAL_FACTOR * memory:
        return
    sizes = f"needs about {total / GB:.1f} GB, but {memory / GB:.1f} GB of memory are available"
    boxes = step.most_boxes(memory, cfg.batch_size)
    fewer_boxes = f" Or lower max_gt to at most {boxes}." if 0 < boxes < max_boxes else ""
    largest = step.largest_batch(memory, max_boxes)
    if memory <= step.total(0, 0):
        raise UserError(
            f"memory: training {sizes}, and {step.total(0, 0) / GB:.1f} GB are needed even without images. Free "
            "memory, raise the memory limit of the container, or choose a smaller backbone."
        )
    if not largest:
        height, width = cfg.image_size
        raise UserError(
            f"image_size: training on {width}x{height} images {sizes}, and not even a batch of 1 fits. Lower "
            f"image_size, or choose a smaller backbone.{fewer_boxes}"
        )
    # The smallest number of equal parts of the batch that are small enough
    divisor = next(
        n for n in range(2, cfg.batch_size + 1) if cfg.batch_size % n == 0 and cfg.batch_size // n <= largest
    )
    raise UserError(
        f"batch_size: a batch of {cfg.batch_size} {sizes}. Lower batch_size to at most {largest}. An update still uses "
        f"{count_noun(cfg.batch_size * cfg.accumulate_steps, 'image')} per device with batch_size "
        f"{cfg.batch_size // divisor} and accumulate_steps {divisor * cfg.accumulate_steps}.{fewer_boxes}"
    )
