"""Backbones: shapes of their maps, limited strides, symmetric padding, and recipes that MindCV cannot serve."""

import math

import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from ssd.errors import UserError
from ssd.models.backbone import Backbone, _pad_symmetrically

PUBLISHED = [
    ("mobilenet_v2_100", [13, 18], [96, 1280], [16, 32]),
    ("mobilenet_v3_large_100", [12, 16], [112, 960], [16, 32]),
    ("resnet50", [2, 3, 4], [512, 1024, 2048], [8, 16, 32]),
]


@pytest.mark.parametrize("name, out_indices, channels, strides", PUBLISHED)
def test_channels_and_strides_are_those_of_the_maps(name, out_indices, channels, strides, call, pynative):
    backbone = Backbone(name, out_indices).set_train(False)
    assert (backbone.channels, backbone.strides) == (channels, strides)
    maps = call(backbone, np.zeros((1, 3, 65, 97), np.float32))  # odd sides, which are rounded up at every stride
    sizes = [(math.ceil(65 / stride), math.ceil(97 / stride)) for stride in strides]
    assert [level.shape for level in maps] == [(1, width, *size) for width, size in zip(channels, sizes)]


def test_parameter_names_begin_like_those_of_published_checkpoints():
    names = [parameter.name for parameter in Backbone("mobilenet_v2_100", [13, 18]).get_parameters()]
    assert names[0] == "features.net.features_0.weight"
    assert not any("classifier" in name for name in names)


@pytest.mark.parametrize("name", ["resnet51", "resnet", "", "ResNet50"])
def test_an_unknown_backbone_is_refused(name):
    with pytest.raises(UserError, match=rf"^backbone: '{name}'"):
        Backbone(name, [2])


def test_the_error_for_an_unknown_backbone_names_similar_models():
    with pytest.raises(UserError, match="mobilenet_v2_100"):
        Backbone("mobilenet_v2_101", [2])


def test_a_model_without_feature_maps_is_refused():
    with pytest.raises(UserError, match="^backbone: .*'squeezenet1_0'"):
        Backbone("squeezenet1_0", [2])


@pytest.mark.parametrize(
    "name, out_indices, max_stride, strides",
    [("resnet50", [2, 3], 8, [8, 8]), ("resnet18", [1, 4], 16, [4, 16]), ("mobilenet_v2_100", [13, 18], 16, [16, 16])],
)
def test_stages_beyond_the_largest_stride_keep_it(name, out_indices, max_stride, strides, call, pynative):
    backbone = Backbone(name, out_indices, max_stride).set_train(False)
    assert backbone.strides == strides
    maps = call(backbone, np.zeros((1, 3, 65, 97), np.float32))
    assert [level.shape[2:] for level in maps] == [
        (math.ceil(65 / stride), math.ceil(97 / stride)) for stride in strides
    ]


def test_a_largest_stride_changes_only_strides(call, rng, pynative):
    image = rng.normal(size=(1, 3, 64, 64)).astype(np.float32)
    full, limited = Backbone("resnet18", [2, 3]).set_train(False), Backbone("resnet18", [2, 3], 8).set_train(False)
    assert full.model_parameter_names == limited.model_parameter_names
    for source, target in zip(full.get_parameters(), limited.get_parameters()):
        assert source.name == target.name and source.shape == target.shape
        target.set_data(source.value())
    full_maps, limited_maps = call(full, image), call(limited, image)
    np.testing.assert_allclose(limited_maps[0], full_maps[0], rtol=1e-5, atol=1e-5)
    assert full_maps[1].shape == (1, 256, 4, 4) and limited_maps[1].shape == (1, 256, 8, 8)


def test_a_stage_whose_stride_is_in_a_pooling_layer_cannot_be_limited():
    with pytest.raises(UserError, match="^backbone_max_stride: 8 "):
        Backbone("resnest50", [2, 3], 8)


@pytest.mark.parametrize("max_stride", [3, 64])
def test_a_largest_stride_that_no_stage_has_is_refused(max_stride):
    with pytest.raises(UserError, match=rf"^backbone_max_stride: {max_stride} .*\[2, 4, 8, 16, 32\]"):
        Backbone("resnet18", [2, 3], max_stride)


