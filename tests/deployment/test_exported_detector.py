"""Detector: options, providers, and folders whose model does not fit."""

import shutil
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml

from ssd.data.images import read_image_file
from ssd.deployment.detector import Detector, to_model_input
from ssd.deployment.model_metadata import InputInfo, file_sha256
from ssd.deployment.recipe_check import refuse_contradictions
from ssd.errors import UserError


def test_arrays_paths_and_lists(exported, images):
    detector = Detector(exported.folder)
    single, (first, _) = detector(images[0]), detector([images[0], str(images[1])])
    array = detector(read_image_file(images[0]))
    for detections in (first, array):
        np.testing.assert_allclose(detections.boxes_yxyx, single.boxes_yxyx, atol=1e-3)
    assert detector([]) == [] and single.boxes_yxyx.max() > 64  # pixels of the image, not of the input of the model
    assert detector.classes == exported.cfg.classes and detector.image_size == (64, 64)
    assert detector.category_ids[0] == 0 and len(detector.category_ids) == len(detector.classes)


@pytest.mark.parametrize("nms", [False, True])
def test_min_score_can_only_be_raised(nms, export_tiny, images):
    folder = (export_tiny("onnx", nms=True) if nms else export_tiny("onnx")).folder
    everything = Detector(folder)(images[0]).scores
    middle = float(np.median(everything))
    assert Detector(folder, min_score=middle)(images[0]).scores.tolist() == everything[everything >= middle].tolist()
    assert len(Detector(folder, min_score=0.001)(images[0]).scores) == len(everything) > 5


def test_outputs_that_are_not_finite_are_refused(exported, images):
    detector = Detector(exported.folder)
    outputs = detector.run(np.zeros((1, 64, 64, 3), np.uint8))
    detector._session.run = lambda image: (outputs[0] * np.nan, *outputs[1:])
    with pytest.raises(UserError, match="model.onnx: .*NaN"):
        detector(images[0])


def test_float_input_is_normalized():
    info = InputInfo(name="image", layout="NCHW", height=1, width=2, batch_size=None, mean=(1, 2, 3), std=(1, 2, 4))
    pixels = np.array([[[[1, 2, 3], [2, 6, 11]]]], np.uint8)
    assert to_model_input(pixels, info).tolist() == [[[[0, 1]], [[0, 2]], [[0, 2]]]]


def test_a_missing_provider_is_said_aloud(exported, images, caplog, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert len(Detector(exported.folder, provider="cann")(images[0]).scores)
    (record,) = caplog.records
    assert "CANNExecutionProvider" in record.message and "CPU" in record.message
    with pytest.raises(UserError, match="--provider: 'tpu'"):
        Detector(exported.folder, provider="tpu")


def replace_model(source, folder, model):
    """Copy an exported folder, and replace its model and the checksum."""
    shutil.copytree(source, folder)
    onnx.save(model, folder / "model.onnx")
    path = folder / "metadata.yaml"
    values = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**values, "sha256": file_sha256(folder / "model.onnx")}))
    return folder


def test_a_model_of_another_project_is_refused(exported, tmp_path):
    model = onnx.load(exported.folder / "model.onnx")
    model.graph.output[0].name, model.graph.node[-1].name = "detections", "last"
    for node in model.graph.node:
        node.output[:] = ["detections" if name == "boxes" else name for name in node.output]
    with pytest.raises(UserError, match="model.onnx: .*detections"):
        Detector(replace_model(exported.folder, tmp_path / "other", model))


def test_an_unknown_opset_is_refused(exported, tmp_path):
    model = onnx.load(exported.folder / "model.onnx")
    model.opset_import[0].version = 99
    with pytest.raises(UserError, match=r"model.onnx: onnxruntime .*99"):
        Detector(replace_model(exported.folder, tmp_path / "newer", model))


@pytest.mark.parametrize(
    "key, value",
    [("height", 32), ("batch_size", 2), ("layout", "NCHW"), ("name", "pixels"), ("classes", ["background", "a"])],
)
def test_changed_metadata_are_refused(key, value, exported, images, tmp_path):
    model = onnx.load(exported.folder / "model.onnx")
    folder = replace_model(exported.folder, tmp_path / "changed", model)
    values = yaml.safe_load((folder / "metadata.yaml").read_text())
    if key == "classes":
        values.update({key: value, "category_ids": [0, 1]})
    else:
        values["input"][key] = value
    (folder / "metadata.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match=r"metadata.yaml"):
        Detector(folder)(images)


def test_a_recipe_may_not_contradict_the_model(exported):
    metadata = Detector(exported.folder).metadata
    refuse_contradictions(exported.cfg, metadata, exported.folder)
    for key, value in {"image_size": (32, 64), "nms_threshold": 0.4, "classes": ("background", "a")}.items():
        with pytest.raises(UserError, match=rf"{key}: .*metadata.yaml"):
            refuse_contradictions(exported.cfg.model_copy(update={key: value}), metadata, exported.folder)


@pytest.mark.slow
def test_mindspore_is_not_imported(exported, images):
    code = (
        "import sys; from ssd.deployment.detector import Detector; import ssd.deployment.model_prediction; "
        f"Detector({str(exported.folder)!r})({str(images[0])!r}); "
        "print([name for name in ('mindspore', 'mindcv') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")
