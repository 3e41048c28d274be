"""Necks: shapes of their levels, hand-computed outputs, and initialization."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from ssd.errors import UserError
from ssd.models.backbone import Backbone
from ssd.models.layers import InvertedResidual, LinearInvertedResidual
from ssd.models.neck import FPN, ResidualNeck, SSDLiteNeck, SSDNeck, create_neck

# Output of an untrained BatchNorm with the published epsilon for the input 1, in evaluation mode.
SHRINK = 1 / np.sqrt(1 + 1e-3)


def set_weight(parameter, value):
    parameter.set_data(Tensor(np.broadcast_to(value, parameter.shape).astype(np.float32)))


def make_identity(convolution):
    """Set the weights of a 3x3 convolution of one channel so that its output equals its input."""
    kernel = np.zeros((3, 3))
    kernel[1, 1] = 1
    set_weight(convolution.weight, kernel)


def convolutions(cell):
    return [child for _, child in cell.cells_and_names() if isinstance(child, nn.Conv2d)]


def maps(channels, sizes, batch=1):
    return [np.ones((batch, wide, *size), np.float32) for wide, size in zip(channels, sizes)]


@pytest.fixture
def run(call, on_levels):
    """run(neck, maps) returns the levels."""
    return lambda neck, arrays: call(on_levels(neck.set_train(False)), *arrays)


# --- SSDLite ---


def test_shapes_of_ssdlite_levels(run):
    neck = SSDLiteNeck([4, 10], [16, 32], [(8, 0.5, 2), (6, 0.25, 1)])
    assert neck.out_channels == [24, 10, 8, 6]  # the first map has six times its channels, the last one stays
    assert neck.strides == [16, 32, 64, 64]
    levels = run(neck, maps([4, 10], [(5, 7), (3, 4)]))
    assert [level.shape for level in levels] == [(1, 24, 5, 7), (1, 10, 3, 4), (1, 8, 2, 2), (1, 6, 2, 2)]


@pytest.mark.parametrize("recipe, activation_of_minus_1", [("ssd_mobilenetv2", 0), ("ssd_mobilenetv3", -1 / 3)])
def test_the_first_map_is_expanded_with_the_activation_of_the_backbone(recipe, activation_of_minus_1, load_recipe):
    cfg = load_recipe(recipe)
    neck = create_neck(cfg, Backbone(cfg.backbone, cfg.backbone_out_indices))
    convolution, norm = neck.expand[0][0], neck.expand[0][1]
    assert convolution.kernel_size == (1, 1)
    set_weight(convolution.weight, 0)
    set_weight(norm.beta, -1)  # ReLU6(-1) = 0, hard swish(-1) = -1 * (-1 + 3) / 6
    expanded = neck.expand[0].set_train(False)(Tensor(np.ones((1, convolution.in_channels, 2, 2), np.float32)))
    assert expanded.shape == (1, 6 * convolution.in_channels, 2, 2)
    np.testing.assert_allclose(expanded.asnumpy(), activation_of_minus_1, rtol=1e-5)


def test_initial_weights_have_a_standard_deviation_of_0_02():
    for neck in (SSDLiteNeck([32, 64], [16, 32], [(64, 1, 2)]), FPN([32, 64], [8, 16], out_channels=32, num_levels=3)):
        for convolution in convolutions(neck):
            assert 0.017 < convolution.weight.asnumpy().std() < 0.022  # 0.0176 if truncated at two standard deviations


# --- SSD ---


def test_shapes_of_ssd_levels(run):
    neck = SSDNeck([10], [8], [(8, 0.5, 2, True), (6, 0.25, 1, False), (4, 1, 1, True)])
    assert neck.out_channels == [10, 8, 6, 4]
    assert neck.feature_sizes((49, 80)) == [(7, 10), (4, 5), (2, 3), (2, 3)]
    levels = run(neck, maps([10], [(7, 10)]))
    assert [level.shape for level in levels] == [(1, 10, 7, 10), (1, 8, 4, 5), (1, 6, 2, 3), (1, 4, 2, 3)]
    assert [layer.out_channels for layer in convolutions(neck)] == [5, 8, 2, 6, 6, 4]
    assert not any(layer.has_bias for layer in convolutions(neck))


def test_hand_computed_ssd_block(run):
    neck = SSDNeck([1], [8], [(1, 1, 2, True)])
    for convolution in convolutions(neck):
        set_weight(convolution.weight, 1)
    level = np.array([[1, 2, 3], [4, 5, -6], [7, 8, 9]], np.float32)
    shrink = 1 / np.sqrt(1 + 1e-5)
    # ReLU turns -6 into 0. With padding 1 and stride 2 the kernel is centered on the four corners.
    expected = np.array([[1 + 2 + 4 + 5, 2 + 3 + 5], [4 + 5 + 7 + 8, 5 + 8 + 9]]) * shrink**2
    levels = run(neck, [level[None, None]])
    np.testing.assert_array_equal(levels[0][0, 0], level)  # the backbone's map, unchanged
    np.testing.assert_allclose(levels[1][0, 0], expected, rtol=1e-5)


def test_initial_weights_of_the_ssd_neck_have_xavier_s_limits():
    neck = SSDNeck([64], [8], [(64, 1, 2, True)])
    for convolution, fan in zip(convolutions(neck), (64 + 64, 9 * (64 + 64))):
        limit = np.sqrt(6 / fan)
        largest = np.abs(convolution.weight.asnumpy()).max()
        assert 0.95 * limit < largest <= limit


def test_shapes_of_levels_with_residual_blocks(run):
    neck = ResidualNeck([6, 10], [16, 32], [(8, 0.2, 2, True), (7, 0.25, 2, True)])
    assert neck.out_channels == [6, 10, 8, 7]  # all maps of the backbone stay
    assert neck.feature_sizes((150, 100)) == [(10, 7), (5, 4), (3, 2), (2, 1)]
    levels = run(neck, maps([6, 10], [(10, 7), (5, 4)]))
    assert [level.shape for level in levels] == [(1, 6, 10, 7), (1, 10, 5, 4), (1, 8, 3, 2), (1, 7, 2, 1)]
    assert [layer.out_channels for layer in convolutions(neck)] == [2, 2, 8, 2, 2, 7]
    limit = np.sqrt(6 / (10 + 2))  # Xavier's
    assert 0.5 * limit < np.abs(convolutions(neck)[0].weight.asnumpy()).max() <= limit


def test_hand_computed_linear_residual_block(call):
    block = LinearInvertedResidual(1, 1, stride=2, expand_ratio=2).set_train(False)
    for convolution in convolutions(block):
        set_weight(convolution.weight, 1)
    set_weight(convolutions(block)[-1].weight, -1)
    level = np.array([[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 9]], np.float32)
    # ReLU6 turns 9 into 6. Both sides are padded, so the kernels of stride 2 are centered on rows and columns 0 and 2.
    # Two hidden channels with weight -1 give -2 times the sums, which no activation clips.
    shrink = 1 / np.sqrt(1 + 1e-5)
    expected = -2 * np.array([[1, 0], [0, 6]]) * shrink**2
    np.testing.assert_allclose(call(block, level[None, None])[0, 0], expected, rtol=1e-4)


# --- inverted residual ---


@pytest.mark.parametrize("stride, out_channels, has_shortcut", [(1, 4, True), (2, 4, False), (1, 6, False)])
def test_shortcut_if_shapes_are_equal(stride, out_channels, has_shortcut, call):
    block = InvertedResidual(4, out_channels, stride=stride, expand_ratio=2).set_train(False)
    set_weight(convolutions(block)[-1].weight, 0)  # so that only the shortcut contributes
    image = np.linspace(-8, 8, num=4 * 6 * 6, dtype=np.float32).reshape((1, 4, 6, 6))
    out = call(block, image)
    assert out.shape == (1, out_channels, 6 // stride, 6 // stride)
    np.testing.assert_array_equal(out, np.clip(image, 0, 6) if has_shortcut else 0)


@pytest.mark.parametrize("expand_ratio, widths", [(1, [10, 10, 7]), (0.25, [2, 2, 7]), (6, [60, 60, 7])])
def test_hidden_channels_follow_the_ratio(expand_ratio, widths):
    layers = convolutions(InvertedResidual(10, 7, stride=1, expand_ratio=expand_ratio))
    expected = widths if expand_ratio != 1 else widths[1:]  # ratio 1 needs no expansion
    assert [layer.out_channels for layer in layers] == expected
    assert [layer.group for layer in layers] == [1] * (len(layers) - 2) + [widths[0], 1]


@pytest.mark.parametrize("neck", [SSDLiteNeck, SSDNeck, ResidualNeck])
def test_blocks_without_hidden_channels_are_refused(neck):
    layer = (8, 0.04) + ((2,) if neck is SSDLiteNeck else (2, True))
    with pytest.raises(UserError, match="^extra_layers: .*0.04 of 10 .*0.1"):
        neck([10], [16], [layer])


# --- FPN ---


def test_shapes_of_fpn_levels(run):
    neck = FPN([4, 6, 8], [8, 16, 32], out_channels=5, num_levels=5)
    assert neck.out_channels == [5] * 5 and neck.strides == [8, 16, 32, 64, 128]
    # ceil(17 / 2) = 9 and ceil(9 / 2) = 5, so upsampling does not double all sides.
    levels = run(neck, maps([4, 6, 8], [(9, 12), (5, 6), (3, 3)], batch=2))
    assert [level.shape for level in levels] == [(2, 5, *size) for size in [(9, 12), (5, 6), (3, 3), (2, 2), (1, 1)]]


@pytest.fixture(scope="module")
def identity_fpn():
    """An FPN on two maps of one channel. Its convolutions are identities, but the finer map is multiplied by 0.5."""
    neck = FPN([1, 1], [8, 16], out_channels=1, num_levels=3)
    for lateral, weight in zip(neck.lateral, (0.5, 1)):
        set_weight(lateral.weight, weight)
        set_weight(lateral.bias, 0)
    for block in (*neck.output, *neck.downsample):
        make_identity(block[0])
    return neck


def test_hand_computed_upsampling(identity_fpn, run):
    coarse = np.array([[0, 2], [4, 5]], np.float32)
    levels = run(identity_fpn, [np.zeros((1, 1, 4, 4), np.float32), coarse[None, None]])
    # Row and column i of the fine map are at i/2 in the coarse map: 0, 1/2, 1, and 3/2, which is clipped to 1.
    expected = [[0, 1, 2, 2], [2, 2.75, 3.5, 3.5], [4, 4.5, 5, 5], [4, 4.5, 5, 5]]
    np.testing.assert_allclose(levels[0][0, 0], np.array(expected) * SHRINK, rtol=1e-5)
    np.testing.assert_allclose(levels[1][0, 0], coarse * SHRINK, rtol=1e-5)
    # Padding "same" pads only the end of a 2x2 map at stride 2, so the kernel is centered on the last location.
    np.testing.assert_allclose(levels[2][0, 0], [[5 * SHRINK**2]], rtol=1e-5)


def test_hand_computed_fpn_levels(identity_fpn, run):
    levels = run(identity_fpn, [np.full((1, 1, 4, 4), 3, np.float32), np.full((1, 1, 2, 2), 2, np.float32)])
    np.testing.assert_allclose(levels[0], (0.5 * 3 + 2) * SHRINK, rtol=1e-5)
    np.testing.assert_allclose(levels[1], 2 * SHRINK, rtol=1e-5)
    assert levels[2].shape == (1, 1, 1, 1)
    np.testing.assert_allclose(levels[2], 2 * SHRINK**2, rtol=1e-5)


def test_recipes_choose_the_fpn(load_recipe):
    cfg = load_recipe("ssd_resnet50_fpn", backbone="resnet18", fpn_channels=16)
    neck = create_neck(cfg, Backbone(cfg.backbone, cfg.backbone_out_indices))
    assert isinstance(neck, FPN) and neck.out_channels == [16] * 5 and neck.strides == [8, 16, 32, 64, 128]
    assert all(parameter.dtype == ms.float32 for parameter in neck.get_parameters())
