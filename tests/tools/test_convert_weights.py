"""Conversion of PyTorch weights: names and channel orders typed by hand, safetensors files, and refused input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from state_dict_arrays import batch_norm_shapes, random_arrays

from ssd.checkpoints.reading import read_checkpoint
from ssd.checkpoints.records import METADATA_KEY
from ssd.errors import UserError
from weight_conversion.state_dict import read_state_dict

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "examples" / "det" / "ssd"
SMALL = ["--backbone", "resnet18", "--num_classes", 3]


def resnet18_shapes(prefix, children, layers=(1, 2, 3, 4)):
    """{name: shape} of torchvision's ResNet-18, or of the part that NVIDIA uses. children: names of its children"""

    def counted_batch_norm(name, channels):
        return {**batch_norm_shapes(name, channels), f"{name}.num_batches_tracked": ()}

    conv1, bn1, *stages = (prefix + child for child in children)
    shapes = {f"{conv1}.weight": (64, 3, 7, 7), **counted_batch_norm(bn1, 64)}
    for layer, stage in zip(layers, stages):
        in_channels, out_channels = max(32 * 2 ** (layer - 1), 64), 32 * 2**layer
        for block, block_in_channels in enumerate((in_channels, out_channels)):
            for index, channels in ((1, block_in_channels), (2, out_channels)):
                shapes[f"{stage}.{block}.conv{index}.weight"] = (out_channels, channels, 3, 3)
                shapes.update(counted_batch_norm(f"{stage}.{block}.bn{index}", out_channels))
        if layer > 1:
            shapes[f"{stage}.0.downsample.0.weight"] = (out_channels, in_channels, 1, 1)
            shapes.update(counted_batch_norm(f"{stage}.0.downsample.1", out_channels))
    return shapes


@pytest.fixture(scope="module")
def torchvision_resnet18():
    children = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]
    return random_arrays({**resnet18_shapes("", children), "fc.weight": (1000, 512), "fc.bias": (1000,)})


@pytest.fixture(scope="module")
def small_ssd300():
    """A state dict with NVIDIA's names, on ResNet-18 and with 2 classes and background."""
    shapes = resnet18_shapes("feature_extractor.feature_extractor.", ["0", "1", "4", "5", "6"], layers=(1, 2, 3))
    channels, hidden_channels = [256, 512, 512, 256, 256, 256], [64, 256, 128, 128, 128]
    for index, hidden in enumerate(hidden_channels):
        block, in_channels, out_channels = f"additional_blocks.{index}", channels[index], channels[index + 1]
        shapes[f"{block}.0.weight"] = (hidden, in_channels, 1, 1)
        shapes[f"{block}.3.weight"] = (out_channels, hidden, 3, 3)
        shapes.update({**batch_norm_shapes(f"{block}.1", hidden), **batch_norm_shapes(f"{block}.4", out_channels)})
    for level, (in_channels, num_anchors) in enumerate(zip(channels, [4, 6, 6, 6, 4, 4])):
        for head, num_values in (("loc", 4), ("conf", 3)):
            shapes[f"{head}.{level}.weight"] = (num_anchors * num_values, in_channels, 3, 3)
            shapes[f"{head}.{level}.bias"] = (num_anchors * num_values,)
    return random_arrays(shapes)


@pytest.fixture
def convert(convert_with):
    """convert(arrays, "--key", value, …) converts with a small ssd_resnet50 from in.safetensors to out.ckpt."""
    return lambda arrays, *arguments: convert_with("ssd_resnet50", arrays, *SMALL, *arguments)


