"""Building blocks of necks and heads, as published."""

from __future__ import annotations


import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops
from mindspore.common.initializer import TruncatedNormal, XavierUniform, initializer

# Mean and deviation of ImageNet's RGB values, 0..255: what the backbones were trained with.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class NormalizeImage(nn.Cell):
    """uint8 pixels as the host sends them to what a backbone reads.

    image: (B, H, W, 3) uint8 RGB -> (B, 3, H, W) float32
    """

    def __init__(self):
        super().__init__()
        self.mean = Tensor(np.array(IMAGENET_MEAN, np.float32))
        self.inverse_std = Tensor(1 / np.array(IMAGENET_STD, np.float32))

    def construct(self, image: Tensor) -> Tensor:
        image = (image.astype("float32") - self.mean) * self.inverse_std
        return ops.transpose(image, (0, 3, 1, 2))


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """BatchNorm as TensorFlow's SSD has it. MindSpore's momentum is the share of the old statistics that stays."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.97)


class ConvBNReLU6(nn.SequentialCell):
    """Convolution with padding "same", BatchNorm, ReLU6; depthwise if `depthwise`; around `shared_conv`, if given."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        depthwise: bool = False,
        shared_conv: nn.Conv2d | None = None,
    ):
        group = in_channels if depthwise else 1
        conv = shared_conv or nn.Conv2d(in_channels, out_channels, kernel_size, stride, pad_mode="same", group=group)
        super().__init__(conv, batch_norm(out_channels), nn.ReLU6())


class InvertedResidual(nn.Cell):
    """MobileNetV2's block (arXiv:1801.04381, figure 3) with a ReLU6 behind it.

    (B, in, H, W) -> (B, out, ⌈H/stride⌉, ⌈W/stride⌉)
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand_ratio: float):
        super().__init__()
        hidden = int(round(in_channels * expand_ratio))
        layers = [] if expand_ratio == 1 else [ConvBNReLU6(in_channels, hidden, kernel_size=1)]
        layers += [
            ConvBNReLU6(hidden, hidden, stride=stride, depthwise=True),
            nn.Conv2d(hidden, out_channels, kernel_size=1),
            batch_norm(out_channels),
        ]
        self.conv = nn.SequentialCell(layers)
        self.relu6 = nn.ReLU6()
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def construct(self, x: Tensor) -> Tensor:
        out = self.conv(x)
        if self.has_shortcut:
            out = out + x
        return self.relu6(out)


class ReduceConv(nn.SequentialCell):
    """The SSD paper's extra block with BatchNorm: 1x1 to fewer channels, then 3x3; both without bias, ReLU behind.

    (B, in, H, W) -> (B, out, ⌈H/stride⌉, ⌈W/stride⌉), or of H - 2 and W - 2 if the 3x3 does not pad
    """

    def __init__(self, in_channels: int, hidden: int, out_channels: int, stride: int, pad: bool):
        super().__init__(
            nn.Conv2d(in_channels, hidden, kernel_size=1),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, out_channels, kernel_size=3, stride=stride, pad_mode="pad", padding=int(pad)),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        )


def initialize_xavier(cell: nn.Cell) -> None:
    """Draw all convolution weights anew from Xavier's uniform distribution, as SSD's authors do; biases are 0."""
    for _, child in cell.cells_and_names():
        if isinstance(child, nn.Conv2d):
            child.weight.set_data(initializer(XavierUniform(), child.weight.shape, child.weight.dtype))
            if child.has_bias:
                child.bias.set_data(initializer("zeros", child.bias.shape, child.bias.dtype))


def initialize_convolutions(cell: nn.Cell) -> None:
    """Draw all convolution weights of a neck or head anew from a normal of deviation 0.02, as published."""
    for _, child in cell.cells_and_names():
        if isinstance(child, nn.Conv2d):
            child.weight.set_data(initializer(TruncatedNormal(0.02), child.weight.shape, child.weight.dtype))
