"""Layers and blocks of necks and heads, image normalization, and weight initialization."""

from __future__ import annotations

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops
from mindspore.common.initializer import TruncatedNormal, XavierUniform, initializer

from ..errors import UserError
from ..normalization import IMAGENET_MEAN, IMAGENET_STD


class NormalizeImage(nn.Cell):
    """Normalize uint8 images with ImageNet's mean and standard deviation, and move the channel axis to the front."""

    def __init__(self):
        super().__init__()
        self.mean = Tensor(np.array(IMAGENET_MEAN, np.float32).reshape(3, 1, 1))
        self.inverse_std = Tensor(1 / np.array(IMAGENET_STD, np.float32).reshape(3, 1, 1))

    def construct(self, image: Tensor) -> Tensor:
        """Normalize a batch of images.

        image: (B, H, W, 3) uint8 RGB
        Returns (B, 3, H, W) float32 RGB with about zero mean and unit variance.
        """
        # Transpose first, because rows of pixels fill the vector units of an NPU, and the axis of 3 channels does not.
        image = ops.transpose(image.astype("float32"), (0, 3, 1, 2))
        return (image - self.mean) * self.inverse_std


class BatchNorm2d(nn.BatchNorm2d):
    """BatchNorm that normalizes with the running statistics in training too if a channel has only one value.

    A channel has one value if the batch has one image and the map has size 1x1. The variance of one value is unknown.
    MindSpore 2.10 would store NaN as the running variance, and the loss would stay finite.
    """

    def construct(self, x: Tensor) -> Tensor:
        """Normalize a batch of feature maps.

        x: (B, C, H, W)
        Returns (B, C, H, W).
        """
        batch, _, height, width = x.shape
        is_frozen = self.use_batch_statistics is not None  # frozen layers have the value False
        # The parameters must be arguments of the primitive itself. At AMP level O3, MindSpore 2.10 casts parameters
        # that are stored in a tuple, and the primitive would update the casts.
        if self.training and not is_frozen and batch * height * width > 1:
            return self.bn_train(x, self.gamma, self.beta, self.moving_mean, self.moving_variance)[0]
        return self.bn_infer(x, self.gamma, self.beta, self.moving_mean, self.moving_variance)[0]


def protect_running_statistics(net: nn.Cell) -> None:
    """Turn all layers nn.BatchNorm2d of a network, such as those of MindCV's models, into layers BatchNorm2d.

    The parameters and their names stay the same.
    """
    for _, cell in net.cells_and_names():
        if type(cell) is nn.BatchNorm2d:
            cell.__class__ = BatchNorm2d  # keeps the parameters, which other cells and optimizers refer to by name


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Create a BatchNorm layer with the epsilon and momentum of TensorFlow's SSD.

    MindSpore's momentum is the weight of the previous running statistics (PyTorch: 1 - momentum).

    channels: number of channels
    """
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.97)


class ConvBNReLU6(nn.SequentialCell):
    """Convolution with padding "same", followed by BatchNorm and ReLU6.

    depthwise: True for a depthwise convolution, which has one group for each channel
    shared_conv: existing convolution whose weights are shared; None creates a new convolution
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        depthwise: bool = False,
        shared_conv: nn.Conv2d | None = None,
    ):
        conv = shared_conv or nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size=kernel_size,
            stride=stride,
            pad_mode="same",
            group=in_channels if depthwise else 1,
        )
        super().__init__(conv, batch_norm(out_channels), nn.ReLU6())


def expanded_channels(channels: int, expand_ratio: float) -> int:
    """Return the number of hidden channels of a block.

    channels: number of input channels
    expand_ratio: hidden channels / input channels
    Raises UserError if the block would have no hidden channels.
    """
    hidden_channels = int(round(channels * expand_ratio))
    if hidden_channels < 1:
        raise UserError(
            f"extra_layers: expand_ratio {expand_ratio:g} of {channels} input channels gives no hidden channels. "
            f"Set expand_ratio to at least {1 / channels:.2g}."
        )
    return hidden_channels


