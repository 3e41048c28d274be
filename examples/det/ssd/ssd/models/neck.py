"""Necks: from the backbone's maps to the levels that the head reads.

Each has `.out_channels`, an entry a level, and tells the sizes of its levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import mindspore.nn as nn
from mindspore import Tensor, ops

from .backbone import Backbone
from .layers import ConvBNReLU6, InvertedResidual, ReduceConv, initialize_convolutions, initialize_xavier

# Published: MobileNets expand the maps taken inside the network this many times, the width of MobileNetV2's own blocks.
EXPANSION = 6


class _StridedNeck(nn.Cell):
    """A neck whose maps are rounded up at every stride. `.strides`: input pixels between locations of each level"""

    def feature_sizes(self, image_size: Sequence[int]) -> list[tuple[int, int]]:
        """image_size: (height, width) in pixels -> (height, width) of each level"""
        height, width = image_size
        return [(math.ceil(height / stride), math.ceil(width / stride)) for stride in self.strides]


class ExtraLayers(_StridedNeck):
    """SSDLite's neck: the backbone's maps, all but the last widened, then inverted residual blocks one after another.

    channels, strides: of the backbone's maps; extra_layers: (out_channels, expand_ratio, stride) of each block
    hard_swish: widen as MobileNetV3 does, with its activation and MindSpore's default BatchNorm
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        extra_layers: Sequence[tuple[int, float, int]],
        hard_swish: bool = False,
    ):
        super().__init__()
        self.expand = nn.CellList([self._widen(wide, hard_swish) for wide in channels[:-1]])
        self.out_channels = [wide * EXPANSION for wide in channels[:-1]] + [channels[-1]]
        self.strides = list(strides)
        blocks = []
        for out_channels, expand_ratio, stride in extra_layers:
            blocks.append(InvertedResidual(self.out_channels[-1], out_channels, stride, expand_ratio))
            self.out_channels.append(out_channels)
            self.strides.append(self.strides[-1] * stride)
        self.extras = nn.CellList(blocks)
        initialize_convolutions(self)

    @staticmethod
    def _widen(channels: int, hard_swish: bool) -> nn.SequentialCell:
        if not hard_swish:
            return ConvBNReLU6(channels, channels * EXPANSION, kernel_size=1)
        wide = channels * EXPANSION
        return nn.SequentialCell(nn.Conv2d(channels, wide, kernel_size=1), nn.BatchNorm2d(wide), nn.HSwish())

    def construct(self, maps: list[Tensor]) -> tuple[Tensor, ...]:
        levels = ()
        for index, widen in enumerate(self.expand):
            levels += (widen(maps[index]),)
        levels += (maps[-1],)
        for block in self.extras:
            levels += (block(levels[-1]),)
        return levels


class ExtraConvs(nn.Cell):
    """SSD's neck: the backbone's maps as they are, then blocks of a 1x1 and a 3x3 convolution one after another.

    channels, strides: of the backbone's maps; extra_layers: (out_channels, expand_ratio, stride, pad) of each block,
    expand_ratio being the channels between its convolutions over those it reads
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        extra_layers: Sequence[tuple[int, float, int, bool]],
    ):
        super().__init__()
        self.out_channels = list(channels)
        self.backbone_strides = list(strides)
        self.shapes = [(stride, pad) for _, _, stride, pad in extra_layers]
        blocks = []
        for out_channels, expand_ratio, stride, pad in extra_layers:
            hidden = int(round(self.out_channels[-1] * expand_ratio))
            blocks.append(ReduceConv(self.out_channels[-1], hidden, out_channels, stride, pad))
            self.out_channels.append(out_channels)
        self.extras = nn.CellList(blocks)
        initialize_xavier(self)

    def feature_sizes(self, image_size: Sequence[int]) -> list[tuple[int, int]]:
        """image_size: (height, width) in pixels -> (height, width) of each level"""
        sizes = [tuple(math.ceil(side / stride) for side in image_size) for stride in self.backbone_strides]
        for stride, pad in self.shapes:
            sizes.append(tuple(math.ceil((side - 2 * (not pad)) / stride) for side in sizes[-1]))
        return sizes

    def construct(self, maps: list[Tensor]) -> tuple[Tensor, ...]:
        levels = ()
        for level in maps:
            levels += (level,)
        for block in self.extras:
            levels += (block(levels[-1]),)
        return levels


class FPN(_StridedNeck):
    """Feature pyramid (arXiv:1612.03144): a top-down pass over the backbone's maps, then strided convolutions below.

    channels, strides: of the backbone's maps; out_channels: of every level; num_levels: levels in all
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], out_channels: int, num_levels: int):
        super().__init__()
        added = range(num_levels - len(channels))
        self.lateral = nn.CellList([nn.Conv2d(wide, out_channels, kernel_size=1, has_bias=True) for wide in channels])
        self.output = nn.CellList([ConvBNReLU6(out_channels, out_channels) for _ in channels])
        self.downsample = nn.CellList([ConvBNReLU6(out_channels, out_channels, stride=2) for _ in added])
        # The published function samples without half-pixel centres, which `ops.interpolate` cannot be told.
        self.resize = ops.ResizeBilinearV2(align_corners=False, half_pixel_centers=False)
        self.out_channels = [out_channels] * num_levels
        self.strides = list(strides) + [strides[-1] * 2 ** (step + 1) for step in added]
        initialize_convolutions(self)

    def construct(self, maps: list[Tensor]) -> tuple[Tensor, ...]:
        merged = (self.lateral[-1](maps[-1]),)  # from fine to coarse, filled from the coarse end
        for index in range(len(maps) - 2, -1, -1):
            lateral = self.lateral[index](maps[index])
            merged = (lateral + self.resize(merged[0], lateral.shape[2:]),) + merged
        levels = ()
        for index, convolution in enumerate(self.output):
            levels += (convolution(merged[index]),)
        for convolution in self.downsample:
            levels += (convolution(levels[-1]),)
        return levels


def create_neck(cfg, backbone: Backbone) -> ExtraLayers | ExtraConvs | FPN:
    """The neck of a recipe. cfg: Config."""
    if cfg.neck == "fpn":
        return FPN(backbone.channels, backbone.strides, cfg.fpn_channels, len(cfg.steps))
    if cfg.neck == "convs":
        blocks = [(layer.out_channels, layer.expand_ratio, layer.stride, layer.pad) for layer in cfg.extra_layers]
        return ExtraConvs(backbone.channels, backbone.strides, blocks)
    layers = [(layer.out_channels, layer.expand_ratio, layer.stride) for layer in cfg.extra_layers]
    return ExtraLayers(backbone.channels, backbone.strides, layers, hard_swish=cfg.backbone.startswith("mobilenet_v3"))