@pytest.mark.parametrize("out_indices", [[18, 13], [13, 13], [-1, 13], [13, 19]])
def test_impossible_out_indices_are_refused(out_indices):
    with pytest.raises(UserError) as error:
        Backbone("mobilenet_v2_100", out_indices)
    message = str(error.value)
    assert message.startswith("backbone_out_indices: ") and str(out_indices) in message and "0 to 18" in message


def test_padding_of_strided_poolings_as_in_pytorch(call):
    image = np.arange(16, dtype=np.float32).reshape((1, 1, 4, 4))
    for padding, names, expected in (
        ("mindcv", ["max_pool"], [[10, 11], [14, 15]]),  # rows 0..2 and 2..3
        ("torch", [], [[5, 7], [13, 15]]),  # rows 0..1 and 1..3
    ):
        backbone = Backbone("resnet18", [1], padding=padding)
        assert backbone.asymmetric_layers == names
        assert call(backbone.features.net.max_pool, image).tolist() == [[expected]]


def test_padding_of_strided_convolutions_as_in_pytorch(call):
    ones = np.ones((1, 64, 4, 4), np.float32)
    for padding, expected in (("mindcv", [[9, 6], [6, 4]]), ("torch", [[4, 6], [6, 9]])):
        backbone = Backbone("mobilenet_v3_large_100", [1, 2], padding=padding)
        convolution = backbone.features.net.features_4.layers[3]
        convolution.weight.set_data(Tensor(np.ones((64, 1, 3, 3), np.float32)))
        assert call(convolution, ones)[0, 5].tolist() == expected
        if padding == "mindcv":
            assert backbone.asymmetric_layers[0] == "features.4.layers.3" and len(backbone.asymmetric_layers) == 4
        else:
            assert backbone.asymmetric_layers == []


def test_symmetric_padding_keeps_the_sizes_of_maps(call, pynative):
    backbone = Backbone("mobilenet_v3_large_100", [12, 16], padding="torch").set_train(False)
    maps = call(backbone, np.zeros((1, 3, 65, 97), np.float32))
    assert [level.shape for level in maps] == [(1, 112, 5, 7), (1, 960, 3, 4)]


class PoolOfReLU(nn.Cell):
    def __init__(self, pool):
        super().__init__()
        self.pool = pool

    def construct(self, x):
        return self.pool(ops.relu(x))


def test_pooling_behind_a_relu_equals_padded_pooling():
    """Outputs and gradients are equal, for maps with many equal values and zeros."""
    (pool,) = [
        cell for _, cell in Backbone("resnet18", [1], padding="torch").cells_and_names() if "Pool" in str(type(cell))
    ][:1]
    rng = np.random.default_rng(0)
    maps = Tensor(rng.integers(-2, 3, (2, 3, 8, 9)).astype(np.float32))
    results = []
    for candidate in (pool, nn.MaxPool2d(3, 2, pad_mode="pad", padding=1)):
        net = PoolOfReLU(candidate)
        out = net(maps)
        sens = Tensor(np.arange(out.size, dtype=np.float32).reshape(out.shape) + 1)
        results.append((out.asnumpy(), ops.GradOperation(sens_param=True)(net)(maps, sens).asnumpy()))
    assert results[0][0].shape == (2, 3, 4, 5)
    for found, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("position, is_padded_with_zeros", [(0, False), (1, True), (2, False)])
def test_only_poolings_behind_a_relu_are_padded_with_zeros(position, is_padded_with_zeros):
    """The first layer of a cell follows no layer of the cell, although the last one is a ReLU."""
    layers = [nn.ReLU(), nn.Conv2d(1, 1, 1), nn.ReLU()]
    parent = nn.Cell()
    for index, layer in enumerate([*layers[:position], nn.MaxPool2d(3, 2, pad_mode="same"), *layers[position:]]):
        setattr(parent, f"layer_{index}", layer)
    _pad_symmetrically(parent)
    negative = Tensor(np.full((1, 1, 4, 4), -1, np.float32))
    padded = parent.name_cells()[f"layer_{position}"](negative).asnumpy()
    assert padded.max() == (0 if is_padded_with_zeros else -1)