def test_backbone(run_convert_weights, torchvision_resnet18, tmp_path):
    save_file(torchvision_resnet18, tmp_path / "in.safetensors")
    paths = ["--input", tmp_path / "in.safetensors", "--output", tmp_path / "new" / "out.ckpt"]
    code, out, err = run_convert_weights("ssd_resnet50", *paths, *SMALL)
    assert (code, err) == (0, "")
    assert "ignored 20 names" in out and "layer2.0.downsample.1.num_batches_tracked" in out
    assert "ignored 2 names" in out and "fc.bias, fc.weight\n" in out
    assert "converted 100 parameters" in out and "100 equal" in out and "--backbone_ckpt_path" in out
    assert "note:" not in out
    stored = read_checkpoint(tmp_path / "new" / "out.ckpt")
    assert len(stored) == 100
    for name, torch_name in (
        ("layer1.1.bn2.moving_mean", "layer1.1.bn2.running_mean"),
        ("conv1.weight", "conv1.weight"),
    ):
        assert np.array_equal(stored[name].asnumpy(), torchvision_resnet18[torch_name])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.ckpt"]


def test_note_about_asymmetric_padding(convert, torchvision_resnet18):
    code, out, _ = convert(torchvision_resnet18, "--backbone_padding", "mindcv")
    assert code == 0
    assert "note: " in out and " 1 strided layer " in out and "max_pool" in out and "backbone_padding" in out


def test_detector(convert, small_ssd300, tmp_path):
    code, out, err = convert({f"module.{name}": value for name, value in small_ssd300.items()})
    assert (code, err) == (0, "")
    assert "SSD300" in out and "--ckpt_path" in out
    content = read_checkpoint(tmp_path / "out.ckpt")
    metadata = json.loads(content.pop(METADATA_KEY))
    settings = {key: value for group in metadata.values() for key, value in group.items()}
    assert settings["loss"] == "multibox" and settings["box_sizes"] == [21, 45, 99, 153, 207, 261, 315]
    stored = {name: value.asnumpy() for name, value in content.items()}
    # The second anchor here is NVIDIA's third; its cy is channel 4 here, and in NVIDIA's second 4 channels.
    assert np.array_equal(stored["head.box.0.weight"][4], small_ssd300["loc.0.weight"][4 + 2])
    # The last of 6 anchors is NVIDIA's second; the last class has NVIDIA's channels from 12.
    assert np.array_equal(stored["head.cls.1.bias"][17], small_ssd300["conf.1.bias"][12 + 1])
    assert np.array_equal(stored["neck.extras.0.4.moving_variance"], small_ssd300["additional_blocks.0.4.running_var"])
    assert np.array_equal(
        stored["backbone.features.net.layer2.0.down_sample.0.weight"],
        small_ssd300["feature_extractor.feature_extractor.5.0.downsample.0.weight"],
    )


def test_unmatched_names_are_all_listed_and_nothing_is_written(convert, torchvision_resnet18, tmp_path):
    arrays = dict(torchvision_resnet18)
    del arrays["layer4.1.bn2.bias"], arrays["layer1.0.conv1.weight"]
    arrays["layer4.1.se.weight"] = arrays["extra"] = np.ones(3, np.float32)
    code, out, err = convert(arrays)
    assert code == 2 and len(err.splitlines()) == 1
    assert "in.safetensors: 2 PyTorch" in err and "2 MindSpore" in err
    unexpected = next(line for line in out.splitlines() if "layer4.1.se.weight" in line)
    missing = next(line for line in out.splitlines() if "layer1.0.conv1.weight" in line)
    assert sorted(unexpected.strip().split(", ")) == ["extra", "layer4.1.se.weight"]
    assert sorted(missing.strip().split(", ")) == ["layer1.0.conv1.weight", "layer4.1.bn2.beta"]
    assert [path.name for path in tmp_path.iterdir()] == ["in.safetensors"]


def test_values_that_are_not_finite_are_refused(convert, torchvision_resnet18, tmp_path):
    arrays = {**torchvision_resnet18, "bn1.running_var": np.full_like(torchvision_resnet18["bn1.running_var"], np.nan)}
    code, _, err = convert(arrays)
    assert code == 2 and len(err.splitlines()) == 1 and "in.safetensors: bn1.moving_variance: " in err
    assert [path.name for path in tmp_path.iterdir()] == ["in.safetensors"]


