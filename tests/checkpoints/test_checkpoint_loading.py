"""Checkpoints: saving and loading, MindCV's names, and files that do not fit, which change nothing."""

import errno
import logging
import os
import re
from pathlib import Path

import mindcv
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from ssd.checkpoints import loading as checkpoint
from ssd.checkpoints.loading import (
    find_checkpoint,
    link_checkpoint,
    load_backbone,
    load_weights,
    read_checkpoint,
    save_checkpoint,
    silence_mindspore_log,
)
from ssd.errors import UserError
from ssd.models.detector import create_detector, to_mixed_precision

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
BACKBONES = [
    ("ssd_mobilenetv2", "mobilenet_v2_100"),
    ("ssd_mobilenetv3", "mobilenet_v3_large_100"),
    ("ssd_resnet50_fpn", "resnet50"),
]


def published_name(name, features="features."):
    for pattern, replacement in PUBLISHED_NAMES:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(replacement).replace("{features}", features)
    raise AssertionError(name)


def write(path, values):
    """A checkpoint file of {name: array}."""
    ms.save_checkpoint([{"name": name, "data": Tensor(value)} for name, value in values.items()], str(path))
    return path


def training_state(values):
    """Return the training state that the example and this project store beside a network. values: {name: array}"""
    moments = {f"moments.{name}": np.zeros_like(value) for name, value in values.items() if "moving" not in name}
    others = {"momentum": np.float32(0.9), "learning_rate": np.linspace(0, 1, 720, dtype=np.float32)}
    steps = {"global_step": np.array([720], np.int32), "scale_sense": np.float32(1024), "updates": np.float32(0)}
    steps |= {"skipped_updates": np.int32(0), "steps_since_bad_loss": np.int32(0), "accumulated_batches": np.int32(1)}
    moments |= {f"accumulated.{name}": np.zeros_like(value) for name, value in values.items() if "moving" not in name}
    dynamic = {"current_iterator_step": np.int32(1), "last_overflow_iterator_step": np.int32(0)}
    return {**moments, **others, **steps, **dynamic}


def expect_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def expect_refusal(load, net, path, values_of, *parts):
    """Loading must fail with a one-line message that contains these parts, and leave the net unchanged."""
    before = values_of(net)
    with pytest.raises(UserError) as error:
        load(net, path)
    message = str(error.value)
    assert "\n" not in message
    for part in (str(path), *parts):
        assert part in message
    expect_equal(values_of(net), before)


# --- our own files ---


def test_saved_weights_are_loaded(tiny_recipe, tmp_path, randomize, values_of):
    saved, loaded = (randomize(create_detector(tiny_recipe()), seed) for seed in (1, 2))
    save_checkpoint(saved, tmp_path / "new" / "folder" / "ssd-1.ckpt")
    load_weights(loaded, tmp_path / "new" / "folder" / "ssd-1.ckpt")
    expect_equal(values_of(loaded), values_of(saved))


@pytest.mark.parametrize("use_ema", [True, False])
def test_averaged_weights_are_loaded_if_wanted(use_ema, tiny_detector, tmp_path, values_of):
    raw = {name: np.full_like(value, 1) for name, value in values_of(tiny_detector).items()}
    averages = {f"ema.{name}": np.full_like(value, 2) for name, value in raw.items()}
    write(tmp_path / "ssd-1.ckpt", {**raw, **averages, **training_state(raw)})
    load_weights(tiny_detector, tmp_path / "ssd-1.ckpt", use_ema=use_ema)
    assert {value.flat[0] for value in values_of(tiny_detector).values()} == {2 if use_ema else 1}


@pytest.mark.parametrize("amp_level", ["O2", "O3"])
def test_weights_trained_in_mixed_precision_are_loaded(amp_level, tiny_recipe, tmp_path, randomize, values_of):
    saved, loaded = (randomize(create_detector(tiny_recipe()), seed) for seed in (1, 2))
    expected = values_of(saved)
    save_checkpoint(to_mixed_precision(saved, amp_level), tmp_path / "best.ckpt")
    load_weights(loaded, tmp_path / "best.ckpt")
    for name, value in values_of(loaded).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_half_precision_is_converted_to_the_precision_of_the_net(tiny_detector, tmp_path, randomize, values_of):
    values = values_of(randomize(tiny_detector, 1))
    load_weights(
        tiny_detector, write(tmp_path / "a.ckpt", {name: value.astype(np.float16) for name, value in values.items()})
    )
    assert {parameter.dtype for parameter in tiny_detector.get_parameters()} == {ms.float32}
    expect_equal(values_of(tiny_detector), {name: np.float32(np.float16(value)) for name, value in values.items()})


