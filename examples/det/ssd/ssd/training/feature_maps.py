"""Count the values of the feature maps that a detector computes, from its layers alone: nothing is compiled or run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import mindspore.nn as nn

from ..models.detector import SSD
from ..models.head import RetinaNetHead
from ..models.neck import FPN

# Activations whose gradient needs the input. ReLU's gradient needs only the output, which the next layer keeps anyway.
KEEPS_INPUT = (nn.ReLU6, nn.HSwish, nn.HSigmoid, nn.SiLU, nn.GELU, nn.LeakyReLU, nn.PReLU)


@dataclasses.dataclass
class FeatureMapValues:
    """Number of values of the feature maps of one image, by the layer that computes the maps.

    convolution: outputs of convolutions
    batch_norm: outputs of BatchNorm layers
    activation: outputs of activations whose gradient needs both input and output
    """

    convolution: int = 0
    batch_norm: int = 0
    activation: int = 0


def count_feature_map_values(detector: nn.Cell, image_size: Sequence[int]) -> FeatureMapValues:
    """Count the values of the feature maps of one image that training keeps for the backward pass.

    The maps of a backbone without trainable parameters are left out, because no gradient flows through them.

    The counts of convolutions are exact for MobileNetV2 and ResNet. The convolutions of squeeze-and-excitation blocks
    count as full maps; such blocks multiply full maps, and the product is not the output of a layer. Parallel branches
    with equal numbers of channels, as in RepVGG, are counted as a chain, which gives too low counts.

    detector: detector, possibly in mixed precision
    image_size: (height, width) of the input image in pixels
    """
    (ssd,) = (cell for _, cell in detector.cells_and_names() if isinstance(cell, SSD))
    values = FeatureMapValues()
    if ssd.backbone.trainable_params():
        _count(values, ssd.backbone, channels=3, size=(image_size[0], image_size[1]))
    sizes = ssd.neck.feature_sizes(image_size)
    for cell, size in (*_neck_cells(ssd.neck, sizes), *_head_cells(ssd.head, sizes)):
        convolutions = [child for _, child in cell.cells_and_names() if isinstance(child, nn.Conv2d)]
        if convolutions:  # a tower of a shared head may be empty
            _count(values, cell, channels=convolutions[0].in_channels, size=size)
    return values


def _neck_cells(neck: nn.Cell, sizes: Sequence[tuple[int, int]]) -> Iterator[tuple[nn.Cell, tuple[int, int]]]:
    """Yield the blocks of a neck, each with the (height, width) of its input. sizes: (height, width) of each level."""
    if isinstance(neck, FPN):
        yield from zip(neck.lateral, sizes)
        yield from zip(neck.output, sizes)
        yield from zip(neck.downsample, sizes[len(neck.output) - 1 :])
    else:
        yield from zip(getattr(neck, "expand", ()), sizes)
        yield from zip(neck.extras, sizes[len(sizes) - len(neck.extras) - 1 :])


def _head_cells(head: nn.Cell, sizes: Sequence[tuple[int, int]]) -> Iterator[tuple[nn.Cell, tuple[int, int]]]:
    """Yield the branches of a head, each with the (height, width) of its input. Shared layers come once per level."""
    for index, size in enumerate(sizes):
        if isinstance(head, RetinaNetHead):
            for cell in (head.box_tower[index], head.box, head.cls_tower[index], head.cls):
                yield cell, size
        else:
            yield head.box[index], size
            yield head.cls[index], size


def _count(values: FeatureMapValues, cell: nn.Cell, channels: int, size: tuple[int, int]) -> None:
    """Add the feature maps of a cell, whose layers are in the order of execution, to the counts.

    A convolution reads the latest map that has its number of input channels. So the shortcut of a residual block reads
    the input of the block and not the output of the layer before it in the list.

    values: counts, which are changed in place
    channels: number of channels of the input
    size: (height, width) of the input in locations
    """
    sizes = {channels: size}  # {number of channels: (height, width) of the latest such map}
    latest = channels
    for _, layer in cell.cells_and_names():
        if isinstance(layer, nn.Conv2d):
            source = layer.in_channels if layer.in_channels in sizes else latest
            latest, sizes[layer.out_channels] = layer.out_channels, _output_size(layer, sizes[source])
            values.convolution += latest * math.prod(sizes[latest])
        elif isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)):
            sizes[latest] = _output_size(layer, sizes[latest])
        elif isinstance(layer, nn.Pad):
            (top, bottom), (left, right) = layer.paddings[-2:]
            sizes[latest] = (sizes[latest][0] + top + bottom, sizes[latest][1] + left + right)
        elif isinstance(layer, nn.BatchNorm2d):
            values.batch_norm += layer.num_features * math.prod(sizes.get(layer.num_features, sizes[latest]))
        elif isinstance(layer, KEEPS_INPUT):
            values.activation += latest * math.prod(sizes[latest])


def _output_size(layer: nn.Cell, size: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) of the output of a convolution or pooling layer for an input of (height, width)."""
    # Convolutions have one value or (top, bottom, left, right), pooling layers one value or (0, vertical, horizontal).
    padding = getattr(layer, "padding", 0)
    if isinstance(padding, int):
        borders = (2 * padding, 2 * padding)
    elif len(padding) == 4:
        borders = (padding[0] + padding[1], padding[2] + padding[3])
    else:
        borders = (2 * padding[-2], 2 * padding[-1])
    sides = []
    for axis in (0, 1):
        kernel, stride = _pair(layer.kernel_size)[axis], _pair(layer.stride)[axis]
        dilation = _pair(getattr(layer, "dilation", 1))[axis]
        if layer.pad_mode.lower() == "same":
            sides.append(math.ceil(size[axis] / stride))
        else:
            border = borders[axis] if layer.pad_mode.lower() == "pad" else 0
            sides.append((size[axis] + border - dilation * (kernel - 1) - 1) // stride + 1)
    return sides[0], sides[1]


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)
