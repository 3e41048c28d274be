"""Exported models give the detections of the checkpoint, and no model that differs is written."""

import json

import numpy as np
import onnx
import pytest
import yaml

from ssd.deployment import export as export_module
from ssd.deployment.comparison import load_training_images
from ssd.deployment.detector import Detector
from ssd.deployment.model_metadata import file_sha256
from ssd.errors import UserError
from ssd.inference.predictor import Predictor


@pytest.fixture(scope="module")
def expected(exported, images):
    """Detections of the checkpoint in MindSpore."""
    return Predictor(exported.cfg)(images)


def assert_equal_detections(found, expected):
    """Equal scores may be in any order, so each detection is compared with the nearest one of its label."""
    assert len(found) == len(expected)
    for mine, other in zip(found, expected):
        assert len(mine.scores) == len(other.scores) > 5  # otherwise the test could not fail
        np.testing.assert_allclose(mine.scores, other.scores, atol=1e-5)
        distances = np.abs(mine.boxes_yxyx[:, None] - other.boxes_yxyx).max(axis=2)  # pixels
        is_same = (np.abs(mine.scores[:, None] - other.scores) < 1e-5) & (mine.labels[:, None] == other.labels)
        assert (np.where(is_same, distances, np.inf).min(axis=0) < 1e-2).all()


@pytest.mark.parametrize(
    "model_format, options",
    [
        ("onnx", {}),
        ("onnx", {"nms": True}),
        ("onnx", {"raw_input": True, "batch_size": 3}),
        ("mindir", {"raw_input": True}),
    ],
    ids=str,
)
def test_exported_models_give_the_detections_of_the_checkpoint(model_format, options, export_tiny, images, expected):
    model = export_tiny(model_format, **options)
    detector = Detector(model.folder)
    assert_equal_detections(detector(images), expected)
    assert_equal_detections([detector(images[1])], expected[1:2])
    assert all(0 <= value <= 1e-4 for value in detector.metadata.largest_differences.values())


def test_scores_of_a_softmax_and_drawn_images(export_tiny, images):
    """Without data, drawn images are compared."""
    model = export_tiny("onnx", {"loss": "multibox", "data_dir": "/nowhere"})
    detector = Detector(model.folder)
    assert "drawn" in detector.metadata.compared_images
    assert_equal_detections(detector(images), Predictor(model.cfg)(images))


def test_a_folder_describes_its_model(exported):
    metadata = yaml.safe_load((exported.folder / "metadata.yaml").read_text())
    labels = (exported.folder / "labels.txt").read_text().splitlines()
    assert sorted(path.name for path in exported.folder.iterdir()) == ["labels.txt", "metadata.yaml", "model.onnx"]
    assert metadata["classes"] == ["background", *labels] == list(exported.cfg.classes)
    assert metadata["sha256"] == file_sha256(exported.folder / "model.onnx")
    assert metadata["checkpoint"]["sha256"] == file_sha256(exported.folder.parent / "tiny.ckpt")
    assert metadata["input"]["height"] == 64 and metadata["input"]["batch_size"] is None
    assert metadata["anchors"]["number"] == 336 and len(metadata["anchors"]["sha256"]) == 64
    assert metadata["versions"]["opset"] == "13" and "4 validation images" in metadata["compared_images"]


def test_onnx_models_have_named_inputs_and_outputs(export_tiny):
    def shapes(values):
        return {
            value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values
        }

    graph = onnx.load(export_tiny("onnx", nms=True).folder / "model.onnx").graph
    assert shapes(graph.input) == {"image": ["batch", 64, 64, 3]}
    assert shapes(graph.output) == {"boxes": ["batch", 100, 4], "scores": ["batch", 100], "labels": ["batch", 100]}
    graph = onnx.load(export_tiny("onnx", raw_input=True, batch_size=3).folder / "model.onnx").graph
    assert shapes(graph.input) == {"image": [3, 3, 64, 64]}


def change_weights(detector, image_size):
    weight = detector.backbone.get_parameters().__next__()
    weight.set_data(weight * 1.01)


def test_a_model_that_differs_is_not_written(export_tiny, monkeypatch):
    earlier = export_tiny("onnx", nms=True).folder
    before = {path.name: path.read_bytes() for path in earlier.iterdir()}
    monkeypatch.setattr(export_module, "make_exportable", change_weights)
    with pytest.raises(UserError, match=r"model.onnx: .* above 0.0001"):
        export_tiny("onnx", nms=True, again=True)
    assert {path.name: path.read_bytes() for path in earlier.iterdir()} == before
    assert not list(earlier.parent.glob(".unfinished*"))


def test_a_full_disk_leaves_the_earlier_model(export_tiny, monkeypatch):
    earlier = export_tiny("onnx", nms=True).folder
    before = json.dumps({path.name: path.read_bytes().hex() for path in sorted(earlier.iterdir())})

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_module, "convert_network", fail)
    with pytest.raises(UserError, match=r"onnx: .*no space left"):
        export_tiny("onnx", nms=True, again=True)
    assert json.dumps({path.name: path.read_bytes().hex() for path in sorted(earlier.iterdir())}) == before


def test_other_files_are_not_removed(export_tiny):
    folder = export_tiny("onnx", nms=True).folder
    other = folder / "notes.txt"
    other.write_bytes(b"mine")
    with pytest.raises(UserError, match="notes.txt: "):
        export_tiny("onnx", nms=True, again=True)
    assert other.read_bytes() == b"mine"
    other.unlink()


def test_calibration_images_are_not_augmented(exported):
    augment = exported.cfg.augment.model_copy(update={"zoom_out_prob": 1.0, "flip_prob": 1.0})
    cfg = exported.cfg.model_copy(update={"augment": augment})
    found = {image.tobytes() for image in load_training_images(cfg, 64)}
    assert len(found) == 10 and found == {image.tobytes() for image in load_training_images(exported.cfg, 64)}
