"""Detectors of the shipped recipes: numbers of parameters, outputs, and recipes that contradict their network."""

import numpy as np
import pytest
from mindspore import Tensor, nn

from ssd.boxes.anchors import create_anchors
from ssd.checkpoints.loading import load_weights
from ssd.checkpoints.saving import save_checkpoint
from ssd.errors import UserError
from ssd.models.detector import SSD, create_detector, to_mixed_precision, zero_weights
from ssd.models.layers import NormalizeImage

# Published numbers of parameters, BatchNorm statistics included, for 81 classes.
PUBLISHED = [
    ("ssd_mobilenetv2", 4_445_365, 1917, 300),
    ("ssd_mobilenetv3", 4_882_325, 1917, 300),
    ("ssd_resnet50_fpn", 33_370_814, 51_150, 640),
]


@pytest.mark.parametrize("recipe, parameters, anchors, side", PUBLISHED)
def test_published_numbers_of_parameters(recipe, parameters, anchors, side, detectors, load_recipe):
    cfg = load_recipe(recipe)
    assert (cfg.num_classes, cfg.image_size) == (81, (side, side))
    assert sum(parameter.size for parameter in detectors(recipe).get_parameters()) == parameters
    assert len(create_anchors(cfg)) == anchors


def test_hand_computed_number_of_parameters_of_ssd300(detectors, load_recipe):
    """Trainable parameters and BatchNorm statistics of each part, counted from its layers."""
    detector, cfg = detectors("ssd_resnet50"), load_recipe("ssd_resnet50")
    assert cfg.num_classes == 81
    # ResNet-50 has 25,557,032 trainable parameters, of which the classifier (2,049,000) and conv5 (14,964,736) are left
    # out. BatchNorm has a statistic for each gamma and beta: 64 + 3 x (64 + 64 + 256) + 256 and so on, 2 x 15,296.
    blocks = [(1024, 256, 512), (512, 256, 512), (512, 128, 256), (256, 128, 256), (256, 128, 256)]
    extras = sum(inputs * hidden + 9 * hidden * outputs + 4 * (hidden + outputs) for inputs, hidden, outputs in blocks)
    levels = zip([1024, 512, 512, 256, 256, 256], [4, 6, 6, 6, 4, 4])
    head = sum((9 * channels + 1) * count * (4 + 81) for channels, count in levels)
    parts = {"neck": extras, "head": head, "backbone": 25_557_032 - 2_049_000 - 14_964_736 + 2 * 15_296}
    for name, expected in parts.items():
        assert sum(parameter.size for parameter in getattr(detector, name).get_parameters()) == expected, name
    assert sum(parts.values()) == 22_930_870


def test_hand_computed_number_of_parameters_of_ssdlite(detectors, load_recipe):
    """Trainable parameters and BatchNorm statistics of each part, counted from its layers."""
    detector, cfg = detectors("ssdlite_mobilenetv2"), load_recipe("ssdlite_mobilenetv2")
    assert cfg.num_classes == 81
    # MobileNetV2 has 3,504,872 trainable parameters, of which the classifier has 1,281,000. BatchNorm has 34,112
    # statistics, one for each of its gammas and betas.
    blocks = [(1280, 256, 512), (512, 128, 256), (256, 128, 256), (256, 64, 64)]  # input, hidden and output channels
    extras = sum(inputs * hidden + 9 * hidden + hidden * outputs for inputs, hidden, outputs in blocks)
    extras += sum(4 * (2 * hidden + outputs) for _, hidden, outputs in blocks)
    # Each level has two depthwise convolutions with bias and BatchNorm, 9 + 1 + 4 a channel, and two 1x1 convolutions.
    head = sum(2 * 14 * channels + (channels + 1) * 6 * (4 + 81) for channels in (576, 1280, 512, 256, 256, 64))
    parts = {"neck": extras, "head": head, "backbone": 3_504_872 - 1_281_000 + 34_112}
    for name, expected in parts.items():
        assert sum(parameter.size for parameter in getattr(detector, name).get_parameters()) == expected, name
    assert sum(parts.values()) == 4_502_132


