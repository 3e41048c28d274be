"""Feature map counts: by hand for small networks, and equal to the maps that networks compute."""

import dataclasses
import math

import mindspore.nn as nn
import numpy as np
import pytest
from mindspore import Tensor

from ssd.models.detector import create_detector, to_mixed_precision
from ssd.models.layers import BatchNorm2d, ConvBNReLU6
from ssd.training import feature_maps
from ssd.training.feature_maps import FeatureMapValues, count_feature_map_values
from ssd.training.optimizer import freeze


def count(cell, channels=3, size=(8, 10)):
    values = FeatureMapValues()
    feature_maps._count(values, cell, channels=channels, size=size)
    return values


def test_convolution_batch_norm_and_relu6():
    assert count(ConvBNReLU6(3, 16, stride=2)) == FeatureMapValues(
        16 * 4 * 5, batch_norm=16 * 4 * 5, activation=16 * 4 * 5
    )


@pytest.mark.parametrize(
    "layer, expected",
    [
        (nn.Conv2d(3, 2, 3, stride=2, pad_mode="same"), 2 * 4 * 5),
        (nn.Conv2d(3, 2, 3, stride=2, pad_mode="valid"), 2 * 3 * 4),
        (nn.Conv2d(3, 2, 3, pad_mode="valid", dilation=2), 2 * 4 * 6),
        (nn.Conv2d(3, 2, 7, stride=2, pad_mode="pad", padding=3), 2 * 4 * 5),
        (nn.Conv2d(3, 2, 3, pad_mode="pad", padding=(0, 0, 1, 1)), 2 * 6 * 10),
        (nn.SequentialCell(nn.MaxPool2d(3, 2, pad_mode="same"), nn.Conv2d(3, 2, 1)), 2 * 4 * 5),
        (nn.SequentialCell(nn.MaxPool2d(2, 2), nn.Conv2d(3, 2, 1)), 2 * 4 * 5),
        (nn.SequentialCell(nn.MaxPool2d(3, 2, pad_mode="pad", padding=(1, 1)), nn.Conv2d(3, 2, 1)), 2 * 4 * 5),
        (nn.SequentialCell(nn.Pad(((0, 0), (0, 0), (1, 2), (3, 0))), nn.Conv2d(3, 2, 1)), 2 * 11 * 13),
    ],
)
def test_size_of_maps(layer, expected):
    assert count(layer).convolution == expected


def test_relu_keeps_no_input():
    assert count(nn.SequentialCell(nn.Conv2d(3, 2, 1), nn.ReLU())).activation == 0
    assert count(nn.SequentialCell(nn.Conv2d(3, 2, 1), nn.HSwish())).activation == 2 * 80


def test_shortcut_reads_the_input_of_its_block():
    """As in ResNet: the layer after the main branch has stride 2 too, and reads the 4 channels of the input."""
    block = nn.SequentialCell(nn.Conv2d(4, 8, 3, stride=2), nn.Conv2d(8, 6, 1), nn.Conv2d(4, 6, 1, stride=2))
    assert count(block, channels=4).convolution == (8 + 6 + 6) * 4 * 5


@pytest.mark.parametrize(
    "recipe, image_size",
    [
        ("ssd_mobilenetv2", [300, 300]),
        ("ssdlite_mobilenetv2", [300, 300]),
        ("ssd_resnet50", [300, 300]),
        ("ssd_resnet50_fpn", [128, 256]),
    ],
)
def test_counts_equal_the_outputs_of_a_forward_pass(recipe, image_size, load_recipe, pynative):
    """In PyNative mode, Python hooks see the shape of every output."""
    cfg = load_recipe(recipe, num_classes=4, image_size=image_size)
    detector = create_detector(cfg).set_train(False)
    counted, outputs = count_feature_map_values(detector, image_size), {nn.Conv2d: 0, BatchNorm2d: 0, nn.ReLU6: 0}
    for _, cell in detector.cells_and_names():
        if type(cell) in outputs:

            def add(cell, inputs, output):
                outputs[type(cell)] += math.prod(output.shape)

            cell.register_forward_hook(add)
    detector(Tensor(np.zeros((1, 3, *image_size), np.float32)))
    assert dataclasses.astuple(counted) == tuple(outputs.values())


def test_mixed_precision_and_frozen_batch_norm_change_no_count(tiny_recipe):
    cfg = tiny_recipe()
    counts = count_feature_map_values(create_detector(cfg), cfg.image_size)
    for amp_level in ("O2", "O3"):
        assert count_feature_map_values(to_mixed_precision(create_detector(cfg), amp_level), cfg.image_size) == counts
    detector = create_detector(cfg)
    freeze(detector, "backbone_batch_norm")
    assert count_feature_map_values(detector, cfg.image_size) == counts


def test_shared_head_without_tower(load_recipe):
    cfg = load_recipe("ssd_resnet50_fpn", image_size=[128, 128], num_classes=4, num_addition_layers=0)
    none = count_feature_map_values(create_detector(cfg), cfg.image_size)
    cfg = cfg.model_copy(update={"num_addition_layers": 1})
    one = count_feature_map_values(create_detector(cfg), cfg.image_size)
    locations = sum(side**2 for side in (16, 8, 4, 2, 1))
    assert one.convolution - none.convolution == 2 * 256 * locations


def test_frozen_backbone_is_not_counted(tiny_recipe):
    cfg = tiny_recipe()
    detector = create_detector(cfg)
    whole, backbone = count_feature_map_values(detector, cfg.image_size), count(detector.backbone, size=cfg.image_size)
    freeze(detector, "backbone")
    rest = count_feature_map_values(detector, cfg.image_size)
    assert rest.convolution == whole.convolution - backbone.convolution > 0