def test_saving_replaces_a_file_and_leaves_no_other(tiny_detector, tmp_path, randomize, values_of):
    path = tmp_path / "best.ckpt"
    path.write_bytes(b"an earlier file")
    save_checkpoint(randomize(tiny_detector, 1), path)
    save_checkpoint(randomize(tiny_detector, 2), path)
    assert [file.name for file in tmp_path.iterdir()] == ["best.ckpt"]
    expect_equal(
        {name: value.asnumpy() for name, value in ms.load_checkpoint(str(path)).items()}, values_of(tiny_detector)
    )


def test_an_interrupted_save_keeps_the_file_that_was_there(tiny_detector, tmp_path, monkeypatch):
    def write_half(net, path, **options):
        with open(path, "wb") as file:
            file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.ms, "save_checkpoint", write_half)
    (tmp_path / "ssd-1.ckpt").write_bytes(b"an earlier file")
    for name in ("ssd-1.ckpt", "ssd-2.ckpt"):
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tiny_detector, tmp_path / name)
    assert (tmp_path / "ssd-1.ckpt").read_bytes() == b"an earlier file"
    assert find_checkpoint(tmp_path) == tmp_path / "ssd-1.ckpt"  # the half of ssd-2.ckpt is no checkpoint


def test_a_full_disk_is_reported_and_changes_nothing(tiny_detector, tmp_path, monkeypatch):
    def fill_disk(net, path, **options):
        Path(path).with_suffix(".tmp").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    save_checkpoint(tiny_detector, tmp_path / "ssd-1.ckpt")
    before = (tmp_path / "ssd-1.ckpt").read_bytes()
    monkeypatch.setattr(checkpoint.ms, "save_checkpoint", fill_disk)
    for name in ("ssd-1.ckpt", "ssd-2.ckpt"):
        with pytest.raises(UserError, match=f"{name}: .*no space left on device"):
            save_checkpoint(tiny_detector, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["ssd-1.ckpt"]
    assert (tmp_path / "ssd-1.ckpt").read_bytes() == before


@pytest.mark.parametrize("damage", ["cut off", "a bit", "no checkpoint"])
def test_damaged_checkpoints_are_refused_without_log_lines_of_mindspore(damage, tiny_detector, tmp_path, capfd):
    path = tmp_path / "ssd-1.ckpt"
    save_checkpoint(tiny_detector, path, records={"training_state": {"step": 1}})
    assert read_checkpoint(path)["training_state"] == '{"step": 1}'
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes({"cut off": content[:-1000], "a bit": content, "no checkpoint": b"weights"}[damage])
    with pytest.raises(UserError, match="ssd-1.ckpt: .*damaged"):
        read_checkpoint(path)
    assert capfd.readouterr() == ("", "")


def test_a_link_is_a_second_name(tmp_path):
    (tmp_path / "ssd-1.ckpt").write_bytes(b"one")
    (tmp_path / "last.ckpt").write_bytes(b"none")
    link_checkpoint(tmp_path / "ssd-1.ckpt", "last.ckpt")
    assert (tmp_path / "last.ckpt").read_bytes() == b"one" and len(list(tmp_path.iterdir())) == 2


# --- files of MindCV's example ---


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


# --- files that do not fit ---


@pytest.fixture
def content(tiny_detector, values_of):
    return values_of(tiny_detector)


def test_an_unknown_parameter_is_refused(tiny_detector, content, tmp_path, values_of):
    path = write(tmp_path / "a.ckpt", {**content, "head.box.3.0.weight": np.zeros(3, np.float32)})
    expect_refusal(load_weights, tiny_detector, path, values_of, "unknown parameters: 1", "'head.box.3.0.weight'")


@pytest.mark.parametrize("name", ["backbone.features.net.features_0.weight", "head.cls.2.1.moving_variance"])
def test_a_missing_parameter_is_refused(name, tiny_detector, content, tmp_path, randomize, values_of):
    path = write(tmp_path / "a.ckpt", {key: value for key, value in content.items() if key != name})
    expect_refusal(load_weights, randomize(tiny_detector, 3), path, values_of, "missing parameters: 1", f"'{name}'")


def test_an_unknown_name_is_not_taken_for_training_state(tiny_detector, content, tmp_path, values_of):
    path = write(tmp_path / "a.ckpt", {**content, "ema.global_step": np.zeros(1, np.float32)})
    expect_refusal(load_weights, tiny_detector, path, values_of, "'ema.global_step'")


def test_a_checkpoint_of_other_classes_is_refused(tiny_detector, tiny_recipe, tmp_path, randomize, values_of):
    save_checkpoint(create_detector(tiny_recipe(num_classes=5)), tmp_path / "a.ckpt")
    parts = (
        "head.cls.0.3.weight: got shape (20, 96, 1, 1), expected (16, 96, 1, 1)",
        "5 classes",
        " 4.",
        "--classes",
    )
    expect_refusal(load_weights, randomize(tiny_detector, 3), tmp_path / "a.ckpt", values_of, *parts)


def test_a_class_predictor_of_other_anchors_is_not_blamed_on_classes(tiny_detector, content, tmp_path, values_of):
    name = "head.cls.0.3.weight"
    path = write(tmp_path / "a.ckpt", {**content, name: content[name][:10]})
    expect_refusal(load_weights, tiny_detector, path, values_of, f"{name}: got shape (10, 96, 1, 1)", "recipe")


def test_another_shape_is_refused(tiny_detector, content, tmp_path, randomize, values_of):
    name = "neck.extras.0.conv.1.weight"
    path = write(tmp_path / "a.ckpt", {**content, name: content[name][:8]})
    shapes = "got shape (8, 24, 1, 1), expected (16, 24, 1, 1)"
    expect_refusal(load_weights, randomize(tiny_detector, 3), path, values_of, f"{name}: {shapes}")


@pytest.mark.parametrize("load", [load_weights, load_backbone])
@pytest.mark.parametrize("damage", ["missing", "a folder", "empty", "text", "cut off", "another suffix"])
def test_a_file_that_is_no_checkpoint_is_refused(damage, load, tiny_detector, tmp_path, randomize, values_of):
    path = tmp_path / ("a.txt" if damage == "another suffix" else "a.ckpt")
    if damage == "a folder":
        path.mkdir()
    elif damage != "missing":
        save_checkpoint(tiny_detector, tmp_path / "whole.ckpt")
        whole = (tmp_path / "whole.ckpt").read_bytes()
        path.write_bytes(
            {"empty": b"", "text": b"not a checkpoint\n" * 99, "cut off": whole[: len(whole) // 2]}.get(damage, whole)
        )
    expect_refusal(load, randomize(tiny_detector, 3), path, values_of)


# --- weights of a backbone ---


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


# --- choosing a checkpoint ---


def touch(path, seconds):
    path.touch()
    os.utime(path, (seconds, seconds))


def test_the_best_is_preferred_else_the_newest(tmp_path):
    assert find_checkpoint(tmp_path) is None
    assert find_checkpoint(tmp_path / "nowhere") is None
    for name, seconds in (("ssd-9.ckpt", 300), ("ssd-10.ckpt", 400), ("ssd-2.ckpt", 200), ("other-1.ckpt", 500)):
        touch(tmp_path / name, seconds)
    (tmp_path / ".unfinished-ssd-11.ckpt").mkdir()
    touch(tmp_path / ".unfinished-ssd-11.ckpt" / "ssd-11.ckpt", 600)
    assert find_checkpoint(tmp_path).name == "ssd-10.ckpt"
    touch(tmp_path / "best.ckpt", 100)
    assert find_checkpoint(tmp_path).name == "best.ckpt"


def test_only_messages_of_mindspore_are_silenced(caplog, monkeypatch):
    mindspore_logger = ms.log._get_logger()
    monkeypatch.setattr(mindspore_logger, "propagate", True)  # for caplog
    with silence_mindspore_log():
        ms.log.error("from MindSpore")
        logging.getLogger("own").error("from this project")
    ms.log.error("afterwards")
    assert set(caplog.messages) == {"from this project", "afterwards"}
