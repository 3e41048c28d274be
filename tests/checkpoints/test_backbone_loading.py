"""ImageNet weights of MindCV: the backbone is filled and nothing else."""

import mindcv
import numpy as np
import pytest

from checkpoint_files import expect_equal, expect_refusal, write
from ssd.checkpoints.loading import load_backbone
from ssd.models.detector import create_detector

BACKBONES = [
    ("ssd_mobilenetv2", "mobilenet_v2_100"),
    ("ssd_mobilenetv3", "mobilenet_v3_large_100"),
    ("ssd_resnet50_fpn", "resnet50"),
]


def backbone_file(path, name, seed):
    """A checkpoint of a whole MindCV model with random values -> (path, its arrays in the order of the model)"""
    rng = np.random.default_rng(seed)
    model = mindcv.create_model(name)
    values = {parameter.name: rng.random(parameter.shape, dtype=np.float32) for parameter in model.get_parameters()}
    return write(path, values), list(values.values())


@pytest.mark.parametrize("recipe, backbone", BACKBONES)
def test_a_backbone_is_filled_and_nothing_else(recipe, backbone, load_recipe, tmp_path, values_of):
    net = create_detector(load_recipe(recipe, num_classes=4))
    before = values_of(net)
    path, expected = backbone_file(tmp_path / "a.ckpt", backbone, seed=1)
    load_backbone(net, path)
    found = [parameter.asnumpy() for parameter in net.backbone.get_parameters()]
    assert 0 < len(expected) - len(found) <= 4  # the classifier
    for value, ours in zip(expected, found):  # both are in the order of the layers
        np.testing.assert_array_equal(ours, value)
    others = {name for name in before if not name.startswith("backbone.")}
    expect_equal({name: values_of(net)[name] for name in others}, {name: before[name] for name in others})


@pytest.mark.parametrize(
    "backbone, part",
    [
        ("resnet18", "lacks"),
        ("mobilenet_v2_050_96", "got shape"),
        ("mobilenet_v3_small_100", "lacks"),
    ],
)
def test_the_file_of_another_backbone_is_refused(backbone, part, tiny_detector, tmp_path, randomize, values_of):
    path, _ = backbone_file(tmp_path / "a.ckpt", backbone, seed=1)
    expect_refusal(load_backbone, randomize(tiny_detector, 3), path, values_of, part)


def test_the_file_of_a_deeper_backbone_is_refused(load_recipe, tmp_path, values_of):
    # ResNet101 has a layer of every name and shape that ResNet50 has, and more.
    net = create_detector(load_recipe("ssd_resnet50_fpn", num_classes=4, fpn_channels=8))
    path, _ = backbone_file(tmp_path / "a.ckpt", "resnet101", seed=1)
    expect_refusal(load_backbone, net, path, values_of)
