"""Backbones tell what they are, and refuse what MindCV does not have."""

import math

import numpy as np
import pytest
from mindspore import Tensor

from ssd.errors import UserError
from ssd.models.backbone import Backbone

PUBLISHED = [
    ("mobilenet_v2_100", [13, 18], [96, 1280], [16, 32]),
    ("mobilenet_v3_large_100", [12, 16], [112, 960], [16, 32]),
    ("resnet50", [2, 3, 4], [512, 1024, 2048], [8, 16, 32]),
]


@pytest.mark.parametrize("name, out_indices, channels, strides", PUBLISHED)
def test_channels_and_strides_are_those_of_the_maps(name, out_indices, channels, strides, call):
    backbone = Backbone(name, out_indices).set_train(False)
    assert (backbone.channels, backbone.strides) == (channels, strides)
    maps = call(backbone, np.zeros((1, 3, 65, 97), np.float32))  # odd sides, which are rounded up at every stride
    sizes = [(math.ceil(65 / stride), math.ceil(97 / stride)) for stride in strides]
    assert [level.shape for level in maps] == [(1, wide, *size) for wide, size in zip(channels, sizes)]


def test_parameters_start_with_the_names_of_published_checkpoints():
    names = [parameter.name for parameter in Backbone("mobilenet_v2_100", [13, 18]).get_parameters()]
    assert names[0] == "features.net.features_0.weight"
    assert not any("classifier" in name for name in names)


@pytest.mark.parametrize("name", ["resnet51", "resnet", "", "ResNet50"])
def test_an_unknown_backbone_is_refused(name):
    with pytest.raises(UserError, match=rf"^backbone: got '{name}', expected a MindCV model such as \w+"):
        Backbone(name, [2])


def test_a_refused_backbone_names_its_family():
    with pytest.raises(UserError, match="mobilenet_v2_"):
        Backbone("mobilenet_v2_101", [2])


def test_a_model_without_features_is_refused():
    with pytest.raises(
        UserError, match="^backbone: got 'squeezenet1_0', expected a MindCV model that can extract features"
    ):
        Backbone("squeezenet1_0", [2])


@pytest.mark.parametrize(
    "name, out_indices, max_stride, strides",
    [("resnet50", [2, 3], 8, [8, 8]), ("resnet18", [1, 4], 16, [4, 16]), ("mobilenet_v2_100", [13, 18], 16, [16, 16])],
)
def test_stages_beyond_the_largest_stride_keep_it(name, out_indices, max_stride, strides, call):
    backbone = Backbone(name, out_indices, max_stride).set_train(False)
    assert backbone.strides == strides
    maps = call(backbone, np.zeros((1, 3, 65, 97), np.float32))
    assert [level.shape[2:] for level in maps] == [(math.ceil(65 / one), math.ceil(97 / one)) for one in strides]


def test_a_largest_stride_changes_strides_and_nothing_else(call, rng):
    image = rng.normal(size=(1, 3, 64, 64)).astype(np.float32)
    whole, limited = Backbone("resnet18", [2, 3]).set_train(False), Backbone("resnet18", [2, 3], 8).set_train(False)
    assert whole.model_names == limited.model_names
    for one, other in zip(whole.get_parameters(), limited.get_parameters()):
        assert one.name == other.name and one.shape == other.shape
        other.set_data(one.value())
    (fine, coarse), (same, dense) = call(whole, image), call(limited, image)
    np.testing.assert_allclose(same, fine, rtol=1e-5, atol=1e-5)
    assert coarse.shape == (1, 256, 4, 4) and dense.shape == (1, 256, 8, 8)


def test_stages_that_end_in_a_pooling_cannot_be_limited():
    with pytest.raises(UserError, match="^backbone_max_stride: got 8 for a backbone whose stages have no strided"):
        Backbone("resnest50", [2, 3], 8)


@pytest.mark.parametrize("max_stride", [3, 64])
def test_a_largest_stride_that_no_stage_has_is_refused(max_stride):
    with pytest.raises(UserError, match=rf"^backbone_max_stride: got {max_stride}, expected .* \[2, 4, 8, 16, 32\]$"):
        Backbone("resnet18", [2, 3], max_stride)


@pytest.mark.parametrize("out_indices", [[18, 13], [13, 13], [-1, 13], [13, 19]])
def test_bad_out_indices_are_refused(out_indices):
    with pytest.raises(UserError) as error:
        Backbone("mobilenet_v2_100", out_indices)
    assert str(error.value) == f"backbone_out_indices: got {out_indices}, expected rising indices from 0 to 18"


def test_padding_of_strided_layers_as_in_pytorch(call):
    counting = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    for padding, names, expected in (
        ("mindcv", ["max_pool"], [[10, 11], [14, 15]]),  # rows 0..2 and 2..3
        ("torch", [], [[5, 7], [13, 15]]),  # rows 0..1 and 1..3
    ):
        backbone = Backbone("resnet18", [1], padding=padding)
        assert backbone.one_sided == names
        assert call(backbone.features.net.max_pool, counting).tolist() == [[expected]]


def test_padding_of_strided_convolutions_as_in_pytorch(call):
    ones = np.ones((1, 64, 4, 4), np.float32)
    for padding, expected in (("mindcv", [[9, 6], [6, 4]]), ("torch", [[4, 6], [6, 9]])):
        backbone = Backbone("mobilenet_v3_large_100", [1, 2], padding=padding)
        convolution = backbone.features.net.features_4.layers[3]
        convolution.weight.set_data(Tensor(np.ones((64, 1, 3, 3), np.float32)))
        assert call(convolution, ones)[0, 5].tolist() == expected
        if padding == "mindcv":
            assert backbone.one_sided[0] == "features.4.layers.3" and len(backbone.one_sided) == 4
        else:
            assert backbone.one_sided == []


def test_padding_keeps_the_sizes_of_maps(call):
    backbone = Backbone("mobilenet_v3_large_100", [12, 16], padding="torch").set_train(False)
    maps = call(backbone, np.zeros((1, 3, 65, 97), np.float32))
    assert [level.shape for level in maps] == [(1, 112, 5, 7), (1, 960, 3, 4)]
