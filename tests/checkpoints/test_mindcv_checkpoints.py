"""Checkpoints of MindCV's example: each parameter name finds its place."""

import re

import pytest

from checkpoint_files import expect_equal, training_state, write
from ssd.checkpoints.loading import load_weights
from ssd.models.detector import create_detector

# Patterns of our parameter names and the names in MindCV's example. The example wraps convolutions and BatchNorms in a
# cell called `features`, except in MobileNetV3's expansion of the first map.
PUBLISHED_NAMES = [
    (r"backbone\.features\.(.+)", r"backbone_wrapper.backbone.\1"),
    (r"neck\.expand\.0\.(.+)", r"backbone_wrapper.feature1_expand_layer.{features}\1"),
    (r"neck\.extras\.(\d)\.conv\.(\d)\.(\d\..+)", r"backbone_wrapper.multi_residual.\1.conv.\2.features.\3"),
    (r"neck\.extras\.(\d)\.conv\.(\d\.[a-z].+)", r"backbone_wrapper.multi_residual.\1.conv.\2"),
    (r"neck\.lateral\.(.+)", r"backbone_wrapper.fpn.lateral_convs_list.\1"),
    (r"neck\.output\.(\d)\.(.+)", r"backbone_wrapper.fpn.fpn_convs_list.\1.features.\2"),
    (r"neck\.downsample\.(\d)\.(.+)", r"backbone_wrapper.bottom_up.blocks.\1.features.\2"),
    (r"head\.box_tower\.(\d)\.(\d)\.(.+)", r"multi_box.addition_layer_loc.\1.\2.features.\3"),
    (r"head\.cls_tower\.(\d)\.(\d)\.(.+)", r"multi_box.addition_layer_cls.\1.\2.features.\3"),
    (r"head\.box\.(\d\..+)", r"multi_box.multi_loc_layers.\1"),
    (r"head\.cls\.(\d\..+)", r"multi_box.multi_cls_layers.\1"),
    (r"head\.box\.([a-z]+)", r"multi_box.loc_layers.0.\1"),
    (r"head\.cls\.([a-z]+)", r"multi_box.cls_layers.0.\1"),
]
# Names in files that the example wrote, one of each kind.
SSDLITE = """
    backbone_wrapper.multi_residual.0.conv.0.features.0.weight
    backbone_wrapper.multi_residual.3.conv.1.features.0.weight
    backbone_wrapper.multi_residual.0.conv.1.features.1.gamma backbone_wrapper.multi_residual.1.conv.2.weight
    backbone_wrapper.multi_residual.2.conv.3.moving_variance multi_box.multi_loc_layers.0.0.weight
    multi_box.multi_loc_layers.3.1.moving_mean multi_box.multi_loc_layers.5.3.bias multi_box.multi_cls_layers.1.1.beta
    multi_box.multi_cls_layers.2.3.weight
"""
EXAMPLES = {
    "ssd_mobilenetv2": SSDLITE
    + """
    backbone_wrapper.backbone.net.features_0.weight backbone_wrapper.backbone.net.features_4.layers.1.moving_mean
    backbone_wrapper.feature1_expand_layer.features.0.weight backbone_wrapper.feature1_expand_layer.features.1.gamma
""",
    "ssd_mobilenetv3": SSDLITE
    + """
    backbone_wrapper.backbone.net.features_0.weight backbone_wrapper.feature1_expand_layer.0.weight
    backbone_wrapper.feature1_expand_layer.1.moving_variance
""",
    "ssd_resnet50_fpn": """
    backbone_wrapper.backbone.net.conv1.weight backbone_wrapper.backbone.net.layer1.0.down_sample.1.beta
    backbone_wrapper.fpn.lateral_convs_list.0.bias backbone_wrapper.fpn.lateral_convs_list.2.weight
    backbone_wrapper.fpn.fpn_convs_list.0.features.1.beta backbone_wrapper.fpn.fpn_convs_list.2.features.0.weight
    backbone_wrapper.bottom_up.blocks.1.features.0.weight backbone_wrapper.bottom_up.blocks.0.features.1.gamma
    multi_box.addition_layer_loc.0.0.features.0.weight multi_box.addition_layer_loc.4.3.features.1.moving_mean
    multi_box.addition_layer_cls.0.2.features.0.bias multi_box.addition_layer_cls.1.0.features.1.gamma
    multi_box.loc_layers.0.weight multi_box.cls_layers.0.bias
""",
}


def published_name(name, features="features."):
    for pattern, replacement in PUBLISHED_NAMES:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(replacement).replace("{features}", features)
    raise AssertionError(name)


@pytest.fixture(scope="module", params=EXAMPLES)
def detector(request, load_recipe):
    """(recipe, its detector), with neck and head as published but narrower."""
    narrow = {"fpn_channels": 8} if "fpn" in request.param else {}
    return request.param, create_detector(load_recipe(request.param, num_classes=4, **narrow))


def test_published_names_find_their_place(detector, tmp_path, randomize, values_of):
    recipe, net = detector
    features = "" if recipe == "ssd_mobilenetv3" else "features."
    expected = values_of(randomize(net, 1))
    content = {published_name(name, features): value for name, value in expected.items()}
    assert set(EXAMPLES[recipe].split()) - set(content) == set()  # the names above are those of the example
    write(tmp_path / "mindcv.ckpt", {**content, **training_state(content)})
    load_weights(randomize(net, 2), tmp_path / "mindcv.ckpt")
    expect_equal(values_of(net), expected)


def test_a_shared_convolution_is_in_the_file_once(load_recipe):
    net = create_detector(load_recipe("ssd_resnet50_fpn", backbone="resnet18", fpn_channels=8))
    towers = [
        published_name(name)
        for name in net.parameters_dict()
        if "tower" in name and "features.0" in published_name(name)
    ]
    expected = [f"multi_box.addition_layer_{kind}.0.{step}.features.0" for kind in ("loc", "cls") for step in range(4)]
    assert sorted(towers) == sorted(f"{name}.{part}" for name in expected for part in ("weight", "bias"))
