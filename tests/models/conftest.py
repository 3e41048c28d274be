"""Fixtures of the tests of models: recipes without data, small anchors, and networks that are compiled once."""

import ssd  # noqa: F401  first, because it sets environment variables that MindSpore reads when it loads

# isort: split
import numpy as np
import pytest
from mindspore import Tensor, nn

from ssd.boxes.anchors import DefaultBoxes, create_anchors
from ssd.models.detector import create_detector
from ssd.models.target_assigner import create_assigner


@pytest.fixture(scope="session")
def call():
    """call(cell, array, ...) calls a cell with NumPy arrays and returns NumPy arrays."""

    def call_cell(cell, *arrays):
        outputs = cell(*(Tensor(array) for array in arrays))
        if isinstance(outputs, (tuple, list)):
            return tuple(output.asnumpy() for output in outputs)
        return outputs.asnumpy()

    return call_cell


class OnLevels(nn.Cell):
    """A neck or head with one argument for each level, because MindSpore recompiles for every tuple of Tensors."""

    def __init__(self, cell):
        super().__init__(auto_prefix=False)
        self.cell = cell

    def construct(self, *levels):
        return self.cell(levels)


@pytest.fixture(scope="session")
def on_levels():
    return OnLevels


@pytest.fixture(scope="session")
def small_anchors():
    """80 default boxes of a 64x64 image: 4x4 and 2x2 locations with 4 boxes each."""
    return DefaultBoxes((64, 64), [16, 32], min_scale=0.3, max_scale=0.7, aspect_ratios=[[2], [2]])


@pytest.fixture(scope="session")
def published_anchors(load_recipe):
    """The 1,917 default boxes of ssd_mobilenetv2."""
    return create_anchors(load_recipe("ssd_mobilenetv2"))


@pytest.fixture(scope="session")
def assigner(load_recipe, small_anchors):
    """Target assigner for `small_anchors` with the published threshold and prior scaling."""
    return create_assigner(load_recipe("ssd_mobilenetv2"), small_anchors)


@pytest.fixture(scope="session")
def detectors(load_recipe):
    """detectors(recipe name) is its detector, randomly initialized, in evaluation mode. Tests must not change it."""
    created = {}

    def detector(name):
        if name not in created:
            created[name] = create_detector(load_recipe(name)).set_train(False)
        return created[name]

    yield detector
    created.clear()


@pytest.fixture
def rng(request):
    """Random numbers that depend only on the name of the test."""
    return np.random.default_rng(list(request.node.name.encode()))
