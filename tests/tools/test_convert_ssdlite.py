"""Conversion of uvipen's SSDLite: names and channel orders typed by hand, and refused files."""

import json

import numpy as np
import pytest
from state_dict_arrays import batch_norm_shapes, random_arrays

from ssd.checkpoints.reading import read_checkpoint
from ssd.checkpoints.records import METADATA_KEY
from weight_conversion.detector_names import ssdlite_format


def test_ssdlite_names_and_channel_orders():
    """Of a backbone with one block, between the first and the last convolution."""
    torch_names = {
        "backbone.features.net.features_0.weight": "feature_extractor.feature_extractor.0.0.weight",
        "backbone.features.net.features_1.gamma": "feature_extractor.feature_extractor.0.1.weight",
        "backbone.features.net.features_3.layers.0.weight": "feature_extractor.feature_extractor.1.conv.0.0.weight",
        "backbone.features.net.features_3.layers.3.weight": "feature_extractor.feature_extractor.1.conv.1.weight",
        "backbone.features.net.features_20.weight": "feature_extractor.feature_extractor.2.0.weight",
        "backbone.features.net.features_21.moving_mean": "feature_extractor.feature_extractor.2.1.running_mean",
        "neck.extras.0.conv.0.0.weight": "additional_blocks.0.conv.0.0.weight",
        "neck.extras.3.conv.1.1.moving_variance": "additional_blocks.3.conv.1.1.running_var",
        "neck.extras.1.conv.3.beta": "additional_blocks.1.conv.3.bias",
        "head.box.0.0.bias": "loc.0.0.bias",
        "head.box.5.1.gamma": "loc.5.1.weight",
        "head.cls.0.3.bias": "conf.0.3.bias",
    }
    ssdlite = ssdlite_format(torch_names, num_classes=2, num_anchors_per_location=[6] * 6)
    assert ssdlite.mindspore_names == {torch_name: name for name, torch_name in torch_names.items()}
    # uvipen: 6 channels of the background, 6 of the class. Here: background and class of the first anchor, and so on.
    assert ssdlite.channel_orders == {"head.cls.0.3.bias": [0, 6, 2, 8, 3, 9, 4, 10, 5, 11, 1, 7]}
    boxes = ssdlite_format(["head.box.2.3.weight"], num_classes=2, num_anchors_per_location=[6] * 6)
    # uvipen: 6 channels of cx, 6 of cy, 6 of w, 6 of h. Here: cy, cx, h, w of the small square, of the wide box, …
    assert boxes.channel_orders["head.box.2.3.weight"][:8] == [6, 0, 18, 12, 8, 2, 20, 14]
    assert boxes.channel_orders["head.box.2.3.weight"][20:] == [7, 1, 19, 13]


def residual_shapes(name, in_channels, out_channels, expansion):
    """{name: shape} of torchvision's inverted residual block. expansion: hidden channels / input channels"""
    hidden = round(in_channels * expansion)
    shapes = {} if expansion == 1 else {f"{name}.0.0.weight": (hidden, in_channels, 1, 1)}
    shapes |= {} if expansion == 1 else batch_norm_shapes(f"{name}.0.1", hidden)
    first = 0 if expansion == 1 else 1
    shapes |= {f"{name}.{first}.0.weight": (hidden, 1, 3, 3), **batch_norm_shapes(f"{name}.{first}.1", hidden)}
    shapes |= {f"{name}.{first + 1}.weight": (out_channels, hidden, 1, 1)}
    return {**shapes, **batch_norm_shapes(f"{name}.{first + 2}", out_channels)}


def predictor_shapes(name, in_channels, out_channels):
    return {f"{name}.weight": (out_channels, in_channels, 1, 1), f"{name}.bias": (out_channels,)}


@pytest.fixture(scope="module")
def small_ssdlite():
    """A state dict with uvipen's names for 2 classes and background, with the predictors of a seventh level."""
    backbone, channels = "feature_extractor.feature_extractor", [32, 16, *[24] * 2, *[32] * 3, *[64] * 4, *[96] * 3]
    channels += [*[160] * 3, 320]  # arXiv:1801.04381, table 2
    shapes = {f"{backbone}.0.0.weight": (32, 3, 3, 3), **batch_norm_shapes(f"{backbone}.0.1", 32)}
    for block, (in_channels, out_channels) in enumerate(zip(channels, channels[1:]), start=1):
        name, expansion = f"{backbone}.{block}.conv", 1 if block == 1 else 6
        shapes |= residual_shapes(name, in_channels, out_channels, expansion=expansion)
    shapes |= {f"{backbone}.18.0.weight": (1280, 320, 1, 1), **batch_norm_shapes(f"{backbone}.18.1", 1280)}
    shapes[f"{backbone}.18.1.num_batches_tracked"] = ()
    blocks = zip([1280, 512, 256, 256], [512, 256, 256, 64], [0.2, 0.25, 0.5, 0.25])
    for block, (in_channels, out_channels, expansion) in enumerate(blocks):
        shapes |= residual_shapes(f"additional_blocks.{block}.conv", in_channels, out_channels, expansion=expansion)
    for branch, values in (("loc", 4), ("conf", 3)):
        for level, width in enumerate([576, 1280, 512, 256, 256, 64]):
            shapes |= {f"{branch}.{level}.0.weight": (width, 1, 3, 3), f"{branch}.{level}.0.bias": (width,)}
            shapes |= batch_norm_shapes(f"{branch}.{level}.1", width)
            shapes |= {
                f"{branch}.{level}.3.weight": (6 * values, width, 1, 1),
                f"{branch}.{level}.3.bias": (6 * values,),
            }
        shapes |= {f"{branch}.6.weight": (6 * values, 64, 1, 1), f"{branch}.6.bias": (6 * values,)}
    return random_arrays(shapes)


