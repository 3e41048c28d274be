"""Names and channel orders typed by hand, safetensors without PyTorch, and refusals that write nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mindcv.models import create_model
from safetensors.numpy import save_file

from ssd.checkpoints.loading import read_checkpoint
from ssd.checkpoints.metadata import METADATA_KEY
from ssd.errors import UserError
from torch_files import read_state_dict
from weight_names import backbone_forms, ssd300_boxes, ssd300_form

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "examples" / "det" / "ssd"
# Form: {name there: our name}, one of each kind.
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
SMALL = ["--backbone", "resnet18", "--num_classes", 3]


@pytest.fixture(scope="module")
def shapes():
    """{name: shape} of each MindCV model."""
    return {
        name: {key: value.shape for key, value in create_model(name).parameters_dict().items()}
        for name in ("resnet50", "mobilenet_v2_100", "mobilenet_v3_large_100")
    }


@pytest.mark.parametrize("model, form", NAMES)
def test_names_of_backbones(model, form, shapes):
    ours = [name for name in shapes[model] if not name.startswith("classifier.")]
    names = backbone_forms(model, shapes[model])[form].names
    for theirs, expected in NAMES[model, form].items():
        assert names[theirs] == expected
    assert sorted(names.values()) == sorted(ours)  # each of ours once


def test_torchvisions_mobilenet_v3_alone_has_another_epsilon(shapes):
    epsilons = {model: [form.epsilon for form in backbone_forms(model, shapes[model])] for model, _ in NAMES}
    assert epsilons == {
        "resnet50": [1e-5],
        "mobilenet_v2_100": [1e-5, 1e-5],
        "mobilenet_v3_large_100": [1e-3, 1e-5],
    }


def test_models_whose_names_are_not_known_are_refused():
    with pytest.raises(UserError, match="^backbone: got 'efficientnet_b0', expected a resnet, resnext, mobilenet_v2"):
        backbone_forms("efficientnet_b0", [])


def test_channels_of_ssd300():
    # Ours: square, wide, tall, (wide, tall,) larger square. Theirs: square, larger square, wide, tall(, wide, tall).
    assert ssd300_boxes(4) == [0, 2, 3, 1]
    assert ssd300_boxes(6) == [0, 2, 3, 4, 5, 1]
    parameters = {
        "backbone.features.net.conv1.weight": "feature_extractor.feature_extractor.0.weight",
        "backbone.features.net.layer3.0.conv2.weight": "feature_extractor.feature_extractor.6.0.conv2.weight",
        "neck.extras.4.3.weight": "additional_blocks.4.3.weight",
        "neck.extras.0.1.moving_variance": "additional_blocks.0.1.running_var",
        "head.box.0.weight": "loc.0.weight",
        "head.cls.0.bias": "conf.0.bias",
    }
    form = ssd300_form(parameters, num_classes=2, num_per_location=[4])
    assert form.names == {theirs: ours for ours, theirs in parameters.items()}
    assert form.orders == {
        # Theirs: 4 channels of cx, 4 of cy, 4 of w, 4 of h. Ours: cy, cx, h, w of the first box, …
        "head.box.0.weight": [4, 0, 12, 8, 6, 2, 14, 10, 7, 3, 15, 11, 5, 1, 13, 9],
        # Theirs: 4 channels of the background, 4 of the class. Ours: background and class of the first box, …
        "head.cls.0.bias": [0, 4, 2, 6, 3, 7, 1, 5],
    }


def resnet18(prefix, children, layers=(1, 2, 3, 4)):
    """{name: shape} of torchvision's ResNet-18, or of NVIDIA's part of it. children: what its children are called"""

    def norm(name, wide):
        ends = ("weight", "bias", "running_mean", "running_var")
        return {**{f"{name}.{end}": (wide,) for end in ends}, f"{name}.num_batches_tracked": ()}

    conv1, bn1, *stages = (prefix + child for child in children)
    made = {f"{conv1}.weight": (64, 3, 7, 7), **norm(bn1, 64)}
    for layer, stage in zip(layers, stages):
        inside, wide = max(32 * 2 ** (layer - 1), 64), 32 * 2**layer
        for block, read in enumerate((inside, wide)):
            for index, channels in ((1, read), (2, wide)):
                made[f"{stage}.{block}.conv{index}.weight"] = (wide, channels, 3, 3)
                made.update(norm(f"{stage}.{block}.bn{index}", wide))
        if layer > 1:
            made[f"{stage}.0.downsample.0.weight"] = (wide, inside, 1, 1)
            made.update(norm(f"{stage}.0.downsample.1", wide))
    return made


def made_arrays(shapes):
    rng = np.random.default_rng(0)
    return {
        name: np.array(1234) if name.endswith("tracked") else rng.random(shape, np.float32)
        for name, shape in shapes.items()
    }


@pytest.fixture(scope="module")
def torchvision_resnet18():
    children = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]
    return made_arrays({**resnet18("", children), "fc.weight": (1000, 512), "fc.bias": (1000,)})


@pytest.fixture(scope="module")
def small_ssd300():
    """NVIDIA's names, on ResNet-18 and with 2 classes and background."""
    made = resnet18("feature_extractor.feature_extractor.", ["0", "1", "4", "5", "6"], (1, 2, 3))
    channels, hidden, boxes = [256, 512, 512, 256, 256, 256], [64, 256, 128, 128, 128], [4, 6, 6, 6, 4, 4]
    for index, (read, between, wide) in enumerate(zip(channels, hidden, channels[1:])):
        made[f"additional_blocks.{index}.0.weight"] = (between, read, 1, 1)
        made[f"additional_blocks.{index}.3.weight"] = (wide, between, 3, 3)
        for place, count in ((1, between), (4, wide)):
            ends = ("weight", "bias", "running_mean", "running_var")
            made.update({f"additional_blocks.{index}.{place}.{end}": (count,) for end in ends})
    for level, (wide, count) in enumerate(zip(channels, boxes)):
        for head, values in (("loc", 4), ("conf", 3)):
            made[f"{head}.{level}.weight"] = (count * values, wide, 3, 3)
            made[f"{head}.{level}.bias"] = (count * values,)
    return made_arrays(made)


