"""Sizes of feature maps, and the steps of anchors that give such sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence

Size = tuple[int, int]  # (height, width)


def strided_size(size: Size, stride: int, border: int = 0) -> Size:
    """Compute the size of the map that a strided layer computes.

    size: (height, width) of the input of the layer
    stride: stride of the layer
    border: number of rows and columns that a layer without padding loses, for example 2 for a 3x3 convolution
    Returns (height, width) in locations.
    """
    height, width = size
    return math.ceil((height - border) / stride), math.ceil((width - border) / stride)


def smallest_fitting_step(image_size: Size, feature_size: Size) -> int | None:
    """Return the smallest step with which anchors have the locations of a feature map.

    The smallest step distributes the locations evenly over the longer side of the map's cells: image side / map side.

    image_size: (height, width) of the input image in pixels
    feature_size: (height, width) of the feature map in locations
    Returns the step in input pixels, or None if no step fits both sides.
    """
    if min(feature_size) < 1:
        return None
    step = max(math.ceil(side / locations) for side, locations in zip(image_size, feature_size))
    return step if strided_size(image_size, step) == feature_size else None


def fitting_steps(image_size: Size, feature_sizes: Sequence[Size], preferred: Sequence[int]) -> list[int | None]:
    """Return a step for each level with which anchors have the locations of the level's feature map.

    image_size: (height, width) of the input image in pixels
    feature_sizes: (height, width) of the feature map of each level in locations
    preferred: step of each level to keep if it fits
    Returns a step in input pixels for each level; None if no step fits both sides of the map.
    """
    return [
        step if strided_size(image_size, step) == size else smallest_fitting_step(image_size, size)
        for step, size in zip(preferred, feature_sizes)
    ]