@pytest.mark.parametrize(
    "key, value, error",
    [
        ("loss", "focal", "loss: got 'focal', expected 'multibox'"),
        ("backbone_padding", "mindcv", "backbone_padding: got 'mindcv', expected 'torch'"),
        ("clip_default_boxes", "false", "clip_default_boxes: got False, expected True"),
        ("prior_scaling", "[0.1, 0.1]", "prior_scaling: got (0.1, 0.1), expected (0.1, 0.2)"),
    ],
)
def test_recipes_that_compute_another_function_are_refused(key, value, error, convert, small_ssd300, tmp_path):
    code, _, err = convert(small_ssd300, f"--{key}", value)
    assert code == 2 and error in err and len(err.splitlines()) == 1
    assert not (tmp_path / "out.ckpt").exists()


def test_another_number_of_classes_is_refused(convert, small_ssd300, tmp_path):
    code, _, err = convert(small_ssd300, "--num_classes", 4)
    assert code == 2 and len(err.splitlines()) == 1
    assert "conf.0.bias: " in err and "(12,)" in err and "(16,)" in err and "12 mismatched parameters" in err
    assert not (tmp_path / "out.ckpt").exists()


def test_a_checkpoint_that_reads_back_differently_is_refused(convert, torchvision_resnet18, tmp_path, monkeypatch):
    from weight_conversion import conversion

    def read_damaged(path):
        content = read_checkpoint(path)
        damaged = content["bn1.gamma"].asnumpy()
        damaged[5] = np.nextafter(damaged[5], np.float32(2))  # the last bit
        content["bn1.gamma"].set_data(type(content["bn1.gamma"])(damaged))
        return content

    monkeypatch.setattr(conversion, "read_checkpoint", read_damaged)
    code, _, err = convert(torchvision_resnet18)
    assert code == 2 and "'bn1.gamma'" in err and "parameters: 1)" in err
    assert [path.name for path in tmp_path.iterdir()] == ["in.safetensors"]


def test_16_bit_floats_are_widened(tmp_path):
    save_file({"a": np.array([0.1, -2.0], np.float16), "n": np.array(3)}, tmp_path / "half.safetensors")
    arrays = read_state_dict(tmp_path / "half.safetensors").arrays
    assert arrays["a"].dtype == np.float32 and arrays["n"] == 3
    assert np.array_equal(arrays["a"].astype(np.float16), np.array([0.1, -2.0], np.float16))


def test_a_damaged_safetensors_file_is_refused(tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(UserError, match="bad.safetensors: "):
        read_state_dict(tmp_path / "bad.safetensors")


def test_a_pth_file_without_pytorch_names_the_requirements(tmp_path, monkeypatch):
    (tmp_path / "a.pth").write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"a.pth: .*\[torch\]"):
        read_state_dict(tmp_path / "a.pth")


def test_command_in_a_process_of_its_own_refuses_bad_paths(tmp_path):
    def refuse(input_path, output_path):
        command = [sys.executable, "tools/convert_weights.py", "--config", str(RECIPES / "ssd_resnet50.yaml")]
        command += ["--input", str(input_path), "--output", str(output_path)]
        environment = {**os.environ, "PYTHONPATH": ""}
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
        assert result.returncode == 2 and result.stdout == "" and len(result.stderr.splitlines()) == 1, result.stderr
        return result.stderr

    absent, out = tmp_path / "absent.pth", tmp_path / "out.ckpt"
    assert f"{absent}: not found" in refuse(absent, out)
    assert "--output: " in refuse(absent, tmp_path / "out")
    out.write_text("mine")
    error = refuse(absent, out)
    assert f"--output: {out}" in error and "--overwrite" in error
    assert out.read_text() == "mine"