def test_ssdlite(convert_with, small_ssdlite, tmp_path):
    arrays = {f"module.{name}": value for name, value in small_ssdlite.items()}
    code, out, err = convert_with("ssdlite_mobilenetv2", arrays, "--num_classes", 3)
    assert (code, err) == (0, "")
    assert "SSDLite" in out and "--ckpt_path" in out and "ignored 4 names" in out and "conf.6.bias" in out
    assert "note:" not in out
    content = read_checkpoint(tmp_path / "out.ckpt")
    metadata = json.loads(content.pop(METADATA_KEY))
    assert metadata["network"]["backbone_taps"] == "expansion" and metadata["classes"]["loss"] == "multibox"
    stored = {name: value.asnumpy() for name, value in content.items()}
    assert sum(value.size for value in stored.values()) == 4_502_132 - sum(
        6 * (81 - 3) * (width + 1) for width in (576, 1280, 512, 256, 256, 64)
    )
    # The second anchor here is uvipen's third; its cy is channel 4 here, and in uvipen's second 6 channels.
    assert np.array_equal(stored["head.box.0.3.weight"][4], small_ssdlite["loc.0.3.weight"][6 + 2])
    # The last of 6 anchors is uvipen's second; the last class has uvipen's channels from 12.
    assert np.array_equal(stored["head.cls.1.3.bias"][17], small_ssdlite["conf.1.3.bias"][12 + 1])
    for name, torch_name in (
        ("backbone.features.net.features_16.layers.0.weight", "feature_extractor.feature_extractor.14.conv.0.0.weight"),
        ("neck.extras.2.conv.1.1.moving_mean", "additional_blocks.2.conv.1.1.running_mean"),
        ("head.cls.5.0.bias", "conf.5.0.bias"),
    ):
        assert np.array_equal(stored[name], small_ssdlite[torch_name])


@pytest.mark.parametrize(
    "recipe, arguments, parts",
    [
        ("ssd_resnet50", [], ["neck: got 'convs'", "ssdlite_mobilenetv2"]),
        ("ssd_mobilenetv2", [], ["neck: got 'extras'", "ssdlite_mobilenetv2"]),
        ("ssdlite_mobilenetv2", ["--backbone_taps", "output"], ["backbone_taps: got 'output'"]),
        ("ssdlite_mobilenetv2", ["--box_sizes", "[60,105,150,195,240,285,315]"], ["box_sizes: "]),
        ("ssdlite_mobilenetv2", ["--num_classes", 4], ["conf.0.3.bias", "(18,)", "(24,)"]),
    ],
)
def test_ssdlite_needs_its_recipe(recipe, arguments, parts, convert_with, small_ssdlite, tmp_path):
    code, _, err = convert_with(recipe, small_ssdlite, *arguments)
    assert code == 2 and len(err.splitlines()) == 1 and all(part in err for part in parts)
    assert not (tmp_path / "out.ckpt").exists()


@pytest.mark.parametrize("half", ["feature_extractor.", "loc."])
def test_half_an_ssdlite_is_refused(half, convert_with, small_ssdlite, tmp_path):
    arrays = {name: value for name, value in small_ssdlite.items() if not name.startswith(half)}
    code, out, err = convert_with("ssdlite_mobilenetv2", arrays, "--num_classes", 3)
    assert code == 2 and len(err.splitlines()) == 1 and "0 PyTorch" in err and "missing" in out
    assert not (tmp_path / "out.ckpt").exists()


def test_ssdlite_with_nan_is_refused(convert_with, small_ssdlite, tmp_path):
    bias = small_ssdlite["conf.3.0.bias"].copy()
    bias[7] = np.nan
    code, _, err = convert_with("ssdlite_mobilenetv2", {**small_ssdlite, "conf.3.0.bias": bias}, "--num_classes", 3)
    assert code == 2 and len(err.splitlines()) == 1 and "head.cls.3.0.bias" in err
    assert not (tmp_path / "out.ckpt").exists()
