"""Checkpoints: saving and loading, and files that do not fit, which change nothing."""

import errno
import logging
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from checkpoint_files import expect_equal, expect_refusal, training_state, write
from ssd.checkpoints import saving
from ssd.checkpoints.loading import load_backbone, load_weights
from ssd.checkpoints.reading import read_checkpoint
from ssd.checkpoints.saving import link_checkpoint, save_checkpoint
from ssd.errors import UserError
from ssd.models.detector import create_detector, to_mixed_precision
from ssd.runtime.log import silence_mindspore_log

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

    monkeypatch.setattr(saving.ms, "save_checkpoint", write_half)
    (tmp_path / "ssd-1.ckpt").write_bytes(b"an earlier file")
    for name in ("ssd-1.ckpt", "ssd-2.ckpt"):
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tiny_detector, tmp_path / name)
    assert (tmp_path / "ssd-1.ckpt").read_bytes() == b"an earlier file"
    assert [path.name for path in tmp_path.iterdir()] == ["ssd-1.ckpt"]


def test_a_full_disk_is_reported_and_changes_nothing(tiny_detector, tmp_path, monkeypatch):
    def fill_disk(net, path, **options):
        Path(path).with_suffix(".tmp").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(UserError) as without_earlier:
        patch.setattr(saving.ms, "save_checkpoint", fill_disk)
        save_checkpoint(tiny_detector, tmp_path / "ssd-1.ckpt")
    assert "--resume" not in str(without_earlier.value) and not list(tmp_path.iterdir())
    save_checkpoint(tiny_detector, tmp_path / "ssd-1.ckpt")
    before = (tmp_path / "ssd-1.ckpt").read_bytes()
    monkeypatch.setattr(saving.ms, "save_checkpoint", fill_disk)
    for name in ("ssd-1.ckpt", "ssd-2.ckpt"):
        with pytest.raises(UserError, match=f"{name}: .*no space left on device.*--resume"):
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


def test_only_messages_of_mindspore_are_silenced(caplog, monkeypatch):
    mindspore_logger = ms.log._get_logger()
    monkeypatch.setattr(mindspore_logger, "propagate", True)  # for caplog
    with silence_mindspore_log():
        ms.log.error("from MindSpore")
        logging.getLogger("own").error("from this project")
    ms.log.error("afterwards")
    assert set(caplog.messages) == {"from this project", "afterwards"}
