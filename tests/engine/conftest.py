"""What tests of the engine share: recipes without data, and a detector that compiles and learns in seconds."""

import struct

import numpy as np
import pytest

import ssd  # noqa: F401  first, because it sets environment variables that MindSpore reads when it loads
from mindspore import Tensor
from pets import OBJECTS, annotation, write_annotations
from ssd.models.detector import create_detector

TINY = {
    "backbone": "mobilenet_v2_035_96",
    "backbone_out_indices": [4, 7],
    "image_size": [64, 64],
    "steps": [8, 16, 32],
    "aspect_ratios": [[2], [2], [2]],
    "extra_layers": [{"out_channels": 16, "expand_ratio": 1, "stride": 2}],
    "num_classes": 4,
}


@pytest.fixture(scope="session")
def tiny_recipe(load_recipe):
    """tiny_recipe(lr=0.1) is the Config of an SSDLite with 336 anchors and three classes on 64x64 images."""
    return lambda **overrides: load_recipe("ssd_mobilenetv2", **{**TINY, **overrides})


@pytest.fixture
def tiny_detector(tiny_recipe):
    """A detector of `tiny_recipe` with fresh weights, the test's own."""
    return create_detector(tiny_recipe())


@pytest.fixture(scope="session")
def values_of():
    """values_of(cell) is {parameter name: a copy of its value}."""
    return lambda cell: {name: value.asnumpy().copy() for name, value in cell.parameters_dict().items()}


@pytest.fixture(scope="session")
def randomize():
    """randomize(cell, seed) draws every parameter anew, so that no two of one shape are alike."""

    def draw(cell, seed):
        rng = np.random.default_rng(seed)
        for parameter in cell.get_parameters():
            parameter.set_data(Tensor(rng.random(parameter.shape, dtype=np.float32)))
        return cell

    return draw


@pytest.fixture
def truth(tmp_path):
    """Three images with four objects; the third image has none."""
    return write_annotations(tmp_path / "val.json", [annotation(i + 1, *row) for i, row in enumerate(OBJECTS)])


@pytest.fixture(scope="session")
def read_events():
    """read_events(folder) is the list of TensorBoard events in the only event file of a folder, which must be whole."""
    from tensorboardX.proto.event_pb2 import Event

    def read(folder):
        (path,) = folder.iterdir()
        content, events = path.read_bytes(), []
        while content:
            (length,) = struct.unpack_from("<Q", content)  # then 4 bytes of checksum, the event, 4 bytes of checksum
            assert len(content) >= length + 16
            events.append(Event.FromString(content[12 : 12 + length]))
            content = content[length + 16 :]
        return events

    return read
