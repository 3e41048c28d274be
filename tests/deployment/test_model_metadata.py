"""metadata.yaml: round trip, and folders that are not complete exported models."""

import hashlib

import pytest
import yaml

from ssd.deployment.model_metadata import ModelMetadata, parse_metadata, read_metadata, write_metadata
from ssd.errors import UserError

MODEL = b"a model"


@pytest.fixture
def values():
    return {
        "name": "tiny",
        "file": "model.onnx",
        "sha256": hashlib.sha256(MODEL).hexdigest(),
        "input": {
            "name": "image",
            "layout": "NHWC",
            "height": 32,
            "width": 64,
            "batch_size": None,
            "mean": [1.0, 2.0, 3.0],
            "std": [4.0, 5.0, 6.0],
        },
        "outputs": "candidates",
        "classes": ["background", "猫"],
        "category_ids": [0, 17],
        "thresholds": {
            "min_score": 0.01,
            "nms": "hard",
            "nms_threshold": 0.6,
            "soft_nms_sigma": 0.5,
            "pre_nms_top_k": 1000,
            "max_detections": 100,
        },
        "anchors": {"number": 3, "sha256": "ab"},
        "checkpoint": {"file": "best.ckpt", "sha256": "cd", "epoch": 2},
        "versions": {"mindspore": "2.10.0"},
        "largest_differences": {"boxes": 1e-6, "scores": 0.0},
        "compared_images": "8 drawn images",
    }


@pytest.fixture
def folder(tmp_path, values):
    write_metadata(tmp_path, ModelMetadata(**values))
    (tmp_path / "model.onnx").write_bytes(MODEL)
    return tmp_path


def test_read_inverts_write(folder, values):
    assert read_metadata(folder) == ModelMetadata(**values)
    assert (folder / "labels.txt").read_text(encoding="utf-8") == "猫\n"


@pytest.mark.parametrize(
    "key, value",
    [
        ("format", 2),
        ("input.height", 0),
        ("input.layout", "CHW"),
        ("thresholds.nms_threshold", "high"),
        ("classes", ["background"]),
        ("category_ids", [0]),
        ("colour", "red"),
        ("sha256", None),
    ],
)
def test_an_invalid_key_is_named(key, value, values, tmp_path):
    section, _, name = key.rpartition(".")
    (values[section] if section else values)[name] = value
    with pytest.raises(UserError, match=rf"metadata.yaml: {key}: "):
        parse_metadata(values, tmp_path / "metadata.yaml")


def test_a_missing_key_is_named(values, tmp_path):
    del values["classes"]
    with pytest.raises(UserError, match="classes"):
        parse_metadata(values, tmp_path / "metadata.yaml")


@pytest.mark.parametrize(
    "text", ["", "- 1\n", "a: [", "just text", "\x00", "a: 2026-99-99", "a: !!bool x", "[" * 10_000]
)
def test_a_file_without_keys_is_refused(text, folder):
    (folder / "metadata.yaml").write_text(text)
    with pytest.raises(UserError, match="metadata.yaml: "):
        read_metadata(folder)


def test_a_folder_without_metadata_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match="--model: .*metadata.yaml"):
            read_metadata(folder)


def test_another_model_file_is_refused(folder):
    (folder / "model.onnx").write_bytes(b"another model")
    with pytest.raises(UserError, match="model.onnx: .*SHA-256"):
        read_metadata(folder)
    (folder / "model.onnx").unlink()
    with pytest.raises(UserError, match="model.onnx: "):
        read_metadata(folder)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_a_name_that_no_file_can_have_is_refused(name, folder, values):
    (folder / "metadata.yaml").write_text(yaml.safe_dump({**values, "file": name}))
    with pytest.raises(UserError, match=": not found"):
        read_metadata(folder)


def test_a_model_outside_the_folder_is_refused(folder, values):
    text = yaml.safe_dump({**values, "file": "../model.onnx"})
    (folder / "metadata.yaml").write_text(text)
    with pytest.raises(UserError, match="file: '../model.onnx'"):
        read_metadata(folder)
