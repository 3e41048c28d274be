"""Replacements for ONNX compute the functions of the layers they replace."""

import mindspore.nn as nn
import numpy as np
import pytest
from mindspore import Tensor, ops

from ssd.deployment.exportable_layers import HardSigmoid, HardSwish, MatrixResize, interpolation_matrix, make_exportable
from ssd.models.detector import create_detector


@pytest.mark.parametrize("layer, replacement", [(nn.HSwish, HardSwish), (nn.HSigmoid, HardSigmoid)])
def test_activations_are_the_same(layer, replacement):
    x = Tensor(np.linspace(-5, 5, 41, dtype=np.float32))
    np.testing.assert_allclose(replacement()(x).asnumpy(), layer()(x).asnumpy(), atol=1e-6)


def test_interpolation_matrix():
    assert interpolation_matrix(2, 4).tolist() == [[1, 0], [0.5, 0.5], [0, 1], [0, 1]]
    assert interpolation_matrix(3, 3).tolist() == np.eye(3).tolist()


def test_resize_is_that_of_the_fpn():
    resize, layer = MatrixResize([(3, 2), (5, 4)]), ops.ResizeBilinearV2(align_corners=False, half_pixel_centers=False)
    x = Tensor(np.random.default_rng(0).normal(size=(2, 3, 3, 2)).astype(np.float32))
    np.testing.assert_allclose(resize(x, (5, 4)).asnumpy(), layer(x, (5, 4)).asnumpy(), atol=1e-6)


def test_activations_of_a_detector_are_replaced(tiny_recipe):
    detector = create_detector(tiny_recipe(backbone="mobilenet_v3_small_075", backbone_out_indices=[3, 8]))
    make_exportable(detector, (64, 64))
    found = {type(cell) for _, cell in detector.cells_and_names()}
    assert found >= {HardSwish, HardSigmoid} and not found & {nn.HSwish, nn.HSigmoid}


def test_the_resize_of_an_fpn_is_replaced(tiny_recipe):
    detector = create_detector(tiny_recipe(neck="fpn", extra_layers=[]))
    rng = np.random.default_rng(0)
    maps = [
        Tensor(rng.normal(size=(1, channels, side, side)).astype(np.float32))
        for channels, side in zip(detector.backbone.channels, (8, 4))
    ]
    detector.neck.set_train(False)
    expected = detector.neck(maps)
    make_exportable(detector, (64, 64))
    assert isinstance(detector.neck.resize, MatrixResize)
    for level, other in zip(detector.neck(maps), expected):
        np.testing.assert_allclose(level.asnumpy(), other.asnumpy(), atol=1e-5)
