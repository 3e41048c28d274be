"""Detection heads: from feature levels to raw predictions for every anchor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops

from .layers import ConvBNReLU6, batch_norm, initialize_normal, initialize_xavier

if TYPE_CHECKING:
    from ..config.schema import Config


def _concat_levels(maps: tuple[Tensor, ...], values: int) -> Tensor:
    """Concatenate the predictions of all levels in the order of the anchors.

    maps: (B, anchors per location * values, Hi, Wi) for each level
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
    """The SSD paper's head: for each level a 3x3 convolution that predicts boxes and one that predicts classes."""

    def __init__(self, in_channels: Sequence[int], num_anchors: Sequence[int], num_classes: int):
        """Build the predictors.

        in_channels: channels of each level; num_anchors: anchors per location of each level; num_classes: K
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
        """Predict a box and class logits for every anchor.

        levels: (B, in_channels[i], Hi, Wi) each
        Returns box_offsets (B, A, 4) and cls_logits (B, A, K).
        """
        boxes: tuple[Tensor, ...] = ()
        classes: tuple[Tensor, ...] = ()
        for index, level in enumerate(levels):
            boxes += (self.box[index](level),)
            classes += (self.cls[index](level),)
        return _concat_levels(boxes, 4), _concat_levels(classes, self.num_classes)


class SSDLiteHead(SSDHead):
    """SSDLite's head (arXiv:1801.04381, section 6.2): SSD's head with depthwise separable convolutions."""

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


class RetinaNetHead(nn.Cell):
    """RetinaNet's head (arXiv:1708.02002, section 4): towers and predictors shared by all levels.

    Each level has its own BatchNorm layers in the towers.
    """

    def __init__(self, in_channels: int, num_anchors: int, num_classes: int, num_levels: int, num_convs: int):
        """Build the towers and predictors.

        in_channels: channels of every level; num_anchors: anchors per location; num_classes: K
        num_convs: convolutions of a tower, before the predictor
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
        """Predict a box and class logits for every anchor.

        levels: (B, in_channels, Hi, Wi) each
        Returns box_offsets (B, A, 4) and cls_logits (B, A, K).
        """
        boxes: tuple[Tensor, ...] = ()
        classes: tuple[Tensor, ...] = ()
        for index, level in enumerate(levels):
            boxes += (self.box(self.box_tower[index](level)),)
            classes += (self.cls(self.cls_tower[index](level)),)
        return _concat_levels(boxes, 4), _concat_levels(classes, self.num_classes)


def initialize_class_bias(head: nn.Cell, num_classes: int, prior: float) -> None:
    """Set the biases of class predictors so that each object class starts at the probability `prior`.

    This is RetinaNet's initialization (arXiv:1708.02002, section 4.1). Background starts at 1 - prior, because the
    focal loss here trains it like any class, and most anchors are background.

    head: any head of this file; num_classes: K
    """
    logits = np.full(num_classes, np.log(prior / (1 - prior)), np.float32)
    logits[0] *= -1
    for convolution in _predictors(head.cls):
        convolution.bias.set_data(Tensor(np.tile(logits, convolution.out_channels // num_classes)))


def predictor_parameter_names(head: nn.Cell) -> tuple[list[str], list[str]]:
    """Return the parameter names of the box predictors and of the class predictors.

    head: any head of this file; names start with the name of the detector's attribute if the head is in a detector
    """
    return _parameter_names(_predictors(head.box)), _parameter_names(_predictors(head.cls))


def _parameter_names(convolutions: list[nn.Conv2d]) -> list[str]:
    return [parameter.name for cell in convolutions for parameter in (cell.weight, cell.bias)]


def _predictors(cells: nn.Cell) -> list[nn.Conv2d]:
    """Return the last convolutions of a head's box or class predictors: those with a bias."""
    return [cell for _, cell in cells.cells_and_names() if isinstance(cell, nn.Conv2d) and cell.has_bias]


def create_head(
    cfg: Config, in_channels: Sequence[int], num_anchors: Sequence[int]
) -> SSDHead | SSDLiteHead | RetinaNetHead:
    """Create the head of a recipe.

    in_channels: channels of each level; num_anchors: anchors per location of each level
    """
    head: SSDHead | RetinaNetHead
    if cfg.head == "shared":
        head = RetinaNetHead(
            in_channels=in_channels[0],
            num_anchors=num_anchors[0],
            num_classes=cfg.num_classes,
            num_levels=len(in_channels),
            num_convs=cfg.num_addition_layers,
        )
    elif cfg.head == "plain":
        head = SSDHead(in_channels, num_anchors, cfg.num_classes)
    else:
        head = SSDLiteHead(in_channels, num_anchors, cfg.num_classes)
    if cfg.prior_bias is not None:
        initialize_class_bias(head, cfg.num_classes, cfg.prior_bias)
    return head
