"""Detection heads, which predict box offsets and class logits for every anchor from feature levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops

from ..errors import UserError
from .layers import ConvBNReLU6, batch_norm, initialize_normal, initialize_xavier

if TYPE_CHECKING:
    from ..config.schema import Config


def _concat_levels(maps: tuple[Tensor, ...], values: int) -> Tensor:
    """Concatenate the predictions of all levels in the order of the anchors.

    maps: predictions of each level, (B, anchors per location * values, Hi, Wi)
    values: number of values for each anchor: 4 offsets, or K class logits
    Returns (B, A, values).
    """
    levels: tuple[Tensor, ...] = ()
    for level in maps:
        # (B, Hi * Wi * anchors per location, values)
        levels += (ops.transpose(level, (0, 2, 3, 1)).reshape(level.shape[0], -1, values),)
    return ops.concat(levels, axis=1)


def _conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, pad_mode="same", has_bias=True)


class SSDHead(nn.Cell):
    """Head of the SSD paper: each level has one 3x3 convolution for boxes and one for classes."""

    def __init__(self, in_channels: Sequence[int], num_anchors: Sequence[int], num_classes: int):
        """Build the prediction layers of all levels.

        in_channels: number of channels of each level
        num_anchors: number of anchors per location of each level
        num_classes: number K of classes, background included
        """
        super().__init__()
        self.num_classes = num_classes
        self.box = nn.CellList([self._predictor(width, 4 * count) for width, count in zip(in_channels, num_anchors)])
        self.cls = nn.CellList(
            [self._predictor(width, num_classes * count) for width, count in zip(in_channels, num_anchors)]
        )
        self._initialize()

    def _initialize(self) -> None:
        initialize_xavier(self)

    def _predictor(self, in_channels: int, out_channels: int) -> nn.Cell:
        return _conv3x3(in_channels, out_channels)

    def construct(self, levels: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Predict box offsets and class logits for every anchor.

        levels: feature levels, (B, in_channels[i], Hi, Wi) each
        Returns box_offsets (B, A, 4) and cls_logits (B, A, K). The offsets are scaled: center y, center x, log of the
        height ratio, log of the width ratio. Class 0 is background.
        """
        boxes: tuple[Tensor, ...] = ()
        classes: tuple[Tensor, ...] = ()
        for index, level in enumerate(levels):
            boxes += (self.box[index](level),)
            classes += (self.cls[index](level),)
        return _concat_levels(boxes, 4), _concat_levels(classes, self.num_classes)


class SSDLiteHead(SSDHead):
    """Head of SSDLite (arXiv:1801.04381, section 6.2): SSD's head with depthwise separable convolutions."""

    def _initialize(self) -> None:
        initialize_normal(self)

    def _predictor(self, in_channels: int, out_channels: int) -> nn.Cell:
        return nn.SequentialCell(
            [
                nn.Conv2d(in_channels, in_channels, kernel_size=3, pad_mode="same", group=in_channels),
                batch_norm(in_channels),
                nn.ReLU6(),
                nn.Conv2d(in_channels, out_channels, kernel_size=1, has_bias=True),
            ]
        )


class BiasedSSDLiteHead(SSDHead):
    """Head of uvipen's SSDLite: depthwise separable convolutions with biases, BatchNorm with PyTorch's settings.

    The weights are initialized like those of SSD's head.
    """

    def _predictor(self, in_channels: int, out_channels: int) -> nn.Cell:
        return nn.SequentialCell(
            [
                nn.Conv2d(in_channels, in_channels, kernel_size=3, pad_mode="same", group=in_channels, has_bias=True),
                nn.BatchNorm2d(in_channels),
                nn.ReLU6(),
                nn.Conv2d(in_channels, out_channels, kernel_size=1, has_bias=True),
            ]
        )