def test_prior_bias_sets_the_initial_probability_of_each_object_class(load_recipe):
    for recipe in ("ssd_mobilenetv2", "ssd_resnet50_fpn", "ssd_resnet50"):
        cfg = load_recipe(recipe, prior_bias=0.01, loss="focal", num_classes=3, backbone_ckpt_path="")
        head = create_detector(cfg).head
        biases = [cell.bias.asnumpy() for _, cell in head.cls.cells_and_names() if getattr(cell, "has_bias", False)]
        assert len(biases) == (1 if recipe == "ssd_resnet50_fpn" else 6)
        for bias in biases:
            probability = 1 / (1 + np.exp(-bias.reshape(-1, 3)))
            np.testing.assert_allclose(probability, np.tile([0.99, 0.01, 0.01], (len(bias) // 3, 1)), rtol=1e-5)
        plain = create_detector(load_recipe(recipe, num_classes=3)).head
        biases = [cell.bias.asnumpy() for _, cell in plain.cls.cells_and_names() if getattr(cell, "has_bias", False)]
        assert max(np.abs(bias).max() for bias in biases) < 1  # without prior_bias


@pytest.mark.parametrize(
    "recipe, height, width",
    [
        ("ssd_mobilenetv2", 300, 300),
        ("ssd_mobilenetv3", 300, 300),
        ("ssd_resnet50_fpn", 128, 192),
        ("ssd_resnet50", 300, 300),
    ],
)
def test_predictions_for_every_anchor(recipe, height, width, detectors, load_recipe, call):
    anchors = create_anchors(load_recipe(recipe, image_size=[height, width]))
    box_offsets, cls_logits = call(detectors(recipe), np.zeros((1, 3, height, width), np.float32))
    assert box_offsets.shape == (1, len(anchors), 4) and cls_logits.shape == (1, len(anchors), 81)
    assert box_offsets.dtype == cls_logits.dtype == np.float32


def test_class_outputs_are_logits(detectors, call, rng):
    _, cls_logits = call(detectors("ssd_mobilenetv2"), rng.normal(size=(1, 3, 300, 300)).astype(np.float32))
    assert cls_logits.min() < 0 < cls_logits.max()  # neither sigmoid nor softmax


class Float16Head(nn.Cell):
    def construct(self, inputs):
        return inputs, inputs * 2


def test_outputs_are_float32_for_a_float16_head(call):
    outputs = call(SSD(nn.Identity(), nn.Identity(), Float16Head(), anchors=None), np.ones((1, 2, 4), np.float16))
    assert [output.dtype for output in outputs] == [np.float32, np.float32]
    assert [output.max() for output in outputs] == [1, 2]


@pytest.mark.parametrize("amp_level", ["O2", "O3"])
def test_outputs_are_float32_at_any_amp_level(amp_level, load_recipe, call):
    tiny = {"backbone": "mobilenet_v2_035_96", "backbone_out_indices": [1, 3], "extra_layers": []}
    cfg = load_recipe(
        "ssd_mobilenetv2", **tiny, image_size=[32, 32], steps=[2, 4], aspect_ratios=[[2], [2]], num_classes=3
    )
    detector = to_mixed_precision(create_detector(cfg), amp_level).set_train(False)
    outputs = call(detector, np.zeros((1, 3, 32, 32), np.float32))
    assert [output.dtype for output in outputs] == [np.float32, np.float32]


def test_hand_computed_normalization(call):
    image = np.zeros((1, 2, 3, 3), np.uint8)
    image[0, 1, 2] = [255, 116, 0]
    normalized = call(NormalizeImage(), image)
    assert normalized.shape == (1, 3, 2, 3) and normalized.dtype == np.float32
    expected = [(255 - 123.675) / 58.395, (116 - 116.28) / 57.12, -103.53 / 57.375]
    assert normalized[0, :, 1, 2] == pytest.approx(expected, rel=1e-5)
    black = np.array([-123.675 / 58.395, -116.28 / 57.12, -103.53 / 57.375])
    np.testing.assert_allclose(normalized[0, :, 0, 0], black, rtol=1e-5)


# --- recipes that contradict their network ---


def error_message(cfg):
    with pytest.raises(UserError) as error:
        create_detector(cfg)
    return str(error.value)


def test_steps_that_differ_from_the_network_are_refused(load_recipe):
    steps = [16, 32, 64, 100, 150, 150]
    message = error_message(load_recipe("ssd_mobilenetv2", steps=steps))
    common = [(19, 19), (10, 10), (5, 5), (3, 3), (2, 2)]
    assert message.startswith(f"steps: {steps} ") and "mobilenet_v2_100" in message
    assert str([*common, (2, 2)]) in message and str([*common, (1, 1)]) in message
    assert '--steps "[16,32,64,100,150,300]"' in message


def test_a_missing_level_is_refused(load_recipe):
    message = error_message(load_recipe("ssd_mobilenetv2", extra_layers=[{"out_channels": 512, "expand_ratio": 0.2}]))
    levels = [(19, 19), (10, 10), (5, 5)]
    assert str([*levels, (3, 3), (2, 2), (1, 1)]) in message and str(levels) in message


def test_the_error_states_width_before_height(load_recipe):
    steps = [16, 32, 64, 100, 150, 300]
    message = error_message(load_recipe("ssd_mobilenetv2", image_size=[300, 400], steps=steps))
    assert "400x300" in message and '--steps "[16,32,64,100,200,400]"' in message


def test_wrong_backbone_channels_are_refused(load_recipe):
    assert isinstance(create_detector(load_recipe("ssd_mobilenetv2", backbone_channels=[576, 1280])), SSD)
    message = error_message(load_recipe("ssd_mobilenetv2", backbone_channels=[576, 960]))
    # MindCV's recipes state these channels in extras_out_channels.
    assert message.startswith("extras_out_channels: ") and "[576, 960]" in message and "[576, 1280]" in message


def test_wrong_input_channels_of_levels_are_refused(load_recipe):
    right = [256, 576, 1280, 512, 256, 256]  # as in MindCV's example; the first describes no layer
    create_detector(load_recipe("ssd_mobilenetv2", extras_in_channels=right))
    wrong = [*right[:3], 511, *right[4:]]
    message = error_message(load_recipe("ssd_mobilenetv2", extras_in_channels=wrong))
    assert message.startswith("extras_in_channels: ") and str(wrong) in message and str(right) in message


def test_a_single_image_leaves_finite_statistics_on_a_map_of_one_location(tiny_recipe):
    """The last level has size 1x1. MindSpore's BatchNorm would store NaN there as the running variance."""
    cfg = tiny_recipe(image_size=[32, 32], num_classes=3)
    detector = create_detector(cfg).set_train()
    before = {name: value.asnumpy().copy() for name, value in detector.parameters_dict().items()}
    detector(Tensor(np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)))
    after = {name: value.asnumpy() for name, value in detector.parameters_dict().items()}
    assert all(np.isfinite(value).all() for value in after.values())
    changed = {name for name in after if (after[name] != before[name]).any()}
    of_last_level = {name for name in changed if name.startswith("head.cls.2.")}
    assert any(name.startswith("backbone.") for name in changed) and not of_last_level


def test_zero_weights_are_replaced_exactly(tiny_recipe, values_of, tmp_path):
    trained = create_detector(tiny_recipe())
    save_checkpoint(trained, tmp_path / "a.ckpt")
    with zero_weights():
        detector = create_detector(tiny_recipe())
    assert not any(value.any() for value in values_of(detector).values())
    load_weights(detector, tmp_path / "a.ckpt")
    expected = values_of(trained)
    assert {name: value.tobytes() for name, value in values_of(detector).items()} == {
        name: value.tobytes() for name, value in expected.items()
    }
    assert any(value.any() for value in values_of(create_detector(tiny_recipe())).values())  # only inside the block
