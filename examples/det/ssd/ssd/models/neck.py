"""Necks, which compute the feature levels of the head from the feature maps of the backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import mindspore.nn as nn
from mindspore import Tensor, ops

from ..boxes.feature_sizes import strided_size
from .backbone import Backbone
from .layers import (
    ConvBNReLU6,
    InvertedResidual,
    LinearInvertedResidual,
    SSDExtraBlock,
    expanded_channels,
    initialize_normal,
    initialize_xavier,
)

if TYPE_CHECKING:
    from ..config.schema import Config

# Factor by which SSDLite's neck expands the channels of all backbone levels except the last, as in MindCV's SSD. The
# value is the expand ratio of MobileNetV2's blocks.
EXPAND_RATIO = 6


class _StridedNeck(nn.Cell):
    """Base class of necks whose levels have ceil(image size / stride) locations along each side.

    out_channels: number of channels of each level
    strides: distance between neighboring locations of each level in input pixels
    """

    out_channels: list[int]
    strides: list[int]

    def feature_sizes(self, image_size: Sequence[int]) -> list[tuple[int, int]]:
        """Compute the size of each level's feature map.

        image_size: (height, width) of the input image in pixels
        Returns the (height, width) of each level in locations.
        """
        height, width = image_size
        return [strided_size((height, width), stride) for stride in self.strides]


class SSDLiteNeck(_StridedNeck):
    """Neck of SSDLite: the backbone's feature maps, and extra inverted residual blocks.

    1x1 convolutions expand the channels of all feature maps of the backbone except the last.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        extra_layers: Sequence[tuple[int, float, int]],
        hard_swish: bool = False,
    ):
        """Build the 1x1 expansion convolutions and the inverted residual blocks.

        channels: number of channels of each backbone feature map
        strides: distance between neighboring locations of each backbone feature map in input pixels
        extra_layers: (out_channels, expand_ratio, stride) of each block
        hard_swish: True for hard swish and MindSpore's default BatchNorm after the expansion convolutions, as in
            MobileNetV3; False for ReLU6 and the BatchNorm of `batch_norm`
        """
        super().__init__()
        self.expand = nn.CellList([self._expansion(width, hard_swish) for width in channels[:-1]])
        self.out_channels = [width * EXPAND_RATIO for width in channels[:-1]] + [channels[-1]]
        self.strides = list(strides)
        blocks = []
        for out_channels, expand_ratio, stride in extra_layers:
            blocks.append(
                InvertedResidual(self.out_channels[-1], out_channels, stride=stride, expand_ratio=expand_ratio)
            )
            self.out_channels.append(out_channels)
            self.strides.append(self.strides[-1] * stride)
        self.extras = nn.CellList(blocks)
        initialize_normal(self)

    @staticmethod
    def _expansion(channels: int, hard_swish: bool) -> nn.SequentialCell:
        expanded = channels * EXPAND_RATIO
        if not hard_swish:
            return ConvBNReLU6(channels, expanded, kernel_size=1)
        return nn.SequentialCell(nn.Conv2d(channels, expanded, kernel_size=1), nn.BatchNorm2d(expanded), nn.HSwish())

    def construct(self, maps: list[Tensor]) -> tuple[Tensor, ...]:
        """Compute the feature levels of a batch.

        maps: feature maps of the backbone, (B, channels[i], Hi, Wi) each
        Returns the feature levels, (B, out_channels[i], Hi, Wi) each.
        """
        levels: tuple[Tensor, ...] = ()
        for index, expansion in enumerate(self.expand):
            levels += (expansion(maps[index]),)
        levels += (maps[-1],)
        for block in self.extras:
            levels += (block(levels[-1]),)
        return levels