class RetinaNetHead(nn.Cell):
    """Head of RetinaNet (arXiv:1708.02002, section 4).

    All levels share the convolutions of the towers and the prediction layers. Each level has its own BatchNorm layers.
    """

    def __init__(self, in_channels: int, num_anchors: int, num_classes: int, num_levels: int, num_convs: int):
        """Build the towers and prediction layers.

        in_channels: number of channels of every level
        num_anchors: number of anchors per location
        num_classes: number K of classes, background included
        num_levels: number of levels
        num_convs: number of convolutions in a tower, before the prediction layer
        """
        super().__init__()
        self.num_classes = num_classes
        self.box_tower = self._tower(in_channels, num_levels, num_convs)
        self.cls_tower = self._tower(in_channels, num_levels, num_convs)
        self.box = _conv3x3(in_channels, 4 * num_anchors)
        self.cls = _conv3x3(in_channels, num_classes * num_anchors)
        initialize_normal(self)

    @staticmethod
    def _tower(channels: int, num_levels: int, num_convs: int) -> nn.CellList:
        shared = [_conv3x3(channels, channels) for _ in range(num_convs)]
        return nn.CellList(
            [
                nn.SequentialCell([ConvBNReLU6(channels, channels, shared_conv=convolution) for convolution in shared])
                for _ in range(num_levels)
            ]
        )

    def construct(self, levels: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Predict box offsets and class logits for every anchor.

        levels: feature levels, (B, in_channels, Hi, Wi) each
        Returns box_offsets (B, A, 4) and cls_logits (B, A, K). The offsets are scaled: center y, center x, log of the
        height ratio, log of the width ratio. Class 0 is background.
        """
        boxes: tuple[Tensor, ...] = ()
        classes: tuple[Tensor, ...] = ()
        for index, level in enumerate(levels):
            boxes += (self.box(self.box_tower[index](level)),)
            classes += (self.cls(self.cls_tower[index](level)),)
        return _concat_levels(boxes, 4), _concat_levels(classes, self.num_classes)


def initialize_class_bias(head: nn.Cell, num_classes: int, prior: float) -> None:
    """Set the biases of the class prediction layers so that every object class has the initial probability `prior`.

    RetinaNet introduced this initialization (arXiv:1708.02002, section 4.1). The initial probability of background is
    1 - prior, because most anchors are background. The focal loss of this project trains background like any other
    class.

    head: head of this module
    num_classes: number K of classes, background included
    prior: initial probability of every object class, between 0 and 1
    """
    logits = np.full(num_classes, np.log(prior / (1 - prior)), np.float32)
    logits[0] *= -1
    for convolution in _predictors(head.cls):
        convolution.bias.set_data(Tensor(np.tile(logits, convolution.out_channels // num_classes)))


def predictor_parameter_names(head: nn.Cell) -> tuple[list[str], list[str]]:
    """Return the parameter names of the box prediction layers and of the class prediction layers.

    The names start with "head." if the head is part of a detector.

    head: head of this module
    """
    return _parameter_names(_predictors(head.box)), _parameter_names(_predictors(head.cls))


def _parameter_names(convolutions: list[nn.Conv2d]) -> list[str]:
    return [parameter.name for cell in convolutions for parameter in (cell.weight, cell.bias)]


def _predictors(branch: nn.Cell) -> list[nn.Conv2d]:
    """Return the prediction layer of each level, which is the last convolution of the branch.

    branch: cell `box` or `cls` of a head; a CellList with one cell for each level, or one cell for all levels
    """
    levels = branch if isinstance(branch, nn.CellList) else [branch]
    return [[cell for _, cell in level.cells_and_names() if isinstance(cell, nn.Conv2d)][-1] for level in levels]


# Heads with their own layers for each level. The head "shared" has other arguments.
LEVEL_HEADS = {"separate": SSDLiteHead, "separate_bias": BiasedSSDLiteHead, "plain": SSDHead}


def create_head(cfg: Config, in_channels: Sequence[int], num_anchors: Sequence[int]) -> nn.Cell:
    """Create the head of a recipe.

    in_channels: number of channels of each level
    num_anchors: number of anchors per location of each level
    Raises UserError if a shared head does not fit all levels.
    """
    if cfg.head == "shared":
        for name, numbers in (("channels", in_channels), ("anchors per location", num_anchors)):
            if len(set(numbers)) > 1:
                raise UserError(
                    f"head: shared needs the same number of {name} on every level, but the levels have "
                    f"{list(numbers)}. Set head to separate, or neck to fpn and anchors to grid."
                )
        head: nn.Cell = RetinaNetHead(
            in_channels=in_channels[0],
            num_anchors=num_anchors[0],
            num_classes=cfg.num_classes,
            num_levels=len(in_channels),
            num_convs=cfg.num_addition_layers,
        )
    else:
        head = LEVEL_HEADS[cfg.head](in_channels, num_anchors, cfg.num_classes)
    if cfg.prior_bias is not None:
        initialize_class_bias(head, cfg.num_classes, cfg.prior_bias)
    return head