def test_a_backbone_in_safetensors(command, torchvision_resnet18, tmp_path):
    save_file(torchvision_resnet18, tmp_path / "in.safetensors")
    words = ["--input", tmp_path / "in.safetensors", "--output", tmp_path / "new" / "out.ckpt"]
    code, out, err = command("ssd_resnet50", *words, *SMALL)
    assert (code, err) == (0, "")
    assert "left out, batch counters, which MindSpore does not keep (20)" in out
    assert "layer2.0.downsample.1.num_batches_tracked" in out
    assert "left out, the classifier, which detectors do not have (2):\n  fc.bias, fc.weight\n" in out
    assert "converted 100 parameters" in out and "100 equal the source bit for bit; the recipe loads them" in out
    assert "note:" not in out
    stored = read_checkpoint(tmp_path / "new" / "out.ckpt")
    assert len(stored) == 100
    for ours, theirs in (("layer1.1.bn2.moving_mean", "layer1.1.bn2.running_mean"), ("conv1.weight", "conv1.weight")):
        assert np.array_equal(stored[ours].asnumpy(), torchvision_resnet18[theirs])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.ckpt"]


def test_one_sided_padding_is_told(command, torchvision_resnet18, tmp_path):
    save_file(torchvision_resnet18, tmp_path / "in.safetensors")
    words = ["--input", tmp_path / "in.safetensors", "--output", tmp_path / "out.ckpt", *SMALL]
    code, out, _ = command("ssd_resnet50", *words, "--backbone_padding", "mindcv")
    assert code == 0
    assert "note: 1 strided layers, max_pool first, pad one side in MindCV's model and both in PyTorch's" in out


def test_a_detector_in_safetensors(command, small_ssd300, tmp_path):
    save_file({f"module.{name}": value for name, value in small_ssd300.items()}, tmp_path / "in.safetensors")
    words = ["--input", tmp_path / "in.safetensors", "--output", tmp_path / "out.ckpt", *SMALL]
    code, out, err = command("ssd_resnet50", *words)
    assert (code, err) == (0, "")
    assert "of SSD300 of NVIDIA or uvipen by their names" in out and "--ckpt_path" in out
    content = read_checkpoint(tmp_path / "out.ckpt")
    meaning = json.loads(content.pop(METADATA_KEY))
    assert meaning["loss"] == "multibox" and meaning["box_sizes"] == [21, 45, 99, 153, 207, 261, 315]
    stored = {name: value.asnumpy() for name, value in content.items()}
    # The second box of ours is the third of theirs; its cy is our channel 4, and in their second 4 channels.
    assert np.array_equal(stored["head.box.0.weight"][4], small_ssd300["loc.0.weight"][4 + 2])
    # The last of 6 boxes is the second of theirs; its last class has their channels from 12.
    assert np.array_equal(stored["head.cls.1.bias"][17], small_ssd300["conf.1.bias"][12 + 1])
    assert np.array_equal(stored["neck.extras.0.4.moving_variance"], small_ssd300["additional_blocks.0.4.running_var"])
    assert np.array_equal(
        stored["backbone.features.net.layer2.0.down_sample.0.weight"],
        small_ssd300["feature_extractor.feature_extractor.5.0.downsample.0.weight"],
    )


