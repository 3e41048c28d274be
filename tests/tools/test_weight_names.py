"""PyTorch parameter names and channel orders of the known networks, typed by hand."""

import pytest
from mindcv.models import create_model

from ssd.errors import UserError
from weight_conversion.detector_names import nvidia_anchor_order, ssd300_format
from weight_conversion.parameter_names import backbone_formats

# (model, index of its format): {PyTorch name: MindSpore name}, one of each kind of parameter
NAMES = {
    ("resnet50", 0): {
        "conv1.weight": "conv1.weight",
        "bn1.running_var": "bn1.moving_variance",
        "layer1.0.downsample.0.weight": "layer1.0.down_sample.0.weight",
        "layer4.0.downsample.1.running_mean": "layer4.0.down_sample.1.moving_mean",
        "layer3.5.bn3.weight": "layer3.5.bn3.gamma",
        "layer2.1.conv2.weight": "layer2.1.conv2.weight",
    },
    ("mobilenet_v2_100", 0): {
        "features.0.0.weight": "features.0.weight",
        "features.0.1.bias": "features.1.beta",
        "features.1.conv.0.0.weight": "features.3.layers.0.weight",
        "features.1.conv.1.weight": "features.3.layers.3.weight",
        "features.1.conv.2.running_mean": "features.3.layers.4.moving_mean",
        "features.2.conv.0.1.weight": "features.4.layers.1.gamma",
        "features.2.conv.1.0.weight": "features.4.layers.3.weight",
        "features.2.conv.2.weight": "features.4.layers.6.weight",
        "features.2.conv.3.weight": "features.4.layers.7.gamma",
        "features.17.conv.3.bias": "features.19.layers.7.beta",
        "features.18.0.weight": "features.20.weight",
        "features.18.1.running_var": "features.21.moving_variance",
    },
    ("mobilenet_v2_100", 1): {
        "conv_stem.weight": "features.0.weight",
        "bn1.weight": "features.1.gamma",
        "blocks.0.0.conv_dw.weight": "features.3.layers.0.weight",
        "blocks.0.0.bn1.bias": "features.3.layers.1.beta",
        "blocks.0.0.conv_pw.weight": "features.3.layers.3.weight",
        "blocks.0.0.bn2.weight": "features.3.layers.4.gamma",
        "blocks.1.0.conv_pw.weight": "features.4.layers.0.weight",
        "blocks.1.1.conv_dw.weight": "features.5.layers.3.weight",
        "blocks.2.0.bn2.running_mean": "features.6.layers.4.moving_mean",
        "blocks.3.3.conv_pwl.weight": "features.12.layers.6.weight",
        "blocks.6.0.bn3.running_var": "features.19.layers.7.moving_variance",
        "conv_head.weight": "features.20.weight",
        "bn2.weight": "features.21.gamma",
    },
    ("mobilenet_v3_large_100", 0): {
        "features.1.block.0.0.weight": "features.3.layers.0.weight",
        "features.1.block.1.1.weight": "features.3.layers.4.gamma",
        "features.4.block.0.0.weight": "features.6.layers.0.weight",
        "features.4.block.2.fc1.weight": "features.6.layers.6.conv_reduce.weight",
        "features.4.block.2.fc2.bias": "features.6.layers.6.conv_expand.bias",
        "features.4.block.3.0.weight": "features.6.layers.7.weight",
        "features.4.block.3.1.running_mean": "features.6.layers.8.moving_mean",
        "features.7.block.2.0.weight": "features.9.layers.6.weight",
        "features.16.0.weight": "features.18.weight",
        "features.16.1.bias": "features.19.beta",
    },
    ("mobilenet_v3_large_100", 1): {
        "blocks.0.0.bn1.weight": "features.3.layers.1.gamma",
        "blocks.2.0.se.conv_reduce.bias": "features.6.layers.6.conv_reduce.bias",
        "blocks.2.0.se.conv_expand.weight": "features.6.layers.6.conv_expand.weight",
        "blocks.2.0.conv_pwl.weight": "features.6.layers.7.weight",
        "blocks.2.0.bn3.bias": "features.6.layers.8.beta",
        "blocks.3.1.conv_dw.weight": "features.10.layers.3.weight",
        "blocks.5.2.bn2.running_var": "features.17.layers.4.moving_variance",
        "blocks.6.0.conv.weight": "features.18.weight",
        "blocks.6.0.bn1.running_mean": "features.19.moving_mean",
    },
}


@pytest.fixture(scope="module")
def parameter_names():
    """{model: names of its parameters} for three MindCV models."""
    models = ("resnet50", "mobilenet_v2_100", "mobilenet_v3_large_100")
    return {model: list(create_model(model).parameters_dict()) for model in models}


@pytest.mark.parametrize("model, format_index", NAMES)
def test_backbone_names(model, format_index, parameter_names):
    converted = backbone_formats(model, parameter_names[model])[format_index].mindspore_names
    for torch_name, expected in NAMES[model, format_index].items():
        assert converted[torch_name] == expected
    without_classifier = [name for name in parameter_names[model] if not name.startswith("classifier.")]
    assert sorted(converted.values()) == sorted(without_classifier)  # each of them once


def test_only_torchvision_mobilenet_v3_has_another_epsilon(parameter_names):
    epsilons = {
        model: [candidate.batch_norm_epsilon for candidate in backbone_formats(model, names)]
        for model, names in parameter_names.items()
    }
    assert epsilons == {
        "resnet50": [1e-5],
        "mobilenet_v2_100": [1e-5, 1e-5],
        "mobilenet_v3_large_100": [1e-3, 1e-5],
    }


def test_models_with_unknown_pytorch_names_are_refused():
    with pytest.raises(UserError, match="^backbone: .*'efficientnet_b0'"):
        backbone_formats("efficientnet_b0", [])


def test_ssd300_names_and_channel_orders():
    # Here: square, wide, tall, (wide, tall,) larger square. NVIDIA: square, larger square, wide, tall(, wide, tall).
    assert nvidia_anchor_order(4) == [0, 2, 3, 1]
    assert nvidia_anchor_order(6) == [0, 2, 3, 4, 5, 1]
    torch_names = {
        "backbone.features.net.conv1.weight": "feature_extractor.feature_extractor.0.weight",
        "backbone.features.net.layer3.0.conv2.weight": "feature_extractor.feature_extractor.6.0.conv2.weight",
        "neck.extras.4.3.weight": "additional_blocks.4.3.weight",
        "neck.extras.0.1.moving_variance": "additional_blocks.0.1.running_var",
        "head.box.0.weight": "loc.0.weight",
        "head.cls.0.bias": "conf.0.bias",
    }
    ssd300 = ssd300_format(torch_names, num_classes=2, num_anchors_per_location=[4])
    assert ssd300.mindspore_names == {torch_name: name for name, torch_name in torch_names.items()}
    assert ssd300.channel_orders == {
        # NVIDIA: 4 channels of cx, 4 of cy, 4 of w, 4 of h. Here: cy, cx, h, w of the first anchor, …
        "head.box.0.weight": [4, 0, 12, 8, 6, 2, 14, 10, 7, 3, 15, 11, 5, 1, 13, 9],
        # NVIDIA: 4 channels of the background, 4 of the class. Here: background and class of the first anchor, …
        "head.cls.0.bias": [0, 4, 2, 6, 3, 7, 1, 5],
    }
