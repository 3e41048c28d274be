"""Heads: the order of predictions, and the layers that levels share."""

from typing import get_args

import numpy as np
import pytest
from mindspore import Tensor, nn

from ssd.boxes.anchors import DefaultBoxes, GridAnchors
from ssd.config.schema import Config
from ssd.errors import UserError
from ssd.models.head import (
    BiasedSSDLiteHead,
    RetinaNetHead,
    SSDHead,
    SSDLiteHead,
    create_head,
    initialize_class_bias,
    predictor_parameter_names,
)

K = 3
IMAGE_SIZE, STEPS = (64, 96), (16, 32)  # maps of 4x6 and 2x3 locations


def make_identity(convolution):
    """Set the weights of a convolution so that output channel i equals input channel i."""
    weight = np.zeros(convolution.weight.shape, np.float32)
    height, width = weight.shape[2:]
    for channel in range(min(weight.shape[0], convolution.in_channels)):
        weight[channel, 0 if convolution.group > 1 else channel, height // 2, width // 2] = 1
    convolution.weight.set_data(Tensor(weight))
    if convolution.has_bias:
        convolution.bias.set_data(Tensor(np.zeros(convolution.bias.shape, np.float32)))


def make_all_identities(head):
    """Set the weights of all convolutions of a head like `make_identity`."""
    for _, cell in head.cells_and_names():
        if isinstance(cell, nn.Conv2d):
            make_identity(cell)
    return head.set_train(False)


DEFAULT_BOXES = DefaultBoxes(IMAGE_SIZE, STEPS, min_scale=0.2, max_scale=0.9, aspect_ratios=[[2, 3], [2]])
HEADS = {
    "separate": (lambda: SSDLiteHead([24, 24], [6, 4], K), DEFAULT_BOXES),
    "separate_bias": (lambda: BiasedSSDLiteHead([24, 24], [6, 4], K), DEFAULT_BOXES),
    "plain": (lambda: SSDHead([24, 24], [6, 4], K), DEFAULT_BOXES),
    "shared": (lambda: RetinaNetHead(24, 6, K, num_levels=2, num_convs=1), GridAnchors(IMAGE_SIZE, STEPS)),
}


@pytest.fixture(scope="module", params=HEADS)
def head_and_anchors(request, on_levels):
    make_head, anchors = HEADS[request.param]
    return on_levels(make_all_identities(make_head())), anchors


@pytest.mark.parametrize("level, row, col, box", [(0, 0, 0, 0), (0, 2, 5, 3), (0, 3, 1, 5), (1, 0, 2, 1), (1, 1, 0, 3)])
def test_predictions_are_in_the_order_of_the_anchors(level, row, col, box, head_and_anchors, call):
    head, anchors = head_and_anchors
    # Find the anchor: number `box` of those with this center. The steps are such that levels have no common centers.
    center = (np.array([row, col]) + 0.5) * STEPS[level] / IMAGE_SIZE
    index = np.flatnonzero(np.abs(anchors.boxes_cyxhw[:, :2] - center).max(axis=1) < 1e-6)[box]
    for output, values in ((0, 4), (1, K)):
        for value in range(values):
            levels = [np.zeros((2, 24, *size), np.float32) for size in anchors.feature_sizes]
            levels[level][1, box * values + value, row, col] = 1
            predictions = call(head, *levels)[output]
            assert predictions.shape == (2, len(anchors), values)
            assert np.argwhere(predictions > 0.9).tolist() == [[1, index, value]]


def test_every_head_of_the_recipes_is_tested():
    assert set(HEADS) == set(get_args(Config.model_fields["head"].annotation))


@pytest.mark.parametrize("name", HEADS)
def test_predictors_are_found(name, load_recipe):
    """The last convolution of each level, also if the convolutions before it have a bias."""
    cfg = load_recipe("ssd_resnet50_fpn" if name == "shared" else "ssd_mobilenetv2", head=name, prior_bias=0.01)
    head = create_head(cfg, [24, 24], [6, 6])
    shapes = {parameter.name: parameter.shape for parameter in head.get_parameters()}
    levels = 1 if name == "shared" else 2
    for names, channels in zip(predictor_parameter_names(head), (4 * 6, cfg.num_classes * 6)):
        assert [shapes[name][0] for name in names] == [channels] * 2 * levels
        assert all(shapes[name] == (channels,) for name in names[1::2])


def test_biases_before_the_predictors_are_left_alone():
    class Deep(SSDHead):
        def _predictor(self, in_channels, out_channels):
            first = nn.Conv2d(in_channels, 5, kernel_size=3, has_bias=True)
            return nn.SequentialCell([first, nn.Conv2d(5, out_channels, kernel_size=3, has_bias=True)])

    head = Deep([8, 12], [3, 6], K)
    assert predictor_parameter_names(head)[1] == [
        f"cls.{level}.1.{part}" for level in (0, 1) for part in ("weight", "bias")
    ]
    initialize_class_bias(head, num_classes=K, prior=0.01)
    assert head.cls[0][0].bias.shape == (5,) and not head.cls[0][0].bias.asnumpy().any()


def parameter_names(head, part):
    return sorted(parameter.name for parameter in head.get_parameters() if part in parameter.name)


def test_levels_of_the_retinanet_head_share_convolutions():
    head = RetinaNetHead(8, 6, K, num_levels=3, num_convs=2)
    towers = [f"{tower}.0.{step}.0" for tower in ("box_tower", "cls_tower") for step in range(2)]
    assert parameter_names(head, "weight") == sorted(f"{name}.weight" for name in [*towers, "box", "cls"])
    for tower in (head.box_tower, head.cls_tower):
        for step in range(2):
            assert tower[0][step][0] is tower[1][step][0] is tower[2][step][0]
    assert head.box_tower[0][0][0] is not head.cls_tower[0][0][0]
    assert head.box_tower[0][0][0] is not head.box_tower[0][1][0]


def test_levels_of_the_retinanet_head_have_their_own_batch_norms(call, on_levels):
    head = RetinaNetHead(8, 6, K, num_levels=3, num_convs=2)
    assert len(parameter_names(head, "gamma")) == 2 * 3 * 2  # towers, levels, convolutions
    assert len(parameter_names(head, "moving_mean")) == 2 * 3 * 2
    levels = [np.random.default_rng(0).normal(size=(2, 8, 4, 4)).astype(np.float32)] * 3
    net = on_levels(head.set_train(False))
    before = call(net, *levels)
    head.box_tower[1][0][1].gamma.set_data(Tensor(np.full(8, 3, np.float32)))
    head.cls_tower[2][1][1].gamma.set_data(Tensor(np.full(8, 3, np.float32)))
    after = call(net, *levels)
    for output, expected in ((0, [False, True, False]), (1, [False, False, True])):
        changed = np.any(after[output] != before[output], axis=(0, 2)).reshape(3, -1)
        assert changed.any(axis=1).tolist() == expected


def test_ssd_head_has_a_convolution_for_each_level():
    head = SSDHead([8, 12], [3, 6], K)
    shapes = {name: parameter.shape for name, parameter in head.parameters_dict().items()}
    assert shapes == {
        "box.0.weight": (12, 8, 3, 3),
        "box.0.bias": (12,),
        "box.1.weight": (24, 12, 3, 3),
        "box.1.bias": (24,),
        "cls.0.weight": (9, 8, 3, 3),
        "cls.0.bias": (9,),
        "cls.1.weight": (18, 12, 3, 3),
        "cls.1.bias": (18,),
    }


def test_ssdlite_head_has_separable_convolutions_for_each_level():
    head = SSDLiteHead([8, 12], [3, 6], K)
    shapes = {name: parameter.shape for name, parameter in head.parameters_dict().items()}
    assert shapes["box.0.0.weight"] == (8, 1, 3, 3) and shapes["box.0.3.weight"] == (12, 8, 1, 1)
    assert shapes["cls.1.0.weight"] == (12, 1, 3, 3) and shapes["cls.1.3.weight"] == (6 * K, 12, 1, 1)


def test_biased_head_has_biases_and_the_batch_norm_of_pytorch():
    head = BiasedSSDLiteHead([8, 12], [3, 6], K)
    shapes = {name: parameter.shape for name, parameter in head.parameters_dict().items()}
    assert shapes["box.0.0.weight"] == (8, 1, 3, 3) and shapes["box.0.0.bias"] == (8,)
    assert shapes["cls.1.3.weight"] == (6 * K, 12, 1, 1) and shapes["cls.1.3.bias"] == (6 * K,)
    assert (head.cls[1][1].eps, head.cls[1][1].momentum) == pytest.approx((1e-5, 0.1))


@pytest.mark.parametrize("in_channels, num_anchors, part", [([8, 12], [6, 6], "[8, 12]"), ([8, 8], [6, 4], "[6, 4]")])
def test_a_shared_head_needs_equal_levels(in_channels, num_anchors, part, load_recipe):
    with pytest.raises(UserError, match="^head: ") as error:
        create_head(load_recipe("ssd_resnet50_fpn"), in_channels, num_anchors)
    assert part in str(error.value)


def test_recipes_choose_the_head(load_recipe):
    assert type(create_head(load_recipe("ssd_mobilenetv2"), [8] * 6, [3, 6, 6, 6, 6, 6])) is SSDLiteHead
    assert type(create_head(load_recipe("ssd_resnet50"), [8] * 6, [4, 6, 6, 6, 4, 4])) is SSDHead
    cfg = load_recipe("ssd_resnet50_fpn", num_addition_layers=1)
    head = create_head(cfg, [8] * 5, [6] * 5)
    assert isinstance(head, RetinaNetHead) and len(head.box_tower) == 5 and len(head.box_tower[0]) == 1
    assert head.cls.out_channels == 6 * 81