class SSDNeck(nn.Cell):
    """Neck of the SSD paper: the backbone's feature maps, and extra blocks of a 1x1 and a 3x3 convolution.

    out_channels: number of channels of each level
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        extra_layers: Sequence[tuple[int, float, int, bool]],
    ):
        """Build the extra blocks.

        channels: number of channels of each backbone feature map
        strides: distance between neighboring locations of each backbone feature map in input pixels
        extra_layers: (out_channels, expand_ratio, stride, pad) of each block; expand_ratio is
            hidden channels / input channels
        """
        super().__init__()
        self.out_channels = list(channels)
        self.backbone_strides = list(strides)
        self.block_strides_and_pads = [(stride, pad) for _, _, stride, pad in extra_layers]
        blocks = []
        for out_channels, expand_ratio, stride, pad in extra_layers:
            in_channels = self.out_channels[-1]
            blocks.append(self._block(in_channels, out_channels, expand_ratio=expand_ratio, stride=stride, pad=pad))
            self.out_channels.append(out_channels)
        self.extras = nn.CellList(blocks)
        initialize_xavier(self)

    @staticmethod
    def _block(in_channels: int, out_channels: int, expand_ratio: float, stride: int, pad: bool) -> nn.Cell:
        hidden_channels = expanded_channels(in_channels, expand_ratio)
        return SSDExtraBlock(in_channels, hidden_channels, out_channels=out_channels, stride=stride, pad=pad)

    def feature_sizes(self, image_size: Sequence[int]) -> list[tuple[int, int]]:
        """Compute the size of each level's feature map.

        image_size: (height, width) of the input image in pixels
        Returns the (height, width) of each level in locations.
        """
        height, width = image_size
        sizes = [strided_size((height, width), stride) for stride in self.backbone_strides]
        for stride, pad in self.block_strides_and_pads:
            sizes.append(strided_size(sizes[-1], stride, border=0 if pad else 2))
        return sizes

    def construct(self, maps: list[Tensor]) -> tuple[Tensor, ...]:
        """Compute the feature levels of a batch.

        maps: feature maps of the backbone, (B, channels[i], Hi, Wi) each
        Returns the feature levels, (B, out_channels[i], Hi, Wi) each.
        """
        levels: tuple[Tensor, ...] = ()
        for level in maps:
            levels += (level,)
        for block in self.extras:
            levels += (block(levels[-1]),)
        return levels


class ResidualNeck(SSDNeck):
    """Neck of uvipen's SSDLite: the backbone's feature maps, and torchvision's inverted residual blocks.

    The blocks always pad. The recipe's check refuses other values of `pad`.
    """

    @staticmethod
    def _block(in_channels: int, out_channels: int, expand_ratio: float, stride: int, pad: bool) -> nn.Cell:
        return LinearInvertedResidual(in_channels, out_channels, stride=stride, expand_ratio=expand_ratio)


class FPN(_StridedNeck):
    """Feature pyramid network (arXiv:1612.03144): a top-down pathway, then strided convolutions for coarser levels."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], out_channels: int, num_levels: int):
        """Build the lateral, output and downsampling convolutions.

        channels: number of channels of each backbone feature map
        strides: distance between neighboring locations of each backbone feature map in input pixels
        out_channels: number of channels of every level
        num_levels: number of levels, including the levels that are coarser than the backbone's feature maps
        """
        super().__init__()
        coarser = range(num_levels - len(channels))
        self.lateral = nn.CellList([nn.Conv2d(width, out_channels, kernel_size=1, has_bias=True) for width in channels])
        self.output = nn.CellList([ConvBNReLU6(out_channels, out_channels) for _ in channels])
        self.downsample = nn.CellList([ConvBNReLU6(out_channels, out_channels, stride=2) for _ in coarser])
        # MindCV's network resizes without half-pixel centers, and ops.interpolate does not support this mode.
        self.resize = ops.ResizeBilinearV2(align_corners=False, half_pixel_centers=False)
        self.out_channels = [out_channels] * num_levels
        self.strides = list(strides) + [strides[-1] * 2 ** (step + 1) for step in coarser]
        initialize_normal(self)

    def construct(self, maps: list[Tensor]) -> tuple[Tensor, ...]:
        """Compute the feature levels of a batch.

        maps: feature maps of the backbone, (B, channels[i], Hi, Wi) each
        Returns the feature levels, (B, out_channels[i], Hi, Wi) each.
        """
        merged: tuple[Tensor, ...] = (self.lateral[-1](maps[-1]),)  # ordered from fine to coarse
        for index in range(len(maps) - 2, -1, -1):
            lateral = self.lateral[index](maps[index])
            merged = (lateral + self.resize(merged[0], lateral.shape[2:]),) + merged
        levels: tuple[Tensor, ...] = ()
        for index, convolution in enumerate(self.output):
            levels += (convolution(merged[index]),)
        for convolution in self.downsample:
            levels += (convolution(levels[-1]),)
        return levels


# Necks that use the backbone's maps unchanged, and add blocks to them
BLOCK_NECKS = {"convs": SSDNeck, "residuals": ResidualNeck}


def create_neck(cfg: Config, backbone: Backbone) -> SSDLiteNeck | SSDNeck | FPN:
    """Create the neck of a recipe on top of a backbone."""
    channels, strides = backbone.channels, backbone.strides
    if cfg.neck == "fpn":
        return FPN(channels, strides, out_channels=cfg.fpn_channels, num_levels=len(cfg.steps))
    if cfg.neck in BLOCK_NECKS:
        blocks = [(layer.out_channels, layer.expand_ratio, layer.stride, layer.pad) for layer in cfg.extra_layers]
        return BLOCK_NECKS[cfg.neck](channels, strides, blocks)
    layers = [(layer.out_channels, layer.expand_ratio, layer.stride) for layer in cfg.extra_layers]
    return SSDLiteNeck(channels, strides, layers, hard_swish=cfg.backbone.startswith("mobilenet_v3"))
