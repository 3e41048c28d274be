"""Heads: from feature levels to raw predictions for every anchor."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops

from .layers import ConvBNReLU6, batch_norm, initialize_convolutions, initialize_xavier


def _flatten(maps: tuple[Tensor, ...], values: int) -> Tensor:
    """Maps (B, anchors * values, Hi, Wi) to (B, A, values) in the order of the anchors."""
    rows = ()
    for level in maps:
        # (B, Hi * Wi * anchors, values)
        rows += (ops.transpose(level, (0, 2, 3, 1)).reshape(level.shape[0], -1, values),)
    return ops.concat(rows, axis=1)


def _convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, pad_mode="same", has_bias=True)


class SSDHead(nn.Cell):
    """SSDLite's head: a depthwise separable convolution for the boxes and one for the classes of each level."""

    def __init__(self, in_channels: Sequence[int], num_anchors: Sequence[int], num_classes: int):
        """in_channels, num_anchors: channels and anchors per location of each level; num_classes: K"""
        super().__init__()
        self.num_classes = num_classes
        self.box = nn.CellList([self._predictor(wide, 4 * count) for wide, count in zip(in_channels, num_anchors)])
        self.cls = nn.CellList(
            [self._predictor(wide, num_classes * count) for wide, count in zip(in_channels, num_anchors)]
        )
        self._initialize()

    def _initialize(self) -> None:
        initialize_convolutions(self)

    @staticmethod
    def _predictor(in_channels: int, out_channels: int) -> nn.SequentialCell:
        return nn.SequentialCell(
            nn.Conv2d(in_channels, in_channels, kernel_size=3, pad_mode="same", group=in_channels),
            batch_norm(in_channels),
            nn.ReLU6(),
            nn.Conv2d(in_channels, out_channels, kernel_size=1, has_bias=True),
        )

    def construct(self, levels: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """levels: (B, in_channels[i], Hi, Wi) each -> box_offsets (B, A, 4), cls_logits (B, A, K)"""
        boxes, classes = (), ()
        for index, level in enumerate(levels):
            boxes += (self.box[index](level),)
            classes += (self.cls[index](level),)
        return _flatten(boxes, 4), _flatten(classes, self.num_classes)


class PlainSSDHead(SSDHead):
    """The SSD paper's head: a 3x3 convolution with bias for the boxes and one for the classes of each level."""

    _predictor = staticmethod(_convolution)

    def _initialize(self) -> None:
        initialize_xavier(self)


class SharedSSDHead(nn.Cell):
    """RetinaNet's head (arXiv:1708.02002, section 4): one tower and predictor for all levels.

    BatchNorms alone are each level's own.
    """

    def __init__(self, in_channels: int, num_anchors: int, num_classes: int, num_levels: int, num_convs: int):
        """num_anchors: at each location of each level; num_convs: convolutions in a tower, before the predictor"""
        super().__init__()
        self.num_classes = num_classes
        self.box_tower = self._tower(in_channels, num_levels, num_convs)
        self.cls_tower = self._tower(in_channels, num_levels, num_convs)
        self.box = _convolution(in_channels, 4 * num_anchors)
        self.cls = _convolution(in_channels, num_classes * num_anchors)
        initialize_convolutions(self)

    @staticmethod
    def _tower(channels: int, num_levels: int, num_convs: int) -> nn.CellList:
        shared = [_convolution(channels, channels) for _ in range(num_convs)]
        return nn.CellList(
            [
                nn.SequentialCell([ConvBNReLU6(channels, channels, shared_conv=convolution) for convolution in shared])
                for _ in range(num_levels)
            ]
        )

    def construct(self, levels: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """levels: (B, in_channels, Hi, Wi) each -> box_offsets (B, A, 4), cls_logits (B, A, K)"""
        boxes, classes = (), ()
        for index, level in enumerate(levels):
            boxes += (self.box(self.box_tower[index](level)),)
            classes += (self.cls(self.cls_tower[index](level)),)
        return _flatten(boxes, 4), _flatten(classes, self.num_classes)


def set_prior_bias(head: nn.Cell, num_classes: int, prior: float) -> None:
    """Let fresh class predictors give each object class about the probability `prior`, and background 1 - prior.

    RetinaNet's start (arXiv:1708.02002, section 4.1). head: any of this file; num_classes: K
    """
    logits = np.full(num_classes, np.log(prior / (1 - prior)), np.float32)
    logits[0] *= -1  # a class like any other here, and the target of most anchors
    for cell in _predictors(head.cls):
        cell.bias.set_data(Tensor(np.tile(logits, cell.out_channels // num_classes)))


def predictor_parameter_names(head: nn.Cell) -> tuple[list[str], list[str]]:
    """Names of the parameters whose outputs are predictions: of boxes, and of classes. head: any of this file, in its
    detector, which has a part in the names"""
    return tuple(
        [parameter.name for cell in _predictors(cells) for parameter in (cell.weight, cell.bias)]
        for cells in (head.box, head.cls)
    )


def _predictors(cells: nn.Cell) -> list[nn.Conv2d]:
    """The last convolutions of one of a head's two halves, which alone have a bias."""
    return [cell for _, cell in cells.cells_and_names() if isinstance(cell, nn.Conv2d) and cell.has_bias]


def create_head(cfg, in_channels: Sequence[int], num_anchors: Sequence[int]) -> SSDHead | PlainSSDHead | SharedSSDHead:
    """The head of a recipe. cfg: Config; in_channels, num_anchors: of each level."""
    if cfg.head == "shared":
        levels, convs = len(in_channels), cfg.num_addition_layers
        head = SharedSSDHead(in_channels[0], num_anchors[0], cfg.num_classes, levels, convs)
    else:
        kind = PlainSSDHead if cfg.head == "plain" else SSDHead
        head = kind(in_channels, num_anchors, cfg.num_classes)
    if cfg.prior_bias is not None:
        set_prior_bias(head, cfg.num_classes, cfg.prior_bias)
    return head
