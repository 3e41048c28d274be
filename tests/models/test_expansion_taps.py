"""Maps from expansions: shapes, values against the layers of the block, mixed precision, and refused backbones."""

import numpy as np
import pytest
from mindspore import Tensor

from ssd.errors import UserError
from ssd.models.backbone import Backbone
from ssd.models.detector import create_detector, to_mixed_precision

# Channels of expansions: 6 x 96 = 576 in block 14 of MobileNetV2, and 6 x 32 = 192 in block 7; 672 in block 13 of
# MobileNetV3-Large (arXiv:1905.02244, table 1); 6 x 112 = 672 at the start of the sixth stage of EfficientNet-B0
# (arXiv:1905.11946, table 1).
EXPANSIONS = [
    ("mobilenet_v2_100", [13, 18], [576, 1280], [16, 32]),
    ("mobilenet_v2_100", [6, 13, 18], [192, 576, 1280], [8, 16, 32]),
    ("mobilenet_v3_large_100", [12, 16], [672, 960], [16, 32]),
    ("efficientnet_b0", [5, 8], [672, 1280], [16, 32]),
]


@pytest.mark.parametrize("name, out_indices, channels, strides", EXPANSIONS)
def test_channels_and_strides(name, out_indices, channels, strides):
    backbone = Backbone(name, out_indices, taps="expansion")
    assert (backbone.channels, backbone.strides) == (channels, strides)
    names = [parameter.name for parameter in Backbone(name, out_indices).get_parameters()]
    assert [parameter.name for parameter in backbone.get_parameters()] == names  # so weights load into both


@pytest.mark.parametrize("name, out_indices", [("mobilenet_v3_small_100", [3, 5]), ("efficientnet_b0", [1, 3])])
def test_maps_are_those_of_the_layers(name, out_indices, call, rng, pynative):
    """The first map is the expansion of the stage's output. The last map equals the last output of the backbone."""
    image = rng.normal(size=(2, 3, 65, 33)).astype(np.float32)
    outputs = Backbone(name, out_indices).set_train(False)
    expansions = Backbone(name, out_indices, taps="expansion").set_train(False)
    for source, target in zip(outputs.get_parameters(), expansions.get_parameters()):
        value = source.asnumpy() * (1 if source.ndim == 1 else 5)  # MindCV's initial weights shrink the maps
        source.set_data(Tensor(value))
        target.set_data(Tensor(value))
    stage, last = call(outputs, image)
    found = call(expansions, image)
    np.testing.assert_allclose(found[1], last, rtol=1e-4, atol=1e-5 * np.abs(last).max())
    block = dict(outputs.features.net.name_cells())[f"features_{out_indices[0] + 3}"]
    layers = block.layers if name.startswith("mobilenet") else block[0].block
    expected = Tensor(stage)
    for layer in (layers[0], layers[1], layers[2]):
        expected = layer(expected)
    assert np.abs(found[0]).max() > 0.01
    np.testing.assert_allclose(found[0], expected.asnumpy(), rtol=1e-4, atol=1e-5)


def test_a_tapped_block_normalizes_in_float32_in_mixed_precision(load_recipe):
    """Mixed precision replaces BatchNorm layers, and the tapped block must use the new ones."""
    detector = create_detector(load_recipe("ssdlite_mobilenetv2", num_classes=3))
    to_mixed_precision(detector, "O2")
    block = detector.backbone.features.net.name_cells()["features_16"]
    (tapped,) = detector.backbone.features.layers_of_blocks
    assert tapped is block.layers
    assert (
        tapped.cell_list[1] is block.layers.name_cells()["1"] and "BatchNorm" not in type(tapped.cell_list[1]).__name__
    )


@pytest.mark.parametrize(
    "name, out_indices, parts",
    [
        ("resnet50", [2, 3], ["MobileNetV2"]),
        ("mobilenet_v2_100", [18], ["18"]),
        ("mobilenet_v2_100", [13], ["13"]),
        ("mobilenet_v2_100", [12, 18], ["12", "[1, 3, 6, 13]"]),
        ("mobilenet_v2_100", [0, 18], ["index 0 ", "[1, 3, 6, 13]"]),  # block 1 does not expand
        ("mobilenet_v3_large_100", [6, 13, 16], ["13", "[1, 3, 6, 12]"]),
    ],
)
def test_stages_without_an_expansion_are_refused(name, out_indices, parts):
    with pytest.raises(UserError, match="^backbone_taps: ") as error:
        Backbone(name, out_indices, taps="expansion")
    assert all(part in str(error.value) for part in parts) and "\n" not in str(error.value)