class InvertedResidual(nn.Cell):
    """Inverted residual block of MobileNetV2 (arXiv:1801.04381, figure 3), followed by ReLU6 as in MindCV's SSD."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand_ratio: float):
        super().__init__()
        hidden_channels = expanded_channels(in_channels, expand_ratio)
        layers = [] if expand_ratio == 1 else [ConvBNReLU6(in_channels, hidden_channels, kernel_size=1)]
        layers += [
            ConvBNReLU6(hidden_channels, hidden_channels, stride=stride, depthwise=True),
            nn.Conv2d(hidden_channels, out_channels, kernel_size=1),
            batch_norm(out_channels),
        ]
        self.conv = nn.SequentialCell(layers)
        self.relu6 = nn.ReLU6()
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def construct(self, x: Tensor) -> Tensor:
        """Apply the block to a batch of feature maps.

        x: (B, in_channels, H, W)
        Returns (B, out_channels, ceil(H / stride), ceil(W / stride)).
        """
        out = self.conv(x)
        if self.has_shortcut:
            out = out + x
        return self.relu6(out)


class LinearInvertedResidual(nn.Cell):
    """Inverted residual block of MobileNetV2 as in torchvision: symmetric padding, and no activation at the end."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand_ratio: float):
        super().__init__()
        hidden_channels = expanded_channels(in_channels, expand_ratio)
        layers = [] if expand_ratio == 1 else [self._conv_bn_relu6(in_channels, hidden_channels, kernel_size=1)]
        layers += [
            self._conv_bn_relu6(hidden_channels, hidden_channels, kernel_size=3, stride=stride, group=hidden_channels),
            nn.Conv2d(hidden_channels, out_channels, kernel_size=1),
            nn.BatchNorm2d(out_channels),
        ]
        self.conv = nn.SequentialCell(layers)
        self.has_shortcut = stride == 1 and in_channels == out_channels

    @staticmethod
    def _conv_bn_relu6(
        in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, group: int = 1
    ) -> nn.SequentialCell:
        convolution = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size=kernel_size,
            stride=stride,
            pad_mode="pad",
            padding=kernel_size // 2,
            group=group,
        )
        return nn.SequentialCell(convolution, nn.BatchNorm2d(out_channels), nn.ReLU6())

    def construct(self, x: Tensor) -> Tensor:
        """Apply the block to a batch of feature maps.

        x: (B, in_channels, H, W)
        Returns (B, out_channels, ceil(H / stride), ceil(W / stride)).
        """
        return self.conv(x) + x if self.has_shortcut else self.conv(x)


class SSDExtraBlock(nn.SequentialCell):
    """Extra block of the SSD paper, with added BatchNorm: a 1x1 convolution to fewer channels, then a 3x3 convolution.

    Both convolutions have no bias, and are followed by BatchNorm and ReLU. The height of the output is
    ceil(H / stride), or ceil((H - 2) / stride) if `pad` is false. The width follows the same formula.
    """

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int, stride: int, pad: bool):
        super().__init__(
            [
                nn.Conv2d(in_channels, hidden_channels, kernel_size=1),
                nn.BatchNorm2d(hidden_channels),
                nn.ReLU(),
                nn.Conv2d(
                    hidden_channels, out_channels, kernel_size=3, stride=stride, pad_mode="pad", padding=int(pad)
                ),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(),
            ]
        )


def initialize_xavier(cell: nn.Cell) -> None:
    """Initialize all convolutions as SSD's authors do: Xavier uniform weights, and zero biases."""
    for _, child in cell.cells_and_names():
        if isinstance(child, nn.Conv2d):
            child.weight.set_data(initializer(XavierUniform(), child.weight.shape, child.weight.dtype))
            if child.has_bias:
                child.bias.set_data(initializer("zeros", child.bias.shape, child.bias.dtype))


def initialize_normal(cell: nn.Cell) -> None:
    """Initialize the weights of all convolutions from a truncated normal distribution with standard deviation 0.02.

    MindCV's SSD uses the same initialization.
    """
    for _, child in cell.cells_and_names():
        if isinstance(child, nn.Conv2d):
            child.weight.set_data(initializer(TruncatedNormal(0.02), child.weight.shape, child.weight.dtype))