def test_unknown_and_missing_names_are_all_listed_and_nothing_is_written(command, torchvision_resnet18, tmp_path):
    arrays = dict(torchvision_resnet18)
    del arrays["layer4.1.bn2.bias"], arrays["layer1.0.conv1.weight"]
    arrays["layer4.1.se.weight"] = arrays["extra"] = np.ones(3, np.float32)
    save_file(arrays, tmp_path / "in.safetensors")
    words = ["--input", tmp_path / "in.safetensors", "--output", tmp_path / "out.ckpt", *SMALL]
    code, out, err = command("ssd_resnet50", *words)
    assert code == 2 and len(err.splitlines()) == 1
    assert "got 2 names without a place and 2 parameters without a value, expected all of torchvision's" in err
    unknown = next(line for line in out.splitlines() if "layer4.1.se.weight" in line)
    missing = next(line for line in out.splitlines() if "layer1.0.conv1.weight" in line)
    assert sorted(unknown.strip().split(", ")) == ["extra", "layer4.1.se.weight"]
    assert sorted(missing.strip().split(", ")) == ["layer1.0.conv1.weight", "layer4.1.bn2.beta"]
    assert [path.name for path in tmp_path.iterdir()] == ["in.safetensors"]


@pytest.mark.parametrize(
    "key, value, told",
    [
        ("loss", "focal", "loss: got 'focal', expected 'multibox'"),
        ("backbone_padding", "mindcv", "backbone_padding: got 'mindcv', expected 'torch'"),
        ("clip_default_boxes", "false", "clip_default_boxes: got False, expected True"),
        ("prior_scaling", "[0.1, 0.1]", "prior_scaling: got (0.1, 0.1), expected (0.1, 0.2)"),
        ("num_classes", 4, "conf.0.bias: got float32 of shape (12,), expected float32 of (16,), and 11 more such"),
    ],
)
def test_recipes_of_another_function_are_refused(key, value, told, command, small_ssd300, tmp_path):
    save_file(small_ssd300, tmp_path / "in.safetensors")
    words = ["--input", tmp_path / "in.safetensors", "--output", tmp_path / "out.ckpt", *SMALL, f"--{key}", value]
    code, _, err = command("ssd_resnet50", *words)
    assert code == 2 and told in err and len(err.splitlines()) == 1
    assert not (tmp_path / "out.ckpt").exists()


def test_what_is_read_again_must_be_the_source(command, torchvision_resnet18, tmp_path, monkeypatch):
    import weight_conversion

    read = weight_conversion.read_checkpoint

    def read_damaged(path):
        content = read(path)
        damaged = content["bn1.gamma"].asnumpy()
        damaged[5] = np.nextafter(damaged[5], np.float32(2))  # the last bit
        content["bn1.gamma"].set_data(type(content["bn1.gamma"])(damaged))
        return content

    monkeypatch.setattr(weight_conversion, "read_checkpoint", read_damaged)
    save_file(torchvision_resnet18, tmp_path / "in.safetensors")
    words = ["--input", tmp_path / "in.safetensors", "--output", tmp_path / "out.ckpt", *SMALL]
    code, _, err = command("ssd_resnet50", *words)
    assert code == 2 and "got other values for 1 parameters when it was read again, 'bn1.gamma' first" in err
    assert [path.name for path in tmp_path.iterdir()] == ["in.safetensors"]


def test_16_bit_floats_are_widened(tmp_path):
    save_file({"a": np.array([0.1, -2.0], np.float16), "n": np.array(3)}, tmp_path / "half.safetensors")
    arrays = read_state_dict(tmp_path / "half.safetensors").arrays
    assert arrays["a"].dtype == np.float32 and arrays["n"] == 3
    assert np.array_equal(arrays["a"].astype(np.float16), np.array([0.1, -2.0], np.float16))


def test_a_file_that_is_no_safetensors_is_refused(tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(UserError, match="bad.safetensors: got .*, expected a whole safetensors file; "):
        read_state_dict(tmp_path / "bad.safetensors")


def test_pth_without_pytorch_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.pth").write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match="no PyTorch here, expected a .safetensors file; .* requirements-torch.txt$"):
        read_state_dict(tmp_path / "a.pth")


def test_the_command_as_users_start_it(tmp_path):
    script = [sys.executable, "tools/convert_weights.py", "--config", str(RECIPES / "ssd_resnet50.yaml")]

    def refusal(*words):
        environment = {**os.environ, "PYTHONPATH": ""}
        result = subprocess.run(
            [*script, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment
        )
        assert result.returncode == 2 and result.stdout == "" and len(result.stderr.splitlines()) == 1, result.stderr
        return result.stderr

    absent, out = tmp_path / "absent.pth", tmp_path / "out.ckpt"
    assert f"error: {absent}: got no such file" in refusal("--input", absent, "--output", out)
    assert "expected a name that ends in .ckpt" in refusal("--input", absent, "--output", tmp_path / "out")
    out.write_text("mine")
    assert "add --overwrite to replace it" in refusal("--input", absent, "--output", out)
    assert out.read_text() == "mine"
