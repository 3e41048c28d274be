"""Replacements of layers that MindSpore 2.10 cannot export to ONNX. They compute the same function."""

from __future__ import annotations

import mindspore.nn as nn
import numpy as np
from mindspore import Tensor, ops

from ..models.neck import FPN


class HardSwish(nn.HSwish):
    """Hard swish from operators that MindSpore exports: x * relu6(x + 3) / 6 (arXiv:1905.02244)."""

    def construct(self, x: Tensor) -> Tensor:
        """Apply the function to each element."""
        return x * (ops.relu6(x + 3.0) / 6.0)


class HardSigmoid(nn.HSigmoid):
    """Hard sigmoid from operators that MindSpore exports: relu6(x + 3) / 6."""

    def construct(self, x: Tensor) -> Tensor:
        """Apply the function to each element."""
        return ops.relu6(x + 3.0) / 6.0


class MatrixResize(nn.Cell):
    """Bilinear resize of the maps of an FPN as two products with constant matrices.

    The result equals that of `ops.ResizeBilinearV2` without half-pixel centers and without aligned corners.

    sizes: (height, width) of the maps from coarse to fine; each map is resized to the next size
    """

    def __init__(self, sizes: list[tuple[int, int]]):
        super().__init__()
        pairs = list(zip(sizes, sizes[1:]))
        self.sizes = [target for _, target in pairs]
        self.row_matrices = [Tensor(interpolation_matrix(old[0], new[0])) for old, new in pairs]
        self.column_matrices = [Tensor(interpolation_matrix(old[1], new[1]).T.copy()) for old, new in pairs]

    def construct(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Resize a batch of maps.

        x: (B, C, H, W)
        size: (height, width) of the result, one of the sizes
        Returns (B, C, height, width).
        """
        index = self.sizes.index(size)
        return ops.matmul(ops.matmul(self.row_matrices[index], x), self.column_matrices[index])


def interpolation_matrix(old_size: int, new_size: int) -> np.ndarray:
    """Return the (new_size, old_size) float32 matrix that interpolates a column of pixels linearly.

    Output i is the value at the position i * old_size / new_size of the input, as in TensorFlow's first versions.
    """
    positions = np.arange(new_size) * np.float32(old_size / new_size)
    low = np.floor(positions).astype(int)
    high = np.minimum(low + 1, old_size - 1)
    fraction = (positions - low).astype(np.float32)
    matrix = np.zeros((new_size, old_size), np.float32)
    rows = np.arange(new_size)
    np.add.at(matrix, (rows, low), 1 - fraction)
    np.add.at(matrix, (rows, high), fraction)
    return matrix


_REPLACEMENTS = {nn.HSwish: HardSwish, nn.HSigmoid: HardSigmoid}


def make_exportable(detector: nn.Cell, image_size: tuple[int, int]) -> None:
    """Replace the layers of a detector that cannot be exported to ONNX, in place.

    detector: SSD with loaded weights
    image_size: (height, width) of the input images in pixels
    """
    for _, cell in detector.cells_and_names():
        if type(cell) in _REPLACEMENTS:
            cell.__class__ = _REPLACEMENTS[type(cell)]  # other cells refer to the same object
    neck = detector.neck
    if isinstance(neck, FPN):
        num_maps = len(neck.lateral)
        sizes = neck.feature_sizes(image_size)[:num_maps]
        neck.resize = MatrixResize(sizes[::-1])
